//! The replicated state: what a member must do, and be, after the same log.

use crate::{
    cluster, lease,
    mvcc,
    proto::{
        command::Command,
        etcdserverpb::{
            DeleteRangeResponse, LeaseGrantResponse, Member, PutResponse, TxnResponse,
        },
        mvccpb::Event,
    },
    storage::{self, Snapshot, Storage},
    types::{LeaseId, LogId, Revision},
};
use bytes::Bytes;

/// An entry of the Raft log, decoded.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: LogId,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    Blank,
    /// An encoded Raft membership, kept for the Raft layer.
    Membership(Bytes),
    Command(Command),
}

/// What applying one entry did. Sending replies and events is the caller's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub reply: Result<Reply, Rejection>,
    /// Revision of the key space after the entry.
    pub revision: Revision,
    /// Changes to keys, all of `revision`; empty when the revision did not move.
    pub events: Vec<Event>,
    pub leases: Vec<lease::Change>,
    /// The membership list is a different one now.
    pub members_changed: bool,
}

/// The answer to one command. Responses have header.revision set and nothing else in the header.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Blank entries, Raft memberships, and commands whose answer says nothing.
    Done,
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    /// Compaction runs on in the background; the floor is in force.
    Compact,
    LeaseGrant(LeaseGrantResponse),
    /// The list after the change, and the member it was about.
    Members { member: Member, members: Vec<Member> },
}

/// A deterministic refusal: every member answers the command so, and none changed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    KeyNotFound,
    Compacted(Revision),
    FutureRevision(Revision),
    LeaseNotFound(LeaseId),
    LeaseExists(LeaseId),
    LeaseTtlTooLarge(i64),
    Cluster(cluster::Rejection),
    /// The command itself makes no sense; checks at the edge let none through.
    Malformed(&'static str),
}

/// How far the state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub applied: Option<LogId>,
    /// The newest Raft membership, with the entry it came from.
    pub membership: Option<(LogId, Bytes)>,
}

pub struct StateMachine {}

impl StateMachine {
    pub fn open(storage: Storage) -> Result<StateMachine, storage::Error> {
        let _ = storage;
        unimplemented!()
    }

    pub fn position(&self) -> &Position {
        unimplemented!()
    }

    /// Applies entries in order and writes all they change, with the new position, at once.
    ///
    /// Deterministic: the same entries leave every member with the same tables, however they are cut
    /// into batches. An error is this member's disk; the member must stop.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Applied>, storage::Error> {
        let _ = entries;
        unimplemented!()
    }
}

/// Everything that can be read, at one moment.
pub struct View {}

impl View {
    pub fn new(snapshot: Snapshot) -> Result<View, mvcc::Error> {
        let _ = snapshot;
        unimplemented!()
    }

    pub fn keys(&self) -> &mvcc::View {
        unimplemented!()
    }

    pub fn lease(&self, id: LeaseId) -> Result<Option<lease::Lease>, storage::Error> {
        let _ = id;
        unimplemented!()
    }

    /// All leases, by id.
    pub fn leases(&self) -> Result<Vec<lease::Lease>, storage::Error> {
        unimplemented!()
    }

    /// Keys attached to a lease, sorted.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, storage::Error> {
        let _ = id;
        unimplemented!()
    }

    pub fn members(&self) -> Result<cluster::Members, storage::Error> {
        unimplemented!()
    }

    pub fn position(&self) -> Result<Position, storage::Error> {
        unimplemented!()
    }
}
