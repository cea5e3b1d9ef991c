//! What `/metrics` shows, name by name, beside what etcd shows, and that the numbers are true.

#[path = "gateway/http.rs"]
mod http;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use members::{Cluster, Setup};

/// What etcd shows and this server does not, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("etcd_server_go_version", "this server is not written in Go"),
    ("etcd_debugging_mvcc_keys_total", "the index is on disk, and nobody counts its keys"),
    ("etcd_debugging_mvcc_pending_events_total", "queues hold batches and are bounded by bytes"),
    ("etcd_debugging_store_reads_total", "of etcd's first store, which does not exist here"),
    ("etcd_debugging_store_writes_total", "of etcd's first store, which does not exist here"),
    ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", SEND_LOOP),
    ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", SEND_LOOP),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", SEND_LOOP),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", SEND_LOOP),
];

const SEND_LOOP: &str = "responses are made when the connection takes them; there is no such loop";

/// Parts of the server that are not there yet: their metrics may be missing.
const NOT_YET: &[&str] = &[
    "etcd_debugging_auth_revision",
    "etcd_debugging_server_alarms",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_server_feature_enabled",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
];

/// A page of metrics, read.
#[derive(Default)]
struct Page {
    /// By family.
    families: BTreeMap<String, Family>,
    /// By name with labels.
    samples: BTreeMap<String, f64>,
}

#[derive(Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    /// In their order.
    bounds: Vec<String>,
}

impl Page {
    fn read(text: &str) -> Page {
        let mut page = Page::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                page.families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else if !line.starts_with('#') {
                page.sample(line);
            }
        }
        page
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        self.samples.insert(series.to_owned(), value.parse().unwrap());
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let part = ["_bucket", "_sum", "_count"];
        let whole = part.iter().find_map(|part| name.strip_suffix(part));
        let whole = whole.filter(|whole| self.families.contains_key(*whole)).unwrap_or(name);
        let family = self.families.entry(whole.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",") {
            match label.split_once("=\"") {
                Some(("le", bound)) => {
                    let bound = bound.trim_end_matches('"').to_owned();
                    if !family.bounds.contains(&bound) {
                        family.bounds.push(bound);
                    }
                }
                Some((label, _)) => drop(family.labels.insert(label.to_owned())),
                None => {}
            }
        }
    }

    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} is not there"))
    }
}

impl Family {
    /// As a line of the golden list has it.
    fn line(&self, name: &str) -> String {
        let mut line = format!("{name} {}", self.kind);
        if !self.labels.is_empty() {
            let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
            line += &format!(" {{{}}}", labels.join(","));
        }
        if let [first, .., last, _] = self.bounds.as_slice() {
            line += &format!(" {first}..{last} {}", self.bounds.len());
        }
        line
    }
}

async fn scrape(address: SocketAddr) -> String {
    let request = http::Request {
        method: "GET",
        path: "/metrics",
        headers: Vec::new(),
        body: "",
        lines: usize::MAX,
    };
    let answer = http::ask(address, &request).await;
    assert_eq!(answer.status, 200);
    answer.body
}

async fn pages(cluster: &Cluster) -> Vec<Page> {
    let mut pages = Vec::new();
    for member in cluster.indices() {
        pages.push(Page::read(&scrape(cluster.client_address(member)).await));
    }
    pages
}

/// A little of everything, so that what appears with its first use is there.
async fn traffic(cluster: &Cluster, member: usize) {
    let mut client = cluster.client(member).await;
    for key in 0..10 {
        client.put(format!("key{key}"), "value", None).await.unwrap();
    }
    client.get("key1", None).await.unwrap();
    client.delete("key2", None).await.unwrap();
    let txn = Txn::new().when([Compare::version("key3", CompareOp::Greater, 0)]).and_then([
        TxnOp::put("a", "b", None),
        TxnOp::put("c", "d", None),
        TxnOp::get("a", None),
    ]);
    client.txn(txn).await.unwrap();
    let lease = client.lease_grant(100, None).await.unwrap().id();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    kept.message().await.unwrap().unwrap();
    client.lease_revoke(lease).await.unwrap();
    let mut watch = client.watch("key", None).await.unwrap();
    client.put("key", "value", None).await.unwrap();
    while watch.message().await.unwrap().unwrap().events().is_empty() {}
    client.compact(5, None).await.unwrap();
    assert!(client.compact(500, None).await.is_err());
}

#[tokio::test]
async fn every_metric_of_etcd_is_there_by_its_name_type_labels_and_buckets() {
    let mut setup = Setup::new(3);
    setup.flags.push("--metrics=extensive".to_owned());
    let cluster = setup.start().await;
    for member in cluster.indices() {
        traffic(&cluster, member).await;
    }
    let mut ours: BTreeMap<String, Family> = BTreeMap::new();
    for page in pages(&cluster).await {
        for (name, family) in page.families {
            let known = ours.entry(name).or_default();
            known.labels.extend(family.labels);
            known.kind = family.kind;
            if known.bounds.is_empty() {
                known.bounds = family.bounds;
            }
        }
    }
    let golden = include_str!("golden/metrics.txt");
    let mut problems = Vec::new();
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(' ').next().unwrap();
        let excepted = EXCEPTIONS.iter().any(|(excepted, _)| *excepted == name);
        match ours.remove(name) {
            Some(_) if excepted => problems.push(format!("{name} is there, no exception")),
            Some(family) if family.line(name) == line => {}
            // Nothing has happened that it counts, so its labels do not show.
            Some(family) if family.labels.is_empty() && line.contains('{') => {
                if !line.starts_with(&family.line(name)) {
                    problems.push(format!("etcd: {line}, here: {}", family.line(name)));
                }
            }
            Some(family) => problems.push(format!("etcd: {line}, here: {}", family.line(name))),
            None if excepted || NOT_YET.contains(&name) => {}
            None => problems.push(format!("missing: {line}")),
        }
    }
    let unknown = ours.keys().filter(|name| name.starts_with("etcd_"));
    problems.extend(unknown.map(|name| format!("etcd has no {name}")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn the_numbers_are_those_of_what_happened() {
    let cluster = Cluster::start(1).await;
    let before = pages(&cluster).await.swap_remove(0);
    traffic(&cluster, 0).await;
    let after = pages(&cluster).await.swap_remove(0);
    let more = |series: &str| after.value(series) - before.samples.get(series).unwrap_or(&0.0);
    for (series, expected) in [
        ("etcd_mvcc_put_total", 13.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_mvcc_txn_total", 1.0),
        ("etcd_mvcc_range_total", 2.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_revoked_total", 1.0),
        ("etcd_debugging_lease_renewed_total", 1.0),
        ("etcd_debugging_lease_ttl_total_sum", 100.0),
        ("etcd_debugging_mvcc_events_total", 1.0),
        (r#"etcd_server_apply_duration_seconds_count{version="v3",op="Put",success="true"}"#, 11.0),
        (
            r#"etcd_server_apply_duration_seconds_count{version="v3",op="Compaction",success="false"}"#,
            1.0,
        ),
        (r#"etcd_server_request_duration_seconds_count{type="Txn",success="true"}"#, 1.0),
        (r#"etcd_server_range_duration_seconds_count{success="true"}"#, 1.0),
        (
            r#"grpc_server_handled_total{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Compact",grpc_code="OutOfRange"}"#,
            1.0,
        ),
    ] {
        assert_eq!(more(series), expected, "{series}");
    }
    let syncs = more("etcd_disk_wal_fsync_duration_seconds_count");
    assert!((10.0..1000.0).contains(&syncs), "{syncs} syncs of 15 entries, one after the other");
    assert!(more("etcd_disk_wal_write_bytes_total") > 500.0);
    assert!(more("etcd_disk_backend_commit_duration_seconds_count") >= 10.0);
    assert!(after.value("etcd_debugging_mvcc_db_compaction_keys_total") >= 0.0);
    assert!(
        more(r#"etcd_server_client_requests_total{type="unary",client_api_version="unknown"}"#)
            > 10.0
    );
}

#[tokio::test]
async fn members_are_counted_with_what_goes_between_them() {
    let cluster = Cluster::start(3).await;
    traffic(&cluster, 0).await;
    for page in pages(&cluster).await {
        let count = |name: &str| {
            page.samples
                .iter()
                .filter(|(series, value)| series.starts_with(name) && **value > 0.0)
                .count()
        };
        assert_eq!(count("etcd_network_known_peers{"), 3);
        assert_eq!(count("etcd_network_active_peers{"), 2);
        assert_eq!(count("etcd_network_peer_sent_bytes_total{"), 2);
        assert_eq!(count("etcd_network_peer_received_bytes_total{"), 2);
        assert!(count("etcd_network_peer_round_trip_time_seconds_count{") > 0);
    }
}

#[tokio::test]
async fn openmetrics_shows_the_same_names() {
    let cluster = Cluster::start(1).await;
    let request = http::Request {
        method: "GET",
        path: "/metrics",
        headers: vec![("Accept".to_owned(), "application/openmetrics-text".to_owned())],
        body: "",
        lines: usize::MAX,
    };
    let answer = http::ask(cluster.client_address(0), &request).await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text;"));
    assert!(answer.body.ends_with("# EOF\n"));
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&answer.body), names(&scrape(cluster.client_address(0)).await));
}
