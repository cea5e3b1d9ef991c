//! The key space: every version of every key, by revision.

use crate::{
    proto::{
        etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse},
        mvccpb::Event,
    },
    storage::{self, Snapshot},
    types::{KeyRange, Revision},
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("required revision has been compacted; the oldest is {0}")]
    Compacted(Revision),
    #[error("required revision is a future revision; the newest is {0}")]
    FutureRevision(Revision),
    #[error("{0}")]
    Storage(#[from] storage::Error),
}

/// The key space as it stood at one moment. Everything read from one view fits together: the newest
/// revision, the compaction floor and the data come from one RocksDB snapshot.
pub struct View {}

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// `None` when nothing was ever compacted.
    pub compact_revision: Option<Revision>,
    pub hash_revision: Revision,
}

/// All events of one revision, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub revision: Revision,
    pub events: Vec<Event>,
}

impl View {
    pub fn new(snapshot: Snapshot) -> Result<View, Error> {
        let _ = snapshot;
        unimplemented!()
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        unimplemented!()
    }

    /// The compaction floor: the oldest revision that can be read. `None` when nothing was compacted.
    pub fn floor(&self) -> Option<Revision> {
        unimplemented!()
    }

    /// Answers with header.revision set to [`View::revision`]; the other header fields are the edge's.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let _ = request;
        unimplemented!()
    }

    /// A Txn that only reads.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let _ = request;
        unimplemented!()
    }

    /// `revision` 0 stands for the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let _ = revision;
        unimplemented!()
    }

    /// What happened to the keys of `ranges` from revision `from` on, oldest first, without previous
    /// versions. Revisions that touch none of the ranges are left out. Reads at most about `max_bytes`
    /// of stored versions, whole revisions only; the second value is the first revision not looked at.
    pub fn history(
        &self,
        ranges: &[KeyRange],
        from: Revision,
        max_bytes: usize,
    ) -> Result<(Vec<Change>, Revision), Error> {
        let _ = (ranges, from, max_bytes);
        unimplemented!()
    }

    /// The version of a key that was current just before `revision`: what a watcher's prev_kv shows.
    /// `None` when there was none or it is compacted.
    pub fn before(
        &self,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<crate::proto::mvccpb::KeyValue>, Error> {
        let _ = (key, revision);
        unimplemented!()
    }
}
