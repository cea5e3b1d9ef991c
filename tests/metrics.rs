//! What `/metrics` shows, name by name, beside what etcd shows, and that the numbers are true.

#[path = "gateway/http.rs"]
mod http;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;
#[path = "gateway/peers.rs"]
mod peers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use etcd_client::{AlarmAction, AlarmType, Compare, CompareOp, MemberAddOptions, Txn, TxnOp};
use members::{Cluster, Setup};

/// What etcd shows and this server does not, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("etcd_server_go_version", "this server is not written in Go"),
    ("etcd_debugging_mvcc_keys_total", "to count them takes as long as there are keys"),
    ("etcd_debugging_store_reads_total", "of etcd's first store, which does not exist here"),
    ("etcd_debugging_store_writes_total", "of etcd's first store, which does not exist here"),
];

/// Appear when it happens, which is not made to happen here.
const UNSEEN: &[&str] = &[
    "etcd_network_server_stream_failures_total",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_inflights_total",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_total_duration_seconds",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_inflights_total",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_total_duration_seconds",
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
        self.samples.insert(sorted(series), value.parse().unwrap());
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
        *self.samples.get(&sorted(series)).unwrap_or_else(|| panic!("{series} is not there"))
    }
}

/// With its labels in order.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let mut labels: Vec<&str> =
        labels.trim_end_matches("\"}").split("\",").filter(|label| !label.is_empty()).collect();
    labels.sort_unstable();
    format!("{name}{{{}\"}}", labels.join("\","))
}

impl Family {
    /// As a line of the golden list has it.
    fn line(&self, name: &str) -> String {
        let mut line = format!("{name} {}", self.kind);
        if !self.labels.is_empty() {
            let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
            line += &format!(" {{{}}}", labels.join(","));
        }
        if let [first, .., last, end] = self.bounds.as_slice() {
            assert_eq!(end, "+Inf", "{name}");
            line += &format!(" {first}..{last} {}", self.bounds.len());
        }
        line
    }
}

async fn scrape(address: SocketAddr) -> String {
    ask(address, "/metrics").await
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let request =
        http::Request { method: "GET", path, headers: Vec::new(), body: "", lines: usize::MAX };
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

/// What three members show together after some traffic.
async fn families_of(binary: PathBuf) -> BTreeMap<String, Family> {
    let mut setup = Setup::new(3);
    setup.binary = binary;
    setup.flags.push("--metrics=extensive".to_owned());
    let cluster = setup.start().await;
    for member in cluster.indices() {
        traffic(&cluster, member).await;
        for page in ["/health", "/livez", "/readyz"] {
            ask(cluster.client_address(member), page).await;
        }
    }
    seldom(&cluster).await;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for page in pages(&cluster).await {
        for (name, family) in page.families {
            let known = families.entry(name).or_default();
            known.labels.extend(family.labels);
            known.kind = family.kind;
            if known.bounds.is_empty() {
                known.bounds = family.bounds;
            }
        }
    }
    families
}

/// What has no series before it happens.
async fn seldom(cluster: &Cluster) {
    let mut client = cluster.client(0).await;
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await.unwrap();
    let learner = MemberAddOptions::new().with_is_learner();
    // Refused until the members have known each other for a while.
    let added = loop {
        let urls = ["http://127.0.0.1:1"];
        match client.member_add(urls, Some(learner.clone())).await {
            Ok(added) => break added,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let learner = added.member().unwrap().id();
    assert!(client.member_promote(learner).await.is_err());
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
    let put = client.put("key", "value", None).await.unwrap();
    while watch.message().await.unwrap().unwrap().events().is_empty() {}
    client.compact(put.header().unwrap().revision() - 1, None).await.unwrap();
    assert!(client.compact(500, None).await.is_err());
}

#[tokio::test]
async fn every_metric_of_etcd_is_there_by_its_name_type_labels_and_buckets() {
    let mut ours = families_of(members::server_under_test()).await;
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
            None if excepted || UNSEEN.contains(&name) => {}
            None => problems.push(format!("missing: {line}")),
        }
    }
    let unknown = ours.keys().filter(|name| name.starts_with("etcd_"));
    problems.extend(unknown.map(|name| format!("etcd has no {name}")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn the_list_is_etcds() {
    let Some(etcd) = peers::etcd() else {
        return peers::announce("SKIPPED the list of metrics on etcd: there is none (make peers)");
    };
    let golden = include_str!("golden/metrics.txt");
    let golden: BTreeMap<&str, &str> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| (line.split(' ').next().unwrap(), line))
        .collect();
    let mut problems = Vec::new();
    for (name, family) in families_of(etcd).await {
        let is_of_the_runtime = ["go_", "promhttp_"].iter().any(|it| name.starts_with(it));
        let line = family.line(&name);
        match golden.get(name.as_str()) {
            _ if is_of_the_runtime => {}
            Some(known) if known.starts_with(&line) => {}
            known => problems.push(format!("etcd: {line}, here: {known:?}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What the traffic adds to a single member's numbers.
const COUNTED: &[(&str, f64)] = &[
    ("etcd_mvcc_put_total", 13.0),
    ("etcd_mvcc_delete_total", 1.0),
    ("etcd_mvcc_txn_total", 1.0),
    ("etcd_debugging_lease_granted_total", 1.0),
    ("etcd_debugging_lease_revoked_total", 1.0),
    // One of them when the stream was opened.
    ("etcd_debugging_lease_renewed_total", 2.0),
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
];

/// etcd counts comparisons of transactions as ranges, too.
const COUNTED_HERE: &[(&str, f64)] = &[("etcd_mvcc_range_total", 2.0)];

#[tokio::test]
async fn the_numbers_are_those_of_what_happened() {
    let (before, after) = around_traffic(&Cluster::start(1).await).await;
    let more = |series: &str| more(&before, &after, series);
    for (series, expected) in COUNTED.iter().chain(COUNTED_HERE) {
        assert_eq!(more(series), *expected, "{series}");
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
async fn the_numbers_are_etcds() {
    let Some(etcd) = peers::etcd() else {
        return peers::announce("SKIPPED the numbers of etcd: there is none (make peers)");
    };
    let mut setup = Setup::new(1);
    setup.binary = etcd;
    let (before, after) = around_traffic(&setup.start().await).await;
    for (series, expected) in COUNTED {
        assert_eq!(more(&before, &after, series), *expected, "{series}");
    }
}

async fn around_traffic(cluster: &Cluster) -> (Page, Page) {
    let before = pages(cluster).await.swap_remove(0);
    traffic(cluster, 0).await;
    (before, pages(cluster).await.swap_remove(0))
}

fn more(before: &Page, after: &Page, series: &str) -> f64 {
    after.value(series) - before.samples.get(&sorted(series)).unwrap_or(&0.0)
}

#[tokio::test]
async fn members_are_counted_with_what_goes_between_them() {
    let cluster = Cluster::start(3).await;
    traffic(&cluster, 0).await;
    for member in cluster.indices() {
        let address = cluster.client_address(member);
        // Those who have nothing else to say to each other ask for a sign of life now and then.
        let page = loop {
            let page = Page::read(&scrape(address).await);
            if count(&page, "etcd_network_peer_round_trip_time_seconds_count{") == 2 {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let count = |name: &str| count(&page, name);
        assert_eq!(count("etcd_network_known_peers{"), 3);
        assert_eq!(count("etcd_network_active_peers{"), 2);
        assert_eq!(count("etcd_network_peer_sent_bytes_total{"), 2);
        assert_eq!(count("etcd_network_peer_received_bytes_total{"), 2);
    }
}

/// Series of a name that are more than zero.
fn count(page: &Page, name: &str) -> usize {
    let samples = page.samples.iter();
    samples.filter(|(series, value)| series.starts_with(name) && **value > 0.0).count()
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
