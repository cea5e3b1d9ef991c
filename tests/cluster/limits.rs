//! `--max-request-bytes` and `--max-txn-ops`: what is refused beyond them, and in which words.

use bytes::Bytes;
use orrery::proto::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, WatchRequest, WatchResponse, compare::TargetUnion, kv_client::KvClient,
        request_op::Request, watch_client::WatchClient, watch_request::RequestUnion,
    },
    v3electionpb::{CampaignRequest, election_client::ElectionClient},
    v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
};
use prost::Message;
use tonic::{Code, Status, transport::Channel};

use crate::members::{Cluster, Setup};

const REQUEST_BYTES_MAX: usize = 100_000;

/// etcd reads messages that have so much more.
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (512 << 10);

const TXN_OPERATIONS_MAX: usize = 3;

/// Code and text, as clients compare them.
type Answer = (Code, String);

async fn start() -> (Cluster, Channel) {
    let mut setup = Setup::new(1);
    setup.flags = vec![
        format!("--max-request-bytes={REQUEST_BYTES_MAX}"),
        format!("--max-txn-ops={TXN_OPERATIONS_MAX}"),
    ];
    let cluster = setup.start().await;
    let channel = Channel::from_shared(cluster.endpoint(0)).unwrap().connect().await.unwrap();
    (cluster, channel)
}

fn answer<T>(outcome: Result<T, Status>) -> Answer {
    outcome.map_or_else(
        |status| (status.code(), status.message().to_owned()),
        |_| (Code::Ok, String::new()),
    )
}

#[track_caller]
fn check(what: &str, answered: Answer, code: Code, text: &str) {
    assert_eq!(answered, (code, text.to_owned()), "{what}");
}

fn large(bytes: usize) -> Bytes {
    vec![b'x'; bytes].into()
}

fn put(value: Bytes) -> PutRequest {
    PutRequest { key: "a".into(), value, ..PutRequest::default() }
}

fn get(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn value_is(value: Bytes) -> Compare {
    Compare {
        key: "a".into(),
        target: 3,
        target_union: Some(TargetUnion::Value(value)),
        ..Compare::default()
    }
}

async fn watch(channel: &Channel, key: Bytes) -> Result<Option<WatchResponse>, Status> {
    let create = WatchCreateRequest { key, ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures::StreamExt::chain(
        futures::stream::once(async { request }),
        futures::stream::pending(),
    );
    let mut responses = WatchClient::new(channel.clone()).watch(requests).await?.into_inner();
    responses.message().await
}

#[tokio::test]
async fn what_would_enter_the_log_and_is_larger_than_a_request_may_be_is_refused() {
    let (_cluster, channel) = start().await;
    let mut kv = KvClient::new(channel.clone());
    let (invalid, too_large) = (Code::InvalidArgument, "etcdserver: request is too large");
    // etcd measures the log entry, which has the request in a field of its own (1 byte for its
    // tag, 3 for its length) and a header: tag and length (3), the tag of an id (1) and the id (9
    // or 10).
    let entry = |value: usize, id: usize| put(large(value)).encoded_len() + 1 + 3 + 3 + 1 + id;
    let largest = REQUEST_BYTES_MAX - (entry(99_000, 10) - 99_000);
    assert_eq!(entry(largest, 10), REQUEST_BYTES_MAX);
    check("the largest put", answer(kv.put(put(large(largest))).await), Code::Ok, "");
    let larger = put(large(largest + 2));
    check("a put that is larger", answer(kv.put(larger).await), invalid, too_large);
    check("a put", answer(kv.put(put(large(200_000))).await), invalid, too_large);
    let delete = |key| DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    let deleted = kv.delete_range(delete(large(200_000))).await;
    check("a delete", answer(deleted), invalid, too_large);
    let success = vec![operation(Request::RequestPut(put(large(200_000))))];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    check("a txn", answer(kv.txn(txn).await), invalid, too_large);
    let compare = vec![value_is(large(200_000))];
    let success = vec![operation(Request::RequestDeleteRange(delete("a".into())))];
    let txn = TxnRequest { compare, success, ..TxnRequest::default() };
    check("a txn that compares much", answer(kv.txn(txn).await), invalid, too_large);

    // Errors within locks and elections have lost their codes.
    let mut lock = LockClient::new(channel.clone());
    let locked = lock.lock(LockRequest { name: large(200_000), lease: 0 }).await;
    check("a lock", answer(locked), Code::Unknown, too_large);
    let unlocked = lock.unlock(UnlockRequest { key: large(200_000) }).await;
    check("an unlock", answer(unlocked), Code::Unknown, too_large);
    let campaign = CampaignRequest { name: "e".into(), value: large(200_000), lease: 0 };
    let won = ElectionClient::new(channel).campaign(campaign).await;
    check("a campaign", answer(won), Code::Unknown, too_large);
}

#[tokio::test]
async fn what_only_reads_may_be_as_large_as_a_message() {
    let (_cluster, channel) = start().await;
    let mut kv = KvClient::new(channel.clone());
    check("a range", answer(kv.range(get(large(200_000))).await), Code::Ok, "");
    let compare = vec![value_is(large(200_000))];
    let success = vec![operation(Request::RequestRange(get(large(200_000))))];
    let txn = TxnRequest { compare, success, ..TxnRequest::default() };
    check("a txn that reads", answer(kv.txn(txn).await), Code::Ok, "");
    let txn = TxnRequest { compare: vec![value_is(large(200_000))], ..TxnRequest::default() };
    check("a txn that compares", answer(kv.txn(txn).await), Code::Ok, "");
    check("a watch", answer(watch(&channel, large(200_000)).await), Code::Ok, "");
}

#[tokio::test]
async fn a_message_that_is_larger_than_any_may_be_is_refused_as_grpc_go_does() {
    let (_cluster, channel) = start().await;
    let mut kv = KvClient::new(channel.clone());
    let overhead = put(large(MESSAGE_BYTES_MAX)).encoded_len() - MESSAGE_BYTES_MAX;
    let just = put(large(MESSAGE_BYTES_MAX - overhead));
    assert_eq!(just.encoded_len(), MESSAGE_BYTES_MAX);
    let too_large = "etcdserver: request is too large";
    check("just a message", answer(kv.put(just).await), Code::InvalidArgument, too_large);

    let refused = |size: usize| {
        format!("grpc: received message larger than max ({size} vs. {MESSAGE_BYTES_MAX})")
    };
    let code = Code::ResourceExhausted;
    let more = put(large(MESSAGE_BYTES_MAX - overhead + 1));
    let size = more.encoded_len();
    check("a put", answer(kv.put(more).await), code, &refused(size));
    let more = get(large(700_000));
    let size = more.encoded_len();
    check("a range", answer(kv.range(more.clone()).await), code, &refused(size));
    let stream = async { kv.range_stream(more).await?.into_inner().message().await };
    check("a range stream", answer(stream.await), code, &refused(size));
    let more = TxnRequest { compare: vec![value_is(large(700_000))], ..TxnRequest::default() };
    let size = more.encoded_len();
    check("a txn", answer(kv.txn(more).await), code, &refused(size));
    let create = WatchCreateRequest { key: large(700_000), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let size = request.encoded_len();
    check("a watch", answer(watch(&channel, large(700_000)).await), code, &refused(size));
}

#[tokio::test]
async fn a_transaction_may_have_as_many_operations_as_the_flag_says() {
    let (_cluster, channel) = start().await;
    let mut kv = KvClient::new(channel);
    let operations = |count: usize| -> Vec<RequestOp> {
        let keys = (0..count).map(|number| Bytes::from(number.to_string()));
        keys.map(|key| operation(Request::RequestRange(get(key)))).collect()
    };
    let compares = |count| vec![value_is("1".into()); count];
    let txn = |compare, success, failure| TxnRequest {
        compare: compares(compare),
        success: operations(success),
        failure: operations(failure),
    };
    let nest = |outer: TxnRequest, inner: TxnRequest| {
        let nested = operation(Request::RequestTxn(inner));
        TxnRequest { success: [outer.success, vec![nested]].concat(), ..outer }
    };
    let cases = [
        (txn(3, 3, 3), true),
        (txn(4, 0, 0), false),
        (txn(0, 4, 0), false),
        (txn(0, 0, 4), false),
        // A nested one has what its parent's longest list leaves.
        (nest(txn(0, 0, 0), txn(2, 2, 2)), true),
        (nest(txn(0, 0, 0), txn(0, 3, 0)), false),
        (nest(txn(2, 0, 0), txn(0, 1, 1)), true),
        (nest(txn(2, 0, 0), txn(0, 0, 2)), false),
        (nest(txn(0, 2, 0), txn(0, 0, 0)), true),
        (nest(txn(0, 2, 0), txn(1, 0, 0)), false),
    ];
    for (number, (txn, is_taken)) in cases.into_iter().enumerate() {
        let (code, text) = match is_taken {
            true => (Code::Ok, ""),
            false => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        };
        check(&format!("case {number}"), answer(kv.txn(txn).await), code, text);
    }
}
