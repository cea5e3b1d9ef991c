//! Transactions as etcd's clients write them: read, then write if nothing of what was read has
//! changed.

use std::collections::BTreeMap;

use orrery::proto::{
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use crate::{
    client::{Client, Failed},
    history::Failure,
};

pub(super) use crate::history::revision;

/// Why a guarded write was not carried out, in Jepsen's words.
pub(super) fn refused() -> Failed {
    Failed::Surely(Failure { code: "Compare".to_owned(), message: "compare failed".to_owned() })
}

pub(super) fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// All keys that begin so.
pub(super) fn prefix(prefix: &str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() }
}

pub(super) fn put(key: &str, value: String) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}

/// Holds while a key was last changed at this revision; 0 while it is not there.
pub(super) fn unchanged(key: &str, revision: i64) -> Compare {
    compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// Holds while a key is there that was made at this revision, and was not deleted since.
pub(super) fn created(key: &str, revision: i64) -> Compare {
    compare(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

pub(super) fn has_value(key: &str, value: String) -> Compare {
    compare(key, CompareTarget::Value, TargetUnion::Value(value.into()))
}

fn compare(key: &str, target: CompareTarget, operand: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(operand),
        ..Default::default()
    }
}

pub(super) fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// What several keys hold at one moment, with the revision of that moment.
pub(super) async fn read(
    client: &mut Client,
    keys: &[String],
) -> Result<(BTreeMap<String, KeyValue>, i64), Failed> {
    let ranges = keys.iter().map(|key| operation(Request::RequestRange(get(key))));
    let request = TxnRequest { success: ranges.collect(), ..Default::default() };
    let response: TxnResponse = client.call(request).await?;
    let revision = revision(response.header.as_ref());
    let ranges = response.responses.into_iter().filter_map(|response| match response.response {
        Some(Response::ResponseRange(range)) => Some(range.kvs),
        _ => None,
    });
    let found = ranges.flatten().map(|kv| (text(&kv.key), kv));
    Ok((found.collect(), revision))
}

/// Writes if none of the keys has changed since. Gives the revision of the write.
pub(super) async fn write(
    client: &mut Client,
    compares: Vec<Compare>,
    puts: Vec<PutRequest>,
) -> Result<i64, Failed> {
    let success = puts.into_iter().map(|put| operation(Request::RequestPut(put))).collect();
    let request = TxnRequest { compare: compares, success, ..Default::default() };
    let response: TxnResponse = client.call(request).await?;
    match response.succeeded {
        true => Ok(revision(response.header.as_ref())),
        false => Err(refused()),
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
