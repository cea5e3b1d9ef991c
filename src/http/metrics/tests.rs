//! Names and values of metrics.

use super::*;
use crate::{cluster::Versions, storage::Sizes, types::ClusterId};

fn metrics() -> Metrics {
    let identity = Identity { cluster: ClusterId(1), member: MemberId(0xabc) };
    Metrics::new(identity, Registry::default())
}

fn facts() -> Facts {
    let status = Status {
        leader: Some(MemberId(0xabc)),
        term: 3,
        committed_index: 40,
        applied_index: 39,
        is_learner: false,
        sizes: Sizes { on_disk: 4096, in_use: 1024 },
        quota_bytes: 2_147_483_648,
        versions: Versions { cluster: Version::parse("3.7"), downgrade: None },
        alarms: Arc::default(),
    };
    Facts {
        status,
        defragmentations: 1,
        is_leader: true,
        revision: Revision::from_wire(17),
        floor: None,
        auth_revision: Some(3),
    }
}

async fn page(metrics: &Metrics, accept: Option<&'static str>) -> (String, String) {
    let accept = accept.map(HeaderValue::from_static);
    let response = metrics.render(&facts(), accept.as_ref());
    let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (content_type, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn names_and_values_are_etcds() {
    let metrics = metrics();
    let (content_type, page) = page(&metrics, None).await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_is_learner 0",
        "# TYPE etcd_server_leader_changes_seen_total counter",
        "etcd_server_leader_changes_seen_total 0",
        "# TYPE etcd_server_proposals_committed_total gauge",
        "etcd_server_proposals_committed_total 40",
        "etcd_server_proposals_applied_total 39",
        "etcd_server_version{server_version=\"3.7.0\"} 1",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "etcd_server_id{server_id=\"abc\"} 1",
        "etcd_server_quota_backend_bytes 2147483648",
        "etcd_mvcc_db_total_size_in_bytes 4096",
        "etcd_mvcc_db_total_size_in_use_in_bytes 1024",
        "etcd_debugging_mvcc_current_revision 17",
        "etcd_disk_defrag_inflight 1",
        "# TYPE etcd_server_health_success counter",
        "etcd_server_health_success 0",
        "etcd_server_health_failures 0",
        "# TYPE etcd_disk_backend_defrag_duration_seconds histogram",
        "etcd_debugging_mvcc_compact_revision -1",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\n{page}");
    }
    for name in ["process_cpu_seconds_total ", "process_open_fds ", "process_start_time_seconds "] {
        assert!(page.lines().any(|it| it.starts_with(name)), "{name}\n{page}");
    }
    assert!(!page.contains("EOF"));
}

#[tokio::test]
async fn a_scraper_that_asks_for_openmetrics_gets_it() {
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (content_type, page) = page(&metrics(), Some(accept)).await;
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.contains("# TYPE etcd_server_leader_changes_seen counter\n"));
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_leader_found_is_a_leader_change_and_a_leader_lost_is_none() {
    let metrics = metrics();
    let (sender, receiver) = watch::channel(None);
    let counting = metrics.count_leader_changes(receiver);
    let announcing = async move {
        for leader in [Some(1), None, Some(1), Some(2), None, Some(1)] {
            sender.send(leader.map(MemberId)).unwrap();
            tokio::task::yield_now().await;
        }
    };
    // In this order each time, unlike tokio's, so that no change is overtaken by the next.
    futures::join!(counting, announcing);
    assert_eq!(metrics.leader_changes.get(), 4);
}
