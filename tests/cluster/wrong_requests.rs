//! Requests and bytes that no good client sends: they get an error and harm nobody else.

mod garbage;
mod mutation;
mod raw_call;

use std::time::Duration;

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest, WatchRequest, kv_client::KvClient, lease_client::LeaseClient,
    request_op, watch_client::WatchClient, watch_request,
};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use self::raw_call::{KV_PUT, KV_RANGE, KV_TXN, UNARY_METHODS, call};
use crate::members::Cluster;

/// No request may hang longer, whatever is in it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Mutated messages for each method.
const MUTATIONS: u64 = 300;

/// Deeper than any decoder follows.
const NESTED_TXNS: usize = 2000;

async fn connect(cluster: &Cluster, at: usize) -> Channel {
    let endpoint = format!("http://{}", cluster.client_address(at));
    Channel::from_shared(endpoint).unwrap().connect().await.unwrap()
}

/// A good request of another client, which must work whatever was asked before.
async fn assert_serves(cluster: &Cluster, at: usize, after: &str) {
    let work = async {
        let mut client = cluster.client(at).await;
        client.put("good", after, None).await?;
        let reply = client.get("good", None).await?;
        Ok::<_, etcd_client::Error>(reply.kvs()[0].value().to_vec())
    };
    let found = timeout(ANSWER_DEADLINE, work).await;
    let found = found.unwrap_or_else(|_| panic!("member {at} hangs after {after}"));
    let found = found.unwrap_or_else(|error| panic!("member {at} after {after}: {error}"));
    assert_eq!(found, after.as_bytes(), "member {at} after {after}");
    assert!(!cluster.log(at).contains("panicked"), "member {at} panicked after {after}");
}

/// What a call ended with: `Code::Ok`, or the error's.
async fn code_of<T>(call: impl Future<Output = Result<T, Status>>) -> Code {
    let outcome = timeout(ANSWER_DEADLINE, call).await.expect("the call is answered");
    outcome.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[track_caller]
fn assert_code(what: &str, found: Code, expected: Code) {
    assert_eq!(found, expected, "{what}");
}

fn put(key: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), ..PutRequest::default() }
}

fn range(key: &'static [u8]) -> RangeRequest {
    RangeRequest { key: Bytes::from_static(key), ..RangeRequest::default() }
}

fn txn(operations: impl IntoIterator<Item = request_op::Request>) -> TxnRequest {
    let success = operations.into_iter().map(|request| RequestOp { request: Some(request) });
    TxnRequest { success: success.collect(), ..TxnRequest::default() }
}

fn puts(count: usize) -> TxnRequest {
    txn((0..count).map(|at| request_op::Request::RequestPut(put(at.to_string()))))
}

#[tokio::test]
async fn wrong_numbers_and_missing_keys_get_etcds_codes() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(connect(&cluster, 0).await);
    let put_cases = [
        ("no key", put(""), Code::InvalidArgument),
        ("unknown lease", PutRequest { lease: 7, ..put("a") }, Code::NotFound),
        ("negative lease", PutRequest { lease: -7, ..put("a") }, Code::NotFound),
        (
            "value to ignore",
            PutRequest { ignore_value: true, value: "v".into(), ..put("a") },
            Code::InvalidArgument,
        ),
    ];
    for (what, request, expected) in put_cases {
        assert_code(what, code_of(kv.put(request)).await, expected);
    }
    let range_cases = [
        ("no key", range(b""), Code::InvalidArgument),
        ("future revision", RangeRequest { revision: 1 << 40, ..range(b"a") }, Code::OutOfRange),
        ("negative revision", RangeRequest { revision: -1, ..range(b"a") }, Code::Ok),
        ("least revision", RangeRequest { revision: i64::MIN, ..range(b"a") }, Code::Ok),
        ("unknown order", RangeRequest { sort_order: 9, ..range(b"a") }, Code::InvalidArgument),
        ("negative limit", RangeRequest { limit: -1, ..range(b"a") }, Code::Ok),
    ];
    for (what, request, expected) in range_cases {
        assert_code(what, code_of(kv.range(request)).await, expected);
    }
    for (revision, expected) in [(-1, Code::OutOfRange), (1 << 40, Code::OutOfRange)] {
        let request = CompactionRequest { revision, physical: false };
        let what = format!("compact {revision}");
        assert_code(&what, code_of(kv.compact(request)).await, expected);
    }
    assert_serves(&cluster, 0, "wrong numbers").await;
}

#[tokio::test]
async fn wrong_leases_get_etcds_codes() {
    let cluster = Cluster::start(1).await;
    let mut leases = LeaseClient::new(connect(&cluster, 0).await);
    let grants = [
        ("too long", i64::MAX, 0, Code::OutOfRange),
        ("negative, raised to the least", -1, 0, Code::Ok),
        ("least number, raised to the least", i64::MIN, 0, Code::Ok),
        ("new", 60, 5, Code::Ok),
        ("taken id", 60, 5, Code::FailedPrecondition),
        ("negative id", 60, -5, Code::Ok),
    ];
    for (what, ttl, id, expected) in grants {
        let found = code_of(leases.lease_grant(LeaseGrantRequest { ttl, id })).await;
        assert_code(what, found, expected);
    }
    let revoke = leases.lease_revoke(LeaseRevokeRequest { id: -9 });
    assert_code("unknown lease", code_of(revoke).await, Code::NotFound);
    assert_serves(&cluster, 0, "wrong leases").await;
}

#[tokio::test]
async fn keys_may_hold_any_bytes() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(connect(&cluster, 0).await);
    for key in [&b"\0"[..], b"\0\0\0", b"a\0b", b"\xff\xfe\x80", b"\xc3\x28"] {
        let request = PutRequest { value: Bytes::from_static(key), ..put(key) };
        kv.put(request).await.unwrap();
        let reply = kv.range(range(key)).await.unwrap().into_inner();
        assert_eq!(reply.kvs.len(), 1, "{key:?}");
        assert_eq!((&reply.kvs[0].key[..], &reply.kvs[0].value[..]), (key, key));
    }
}

#[tokio::test]
async fn requests_that_are_too_large_are_refused() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(connect(&cluster, 0).await);
    let just_too_many = code_of(kv.txn(puts(129))).await;
    assert_code("129 operations", just_too_many, Code::InvalidArgument);
    let just_enough = code_of(kv.txn(puts(128))).await;
    assert_code("128 operations", just_enough, Code::Ok);
    let larger = PutRequest { value: Bytes::from(vec![1; 1_600_000]), ..put("large") };
    assert_code("1.6 MB", code_of(kv.put(larger)).await, Code::InvalidArgument);
    // These two are past the limit of the transport, which may cut the stream while they are sent.
    let million = code_of(kv.txn(puts(1_000_000))).await;
    assert_ne!(million, Code::Ok, "a million operations");
    let empty = TxnRequest { success: vec![RequestOp::default(); 1_000_000], ..txn([]) };
    let million = code_of(kv.txn(empty)).await;
    assert_code("a million empty operations", million, Code::InvalidArgument);
    assert_serves(&cluster, 0, "a million operations").await;
    let huge = PutRequest { value: Bytes::from(vec![1; 100 << 20]), ..put("huge") };
    assert_ne!(code_of(kv.put(huge)).await, Code::Ok, "100 MB");
    assert_serves(&cluster, 0, "100 MB").await;
}

#[tokio::test]
async fn requests_of_a_watch_that_say_nothing_are_passed_over() {
    let cluster = Cluster::start(1).await;
    let mut watches = WatchClient::new(connect(&cluster, 0).await);
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let create = watch_request::RequestUnion::CreateRequest(create);
    let unions = [None, None, Some(create), None];
    let requests = unions.map(|request_union| WatchRequest { request_union });
    let mut responses = watches.watch(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let first = timeout(ANSWER_DEADLINE, responses.message()).await.unwrap().unwrap().unwrap();
    assert!(first.created && !first.canceled, "{first:?}");
}

#[tokio::test]
async fn a_watch_from_before_the_beginning_is_cancelled() {
    let cluster = Cluster::start(1).await;
    let mut watches = WatchClient::new(connect(&cluster, 0).await);
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        start_revision: -1,
        ..WatchCreateRequest::default()
    };
    let union = watch_request::RequestUnion::CreateRequest(create);
    let requests = tokio_stream::iter([WatchRequest { request_union: Some(union) }]);
    let mut responses = watches.watch(requests).await.unwrap().into_inner();
    let first = timeout(ANSWER_DEADLINE, responses.message()).await.unwrap().unwrap().unwrap();
    assert!(first.created && first.canceled, "{first:?}");
    assert_serves(&cluster, 0, "a watch that was refused").await;
}

#[tokio::test]
async fn mutated_messages_are_answered() {
    let cluster = Cluster::start(1).await;
    let channel = connect(&cluster, 0).await;
    let seed = mutation::seed();
    println!("seed {seed}");
    for (method, valid) in UNARY_METHODS {
        for case in 0..MUTATIONS {
            let message = mutation::mutate(&valid(), seed + case);
            let answer = timeout(ANSWER_DEADLINE, call(&channel, method, message.clone())).await;
            assert!(answer.is_ok(), "{method} hangs, seed {seed}, case {case}: {message:02x?}");
        }
        assert_serves(&cluster, 0, method).await;
    }
}

#[tokio::test]
async fn messages_that_no_decoder_should_follow_are_refused() {
    let cluster = Cluster::start(1).await;
    let channel = connect(&cluster, 0).await;
    let mut nested = TxnRequest::default().encode_to_vec();
    for _ in 0..NESTED_TXNS {
        // A `TxnRequest` with one operation in field 2, which holds the inner one in field 4.
        nested = length_delimited(2, &length_delimited(4, &nested));
    }
    let endless = [&[0x0a][..], &[0xff; 9], &[0x01]].concat();
    let cases = [
        ("nested transactions", KV_TXN, nested),
        ("a length past the end", KV_RANGE, endless.clone()),
        ("a length past the end", KV_PUT, endless),
        ("an unfinished varint", KV_RANGE, vec![0xff; 20]),
        ("a group that nobody ends", KV_RANGE, vec![0x0b; 1000]),
    ];
    for (what, method, message) in cases {
        assert_ne!(code_of(call(&channel, method, message.into())).await, Code::Ok, "{what}");
        assert_serves(&cluster, 0, what).await;
    }
    let unknown = code_of(call(&channel, "/etcdserverpb.KV/Burn", Bytes::new())).await;
    assert_code("an unknown method", unknown, Code::Unimplemented);
}

fn length_delimited(field: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut message).unwrap();
    message.extend_from_slice(content);
    message
}

#[tokio::test]
async fn garbage_on_client_and_peer_ports_harms_nobody() {
    let cluster = Cluster::start(3).await;
    for (at, address) in [(0, cluster.client_address(0)), (1, cluster.peer_address(1))] {
        for (what, bytes) in garbage::kinds() {
            garbage::send(address, &bytes).await;
            assert_serves(&cluster, at, what).await;
        }
        let _idle = garbage::connect_and_stay(address).await;
        for at in cluster.indices() {
            assert_serves(&cluster, at, "connections that never say anything").await;
        }
    }
    for at in cluster.indices() {
        assert!(!cluster.log(at).contains("panicked"), "member {at} panicked");
    }
}
