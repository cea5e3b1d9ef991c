//! The key space: every version of every key, by revision.

pub mod compaction;
pub mod transfer;
pub mod txn;

mod edit;
mod hash;
mod head;
mod history;
mod index;
mod range;

#[cfg(test)]
mod tests;

use crate::{
    proto::{
        etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse},
        mvccpb::{Event, KeyValue},
    },
    storage::{self, Snapshot},
    types::{KeyRange, Revision},
};

pub use edit::Edit;
pub use head::Head;
pub use index::{Live, Version, live};
pub use range::range;

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
pub struct View {
    snapshot: Snapshot,
    head: Head,
}

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// `None` when nothing was ever compacted.
    pub compact_revision: Option<Revision>,
    /// As it was asked for, or the newest; negative ones are hashed as nothing.
    pub hash_revision: i64,
}

/// All events of one revision, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub revision: Revision,
    pub events: Vec<Event>,
}

impl View {
    pub fn new(snapshot: Snapshot) -> Result<View, Error> {
        let head = Head::read(&snapshot)?;
        Ok(View { snapshot, head })
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.head.revision
    }

    /// The compaction floor: the oldest revision that can be read. `None` when nothing was
    /// compacted.
    pub fn floor(&self) -> Option<Revision> {
        self.head.floor
    }

    /// The rows behind the view, for what else is stored with the keys.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Answers with header.revision set to [`View::revision`]; the other header fields are the
    /// edge's.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        range::range(&self.snapshot, self.head, request)
    }

    /// A Txn that only reads: [`txn::is_read_only`]. Anything else in it is answered by nothing.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        txn::read(&self.snapshot, self.head, request)
    }

    /// `revision` 0 stands for the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        hash::hash_kv(&self.snapshot, self.head, revision)
    }

    /// HashKV at `to` as it was before the store was compacted there, when `from` was the floor.
    /// Right as long as nothing above `from` has been removed.
    pub fn hash_before(&self, from: Option<Revision>, to: Revision) -> Result<HashKv, Error> {
        hash::hash_before(&self.snapshot, from, to)
    }

    /// What happened to the keys of `ranges` from revision `from` on, oldest first, without
    /// previous versions. Revisions that touch none of the ranges are left out. Reads at most about
    /// `max_bytes` of stored versions, whole revisions only; the second value is the first revision
    /// not looked at.
    pub fn history(
        &self,
        ranges: &[KeyRange],
        from: Revision,
        max_bytes: usize,
    ) -> Result<(Vec<Change>, Revision), Error> {
        history::history(&self.snapshot, self.head, ranges, from, max_bytes)
    }

    /// The version of a key that was current just before `revision`: what a watcher's prev_kv
    /// shows. `None` when there was none or it is compacted.
    pub fn before(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, Error> {
        let Some(at) = revision.previous() else { return Ok(None) };
        if self.head.floor.is_some_and(|floor| at < floor) {
            return Ok(None);
        }
        match index::live(&self.snapshot, key, at)? {
            Some(version) => Ok(Some(version.read(&self.snapshot)?)),
            None => Ok(None),
        }
    }
}
