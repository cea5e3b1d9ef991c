//! Watch responses that are larger than a message should be, to clients that take fragments and to
//! those that do not.

use std::time::Duration;

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
    WatchResponse, kv_client::KvClient, request_op::Request, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use prost::Message;
use tokio::time::timeout;
use tonic::{Streaming, transport::Channel};

use crate::members::Setup;

const MIB: usize = 1 << 20;

/// Two values of 1 MiB in one transaction fit.
const REQUEST_BYTES_MAX: usize = 2 * MIB + MIB / 2;

/// etcd adds so much for what is around a request; responses stay below.
const RESPONSE_BYTES_MAX: usize = REQUEST_BYTES_MAX + MIB / 2;

const KEYS: usize = 6;

/// Longer than 12 MiB take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn watch(channel: &Channel, create: WatchCreateRequest) -> Streaming<WatchResponse> {
    let create =
        WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: true, ..create };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures::StreamExt::chain(
        futures::stream::once(async { request }),
        futures::stream::pending(),
    );
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().expect("the stream goes on").created);
    responses
}

/// A key, the revision of its event, and the bytes of the value before it.
type Told = (String, i64, Option<usize>);

/// What was told up to a revision, each time with the number of responses that it came in.
async fn told(stream: &mut Streaming<WatchResponse>, last: i64) -> Vec<(usize, Vec<Told>)> {
    let mut all = Vec::new();
    let (mut parts, mut events) = (0, Vec::new());
    loop {
        let response = timeout(PATIENCE, stream.message()).await.expect("more is to come");
        let response = response.unwrap().expect("the stream goes on");
        let size = response.encoded_len();
        let is_part = parts > 0 || response.fragment;
        assert!(!is_part || size < RESPONSE_BYTES_MAX, "a part of {size} bytes");
        assert!(!response.events.is_empty(), "an empty response");
        parts += 1;
        events.extend(response.events.iter().map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            (key, kv.mod_revision, event.prev_kv.as_ref().map(|before| before.value.len()))
        }));
        if !response.fragment {
            let newest = events.last().map_or(0, |(_, revision, _)| *revision);
            all.push((parts, std::mem::take(&mut events)));
            parts = 0;
            if newest == last {
                return all;
            }
        }
    }
}

fn put(key: usize) -> PutRequest {
    let value = Bytes::from(vec![b'v'; MIB]);
    PutRequest { key: key.to_string().into(), value, ..PutRequest::default() }
}

/// Puts keys, two of them anew in one transaction, and deletes all in one revision.
async fn write(channel: &Channel) -> i64 {
    let mut kv = KvClient::new(channel.clone());
    for key in 0..KEYS {
        kv.put(put(key)).await.unwrap();
    }
    let both = [put(0), put(1)].map(|put| RequestOp { request: Some(Request::RequestPut(put)) });
    kv.txn(TxnRequest { success: both.to_vec(), ..TxnRequest::default() }).await.unwrap();
    let everything = DeleteRangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = kv.delete_range(everything).await.unwrap().into_inner();
    assert_eq!(usize::try_from(deleted.deleted), Ok(KEYS));
    deleted.header.unwrap().revision
}

/// Every event of [`write`], in order.
fn written() -> Vec<Told> {
    let revision = |at: usize| i64::try_from(at + 2).unwrap();
    let puts = (0..KEYS).map(|key| (key.to_string(), revision(key), None));
    let again = [0, 1].map(|key: usize| (key.to_string(), revision(KEYS), Some(MIB)));
    let deletes = (0..KEYS).map(|key| (key.to_string(), revision(KEYS + 1), Some(MIB)));
    puts.chain(again).chain(deletes).collect()
}

/// Nothing is missing, and no revision is spread over what is not said to be fragments of one.
#[track_caller]
fn check(told: &[(usize, Vec<Told>)]) {
    let all: Vec<Told> = told.iter().flat_map(|(_, events)| events.clone()).collect();
    assert_eq!(all, written());
    for pair in told.windows(2) {
        let (before, after) = (pair[0].1.last().unwrap(), &pair[1].1[0]);
        assert!(before.1 < after.1, "revision {} is split", after.1);
    }
}

#[tokio::test]
async fn large_revisions_come_in_parts_below_the_limit_to_who_takes_fragments() {
    let mut setup = Setup::new(1);
    setup.flags = vec![format!("--max-request-bytes={REQUEST_BYTES_MAX}")];
    let cluster = setup.start().await;
    let channel = Channel::from_shared(cluster.endpoint(0)).unwrap().connect().await.unwrap();
    let of = |fragment, start_revision| WatchCreateRequest {
        fragment,
        start_revision,
        ..WatchCreateRequest::default()
    };
    let mut live = watch(&channel, of(true, 0)).await;
    let mut live_whole = watch(&channel, of(false, 0)).await;
    let (last, fragmented, whole) =
        tokio::join!(write(&channel), told(&mut live, 9), told(&mut live_whole, 9));
    assert_eq!(last, 9);
    let mut late = watch(&channel, of(true, 1)).await;
    let mut late_whole = watch(&channel, of(false, 1)).await;
    let late_fragmented = told(&mut late, last).await;
    let late_whole = told(&mut late_whole, last).await;
    for told in [&fragmented, &whole, &late_fragmented, &late_whole] {
        check(told);
    }
    // The transaction is 4 MiB with what was before it, and the deletion 6 MiB.
    for told in [&fragmented, &late_fragmented] {
        assert!(
            told.last().unwrap().0 >= 3,
            "the deletion comes in {} parts",
            told.last().unwrap().0
        );
    }
    assert!(fragmented[KEYS].0 >= 2, "the transaction comes in {} parts", fragmented[KEYS].0);
    for told in [&whole, &late_whole] {
        assert!(told.iter().all(|(parts, _)| *parts == 1), "nobody asked for fragments");
    }
}
