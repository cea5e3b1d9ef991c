//! Pages, and what flags make of them.

use std::net::SocketAddr;

use super::{
    each,
    http::{Answer, Request, ask},
    one_of_ours,
};

async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers = headers.collect();
    let request = Request { method: "GET", path, headers, body: "", lines: usize::MAX };
    ask(address, &request).await
}

/// A port that nobody had a moment ago.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_gateway_can_be_switched_off() {
    for cluster in each(&["--enable-grpc-gateway=false"]).await {
        let answer = get(cluster.client_address(0), "/v3/kv/range", &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
    }
}

#[tokio::test]
async fn origins_and_hosts_are_those_of_the_flags() {
    let flags = ["--cors=http://a.b:80", "--host-whitelist=127.0.0.1"];
    for cluster in each(&flags).await {
        let address = cluster.client_address(0);
        let allowed = get(address, "/version", &[("Origin", "http://a.b:80")]).await;
        assert_eq!(allowed.header("access-control-allow-origin"), Some("http://a.b:80"));
        let methods = allowed.header("access-control-allow-methods");
        assert_eq!(methods, Some("POST, GET, OPTIONS, PUT, DELETE"));
        let headers = allowed.header("access-control-allow-headers");
        assert_eq!(headers, Some("accept, content-type, authorization"));
        let other = get(address, "/version", &[("Origin", "http://c.d:80")]).await;
        assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    }
}

/// The first of two Host headers is not the one that the client of these tests sends, so this one
/// comes by its own address.
#[tokio::test]
async fn a_host_that_is_not_listed_is_told_how_it_could_be() {
    let mut pages = Vec::new();
    for cluster in each(&["--host-whitelist=example.com"]).await {
        let answer = get(cluster.client_address(0), "/version", &[]).await;
        assert_eq!(answer.status, 421);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        pages.push(answer.body);
    }
    assert!(pages[0].contains(r#"etcd --host-whitelist "127.0.0.1""#), "{}", pages[0]);
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:#?}");
}

#[tokio::test]
async fn pages_move_to_listeners_of_their_own() {
    let (pages, metrics) = (free_address(), free_address());
    let flags = [
        &format!("--listen-client-http-urls=http://{pages}"),
        &format!("--listen-metrics-urls=http://{metrics}"),
    ];
    let cluster = one_of_ours(&flags.map(String::as_str)).await;
    let version = get(pages, "/version", &[]).await;
    assert_eq!(version.status, 200);
    assert_eq!(get(pages, "/v3/kv/range", &[]).await.status, 501);
    assert_eq!(get(cluster.client_address(0), "/version", &[]).await.status, 404);
    for (path, status) in [
        ("/metrics", 200),
        ("/health", 200),
        ("/livez", 200),
        ("/readyz/linearizable_read", 200),
        ("/version", 404),
        ("/v3/kv/range", 404),
    ] {
        assert_eq!(get(metrics, path, &[]).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn what_can_be_debugged_is_told() {
    let cluster = one_of_ours(&["--enable-pprof"]).await;
    let address = cluster.client_address(0);
    assert!(get(address, "/debug/pprof/", &[]).await.body.contains("perf record"));
    assert!(get(address, "/debug/pprof/cmdline", &[]).await.body.contains("--enable-pprof"));
    let threads = get(address, "/debug/pprof/threadcreate", &[]).await.body;
    assert!(threads.starts_with("threads: total ") && threads.contains("tokio"), "{threads}");
    assert_eq!(get(address, "/debug/pprof/heap", &[]).await.status, 501);
    let variables = get(address, "/debug/vars", &[]).await;
    assert_eq!(variables.header("content-type"), Some("application/json; charset=utf-8"));
    let variables: serde_json::Value = serde_json::from_str(&variables.body).unwrap();
    assert_eq!(variables["raft.status"]["raftState"], "StateLeader", "{variables}");
    assert!(variables["cmdline"].as_array().unwrap().len() > 3, "{variables}");
    assert!(variables["file_descriptor_limit"].as_f64().unwrap() > 0.0, "{variables}");
}
