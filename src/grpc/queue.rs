//! The queue for a lock or an election. Each who wants it has a key under its name, called by the
//! lease; the oldest key has it, and goes when its lease ends.

use bytes::Bytes;
use tonic::Status;

use crate::{
    grpc::client::Client,
    node::{self, WatchSession},
    proto::{
        SharedEvent,
        etcdserverpb::{
            Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
            TxnResponse, WatchCreateRequest,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request,
            response_op::Response,
            watch_create_request::FilterType,
        },
        mvccpb::{KeyValue, event::EventType},
    },
};

/// What a lease is granted that the server makes for whoever names none. As in etcd, nobody renews
/// it: whoever holds on to something for longer brings a lease.
const SESSION_TTL_SECS: i64 = 60;

/// Why there is no lock or no leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The caller's key was gone when its turn came: the lease ended, or somebody deleted it.
    SessionExpired,
    NotLeader,
    NoLeader,
    /// The request does not say who leads.
    LeaderMissing,
}

pub(crate) struct Queue {
    client: Client,
    /// What all keys of the queue begin with; ends with `/`.
    prefix: Bytes,
}

impl Queue {
    pub(crate) fn new(client: &Client, name: &[u8]) -> Queue {
        Queue { client: client.clone(), prefix: [name, b"/"].concat().into() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The key of whoever has this lease.
    pub(crate) fn key(&self, lease: i64) -> Bytes {
        [&self.prefix, name(lease).as_bytes()].concat().into()
    }

    /// The request for the key that has what all want.
    pub(crate) fn oldest(&self) -> RangeRequest {
        self.one_by_creation(SortOrder::Ascend)
    }

    /// Everything that happens in the queue from `revision` on.
    pub(crate) fn watch(&self, revision: i64) -> WatchSession {
        self.client.watch(WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            start_revision: revision,
            ..WatchCreateRequest::default()
        })
    }

    /// Takes a key, which was created at `created`, to be a place in the queue.
    pub(crate) fn place(self, key: Bytes, created: i64) -> Place {
        Place { queue: self, key, created, is_kept: false }
    }

    /// Returns when no key is left that is older than `created`. Waits for the last of them first,
    /// so that each deletion wakes one who waits and not all.
    async fn turn_of(&self, created: i64) -> Result<(), Status> {
        loop {
            // This member has applied the creation, so it knows all keys before it.
            let before = self
                .client
                .range(RangeRequest {
                    max_create_revision: created - 1,
                    serializable: true,
                    ..self.one_by_creation(SortOrder::Descend)
                })
                .await?;
            let Some(last) = before.kvs.into_iter().next() else { return Ok(()) };
            let revision = before.header.map_or(0, |header| header.revision);
            until_gone(self.client.watch(deletion(last.key, revision + 1))).await?;
        }
    }

    fn one_by_creation(&self, order: SortOrder) -> RangeRequest {
        RangeRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            limit: 1,
            ..RangeRequest::default()
        }
    }

    /// The end of the range of keys with the prefix.
    fn end(&self) -> Bytes {
        let (_, name) = self.prefix.split_last().expect("it ends with a slash");
        [name, &[b'/' + 1]].concat().into()
    }
}

/// A lease as it stands in a key: hexadecimal, with a sign if need be, since any number can come.
fn name(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

fn deletion(key: Bytes, from: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key,
        start_revision: from,
        filters: vec![FilterType::Noput.into()],
        ..WatchCreateRequest::default()
    }
}

/// Returns when a [`deletion`] was seen, or can't be because its first revision has been compacted
/// meanwhile: look again.
async fn until_gone(mut session: WatchSession) -> Result<(), Status> {
    loop {
        let response = session.next_response().await.map_err(node::Error::from)?;
        if response.canceled || !response.events.is_empty() {
            return Ok(());
        }
    }
}

/// Somebody's place in the queue. Dropped, it is given up, unless it is kept: when a client goes
/// away, its call ends by being dropped, and whoever is behind must not wait for its lease.
pub(crate) struct Place {
    queue: Queue,
    key: Bytes,
    created: i64,
    is_kept: bool,
}

impl Place {
    /// Returns when nobody is before it any more.
    pub(crate) async fn turn(&self) -> Result<(), Status> {
        self.queue.turn_of(self.created).await
    }

    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a runtime the process is about to end; the lease ends it then, as after errors.
        let runtime = tokio::runtime::Handle::try_current();
        if let (false, Ok(runtime)) = (self.is_kept, runtime) {
            let leaving = leave(self.queue.client.clone(), self.key.clone(), self.created);
            runtime.spawn(async { drop(leaving.await) });
        }
    }
}

/// Deletes a key if it is still the one that was created at `created`.
pub(crate) async fn leave(client: Client, key: Bytes, created: i64) -> Result<TxnResponse, Status> {
    let compare = vec![created_at(&key, created)];
    let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    let success = vec![RequestOp { request: Some(Request::RequestDeleteRange(delete)) }];
    client.txn(TxnRequest { compare, success, failure: Vec::new() }).await
}

/// The lease of a caller's session: the one that it named, or for 0 a new one.
pub(crate) async fn session(client: &Client, lease: i64) -> Result<i64, Status> {
    if lease == 0 { client.grant(SESSION_TTL_SECS).await } else { Ok(lease) }
}

/// Compares the revision at which a key was created; 0 stands for a key that does not exist.
pub(crate) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(crate) fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

pub(crate) fn get(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(range)) }
}

pub(crate) fn only(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// What the n-th operation of a transaction found.
pub(crate) fn found(txn: &TxnResponse, nth: usize) -> Option<&KeyValue> {
    match txn.responses.get(nth)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_) => {
            None
        }
    }
}

/// When a caller's key was created: by this transaction, or earlier if it found the key.
pub(crate) fn joined_at(txn: &TxnResponse) -> i64 {
    let now = txn.header.as_ref().map_or(0, |header| header.revision);
    if txn.succeeded { now } else { found(txn, 0).map_or(now, |own| own.create_revision) }
}

/// Whether an event is a put.
pub(crate) fn is_put(event: &SharedEvent) -> bool {
    event.r#type() == EventType::Put
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{grpc::client, types::Revision, watch::memory::Memory};

    #[test]
    fn keys_are_called_by_their_leases_in_hexadecimal() {
        for (lease, expected) in [
            (1, "1"),
            (0x0694_d7ab_c0ff_ee00, "694d7abc0ffee00"),
            (i64::MAX, "7fffffffffffffff"),
            (-1, "-1"),
            (i64::MIN, "-8000000000000000"),
        ] {
            assert_eq!(name(lease), expected);
        }
    }

    #[test]
    fn a_wait_ends_with_the_deletion_and_with_nothing_else() {
        let memory = Memory::default();
        let hub = memory.hub();
        let write = |operations: &[(&str, Option<&str>)]| {
            hub.publish(memory.write(operations).into_iter().collect());
        };
        write(&[("q/1", Some("")), ("q/2", Some(""))]);
        let mut wait = Box::pin(until_gone(client::watch(&hub, deletion("q/1".into(), 3))));
        assert!(wait.as_mut().now_or_never().is_none());
        write(&[("q/1", Some("proclaimed"))]);
        write(&[("q/2", None), ("q/11", Some("")), ("q/", Some(""))]);
        assert!(wait.as_mut().now_or_never().is_none());
        write(&[("q/1", None)]);
        assert!(wait.now_or_never().unwrap().is_ok());
    }

    #[test]
    fn a_deletion_before_the_wait_began_is_found() {
        let memory = Memory::default();
        let hub = memory.hub();
        for value in [Some(""), None, Some("again")] {
            hub.publish(memory.write(&[("q/1", value)]).into_iter().collect());
        }
        let wait = |from| until_gone(client::watch(&hub, deletion("q/1".into(), from)));
        assert!(wait(3).now_or_never().unwrap().is_ok());
        assert!(wait(4).now_or_never().is_none());
        // What was compacted is not waited for; the store says more.
        memory.compact(Revision::from_wire(4).unwrap());
        assert!(wait(3).now_or_never().unwrap().is_ok());
    }
}
