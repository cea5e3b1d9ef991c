//! Traces: real members send them by OTLP to a collector, which looks at what it gets.

#[path = "traces/collector.rs"]
mod collector;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the tests of clusters use the rest")]
mod members;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use orrery::proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, kv_client::KvClient,
};
use tokio::net::{TcpListener, TcpSocket};
use tonic::transport::Channel;

use collector::{Collector, Found};
use members::{Cluster, Setup};

/// The caller of the specification's example.
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const CALLER: u64 = 0xb7ad_6b71_6920_3331;

/// Every trace.
const ALL: u32 = 1_000_000;

/// As long as a collector must not make anybody wait.
const LONG: Duration = Duration::from_secs(5);

fn flags(collector: SocketAddr, rate: u32) -> Vec<String> {
    vec![
        "--enable-distributed-tracing".to_owned(),
        format!("--distributed-tracing-address={collector}"),
        "--distributed-tracing-instance-id=one-of-us".to_owned(),
        format!("--distributed-tracing-sampling-rate={rate}"),
    ]
}

/// A cluster that sends its traces there; of those that nobody else decides on, this part.
async fn traced(size: usize, collector: SocketAddr, rate: u32, pause: Duration) -> Cluster {
    let mut setup = Setup::new(size);
    setup.flags = flags(collector, rate);
    // OpenTelemetry's own variable, which etcd's exporter heeds too.
    setup.environment = vec![("OTEL_BSP_SCHEDULE_DELAY".to_owned(), pause.as_millis().to_string())];
    setup.start().await
}

async fn kv(cluster: &Cluster, at: usize) -> KvClient<Channel> {
    KvClient::connect(cluster.endpoint(at)).await.unwrap()
}

/// A request whose caller has a trace, or does not record it.
fn called<T>(message: T, trace: u128, is_sampled: bool) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let flags = u8::from(is_sampled);
    let caller = format!("00-{trace:032x}-{CALLER:016x}-{flags:02x}");
    request.metadata_mut().insert("traceparent", caller.parse().unwrap());
    request
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: "value".to_owned().into(),
        ..Default::default()
    }
}

#[track_caller]
fn check_kinds(expected: &[(&Found, SpanKind)]) {
    for (found, kind) in expected {
        assert_eq!(found.kind(), *kind, "{}", found.name());
    }
}

/// None begins before its parent, in another process or not.
#[track_caller]
fn check_order(chain: &[&Found]) {
    for pair in chain.windows(2) {
        let (before, after) = (pair[0].times(), pair[1].times());
        assert!(before.0 <= after.0, "{} after {}", pair[0].name(), pair[1].name());
        assert!(after.0 <= after.1, "{} ends before it begins", pair[1].name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_at_a_follower_is_one_trace_over_both_members() {
    let (collector, address) = Collector::start().await;
    let cluster = traced(3, address, 0, Duration::from_millis(20)).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut kv = kv(&cluster, follower).await;
    let response: PutResponse =
        kv.put(called(put("one key"), TRACE, true)).await.unwrap().into_inner();
    assert!(response.header.is_some());

    let (here, there) = (format!("m{follower}"), format!("m{leader}"));
    let caller = CALLER.to_be_bytes().to_vec();
    let call = collector.child(&here, "etcdserverpb.KV/Put", caller).await;
    let proposal = collector.child(&here, "put", call.id()).await;
    let answer = collector.child(&here, "answer", call.id()).await;
    let propose = collector.named(&there, "propose").await;
    let forward = collector.parent(&propose).await;
    assert_eq!((forward.name(), forward.member()), ("forward", here.as_str()));
    assert_eq!(forward.parent(), proposal.id());
    let append = collector.child(&there, "append", propose.id()).await;
    let apply = collector.child(&there, "apply", append.id()).await;
    let replicate = collector
        .first("replicate to the follower with its append".to_owned(), |it| {
            let sends_here = |other: &Found| {
                other.name() == "append" && other.member() == here && other.parent() == it.id()
            };
            it.name() == "replicate"
                && it.parent() == append.id()
                && collector.all().iter().any(sends_here)
        })
        .await;
    let append_here = collector.child(&here, "append", replicate.id()).await;
    let apply_here = collector.child(&here, "apply", append_here.id()).await;

    assert_eq!(collector.traces(), [TRACE.to_be_bytes().to_vec()].into());
    check_kinds(&[
        (&call, SpanKind::Server),
        (&proposal, SpanKind::Internal),
        (&answer, SpanKind::Internal),
        (&forward, SpanKind::Client),
        (&propose, SpanKind::Server),
        (&append, SpanKind::Internal),
        (&apply, SpanKind::Internal),
        (&replicate, SpanKind::Client),
        (&append_here, SpanKind::Server),
        (&apply_here, SpanKind::Internal),
    ]);
    check_order(&[&call, &proposal, &forward, &propose, &append, &apply]);
    check_order(&[&append, &replicate, &append_here, &apply_here, &answer]);
    assert!(apply_here.times().1 <= proposal.times().1, "who is answered finds its write");
    assert!(answer.times().1 <= call.times().1);
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "etcdserverpb.KV/Put"),
        ("rpc.response.status_code", "OK"),
    ] {
        assert_eq!(call.attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(proposal.attributes["key"], "one key");
    assert_eq!(append.attributes["raft.index"], append_here.attributes["raft.index"]);
    assert_eq!(call.resource["service.name"], "etcd");
    assert_eq!(call.resource["service.instance.id"], "one-of-us");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_at_a_follower_shows_the_leader_asked() {
    let (collector, address) = Collector::start().await;
    let cluster = traced(3, address, 0, Duration::from_millis(20)).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut kv = kv(&cluster, follower).await;
    let range = RangeRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
    let _: RangeResponse = kv.range(called(range, TRACE, true)).await.unwrap().into_inner();

    let (here, there) = (format!("m{follower}"), format!("m{leader}"));
    let call = CALLER.to_be_bytes().to_vec();
    let call = collector.child(&here, "etcdserverpb.KV/Range", call).await;
    let range = collector.child(&here, "range", call.id()).await;
    let asking = collector.child(&here, "read_index", range.id()).await;
    let asked = collector.child(&there, "read_index", asking.id()).await;
    let waiting = collector.child(&here, "wait_applied", range.id()).await;
    assert_eq!(asked.kind(), SpanKind::Server);
    check_order(&[&call, &range, &asking, &asked]);
    check_order(&[&asking, &waiting]);
    assert_eq!((&*range.attributes["range_begin"], &*range.attributes["range_end"]), ("a", "b"));
    assert_eq!(collector.traces(), [TRACE.to_be_bytes().to_vec()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_sends_no_traces_passes_them_on() {
    let (collector, address) = Collector::start().await;
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    cluster.stop(follower).await;
    let flags = flags(address, 0);
    cluster.set_flags(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.restart(&[follower]).await.unwrap();
    assert_eq!(cluster.leader().await, leader);
    let mut kv = kv(&cluster, follower).await;
    kv.put(called(put("key"), TRACE, true)).await.unwrap();
    cluster.stop(follower).await;

    let here = format!("m{follower}");
    let call = CALLER.to_be_bytes().to_vec();
    let call = collector.child(&here, "etcdserverpb.KV/Put", call).await;
    let proposal = collector.child(&here, "put", call.id()).await;
    let append = collector.named(&here, "append").await;
    let forward = collector.parent(&append).await;
    assert_eq!((forward.name(), forward.parent()), ("forward", proposal.id()));
    collector.child(&here, "apply", append.id()).await;
    assert_eq!(append.kind(), SpanKind::Server);
    assert!(collector.all().iter().all(|it| it.member() == here));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rate_zero_only_callers_begin_traces() {
    let (collector, address) = Collector::start().await;
    let mut cluster = traced(1, address, 0, Duration::from_millis(20)).await;
    let mut kv = kv(&cluster, 0).await;
    for number in 0..20 {
        kv.put(put("nobody's")).await.unwrap();
        kv.put(called(put("not recorded"), number + 1, false)).await.unwrap();
    }
    kv.put(called(put("recorded"), TRACE, true)).await.unwrap();
    // With the end of the member everything that it would ever send is there.
    cluster.stop(0).await;
    assert_eq!(collector.traces(), [TRACE.to_be_bytes().to_vec()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_full_rate_each_request_begins_a_trace_and_a_stop_sends_the_last() {
    let (collector, address) = Collector::start().await;
    let mut cluster = traced(1, address, ALL, Duration::from_secs(3600)).await;
    let mut kv = kv(&cluster, 0).await;
    for _ in 0..10 {
        kv.put(put("key")).await.unwrap();
    }
    kv.put(put("")).await.expect_err("a put needs a key");
    assert!(collector.all().is_empty(), "it is not time to send anything");
    cluster.stop(0).await;
    assert!(!cluster.log(0).contains("otel."), "spans are none of the log's business");
    let calls: Vec<Found> =
        collector.all().into_iter().filter(|it| it.name() == "etcdserverpb.KV/Put").collect();
    assert_eq!(calls.len(), 11);
    assert!(calls.iter().all(|call| call.parent().is_empty()));
    let refused = |call: &&Found| call.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT";
    assert_eq!(calls.iter().filter(refused).count(), 1);
    let mut traces: Vec<_> = calls.iter().map(Found::trace).collect();
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), 11);
}

/// More spans than the queue holds, so that some must be dropped.
const MANY_PUTS: usize = 800;

async fn check_costs_nothing(collector: SocketAddr) -> Cluster {
    let mut cluster = traced(1, collector, ALL, Duration::from_millis(20)).await;
    let mut kv = kv(&cluster, 0).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..MANY_PUTS {
        let begin = Instant::now();
        kv.put(put("key")).await.unwrap();
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < LONG, "a put took {slowest:?}");
    let begin = Instant::now();
    cluster.stop(0).await;
    assert!(begin.elapsed() < LONG, "the stop took {:?}", begin.elapsed());
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_costs_no_request() {
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let cluster = check_costs_nothing(nobody.local_addr().unwrap()).await;
    assert_eq!(cluster.log(0).matches("traces cannot be sent").count(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_no_request() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    check_costs_nothing(mute.local_addr().unwrap()).await;
}
