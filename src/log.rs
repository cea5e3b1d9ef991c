//! The Raft log on disk: segments of checksummed records, one writer, one fsync per batch.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::types::{LogId, Vote};

/// What an entry of the Raft log carries. Numbers are on disk and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank = 0,
    /// An encoded `orrery.Command`.
    Command = 1,
    /// An encoded Raft membership.
    Membership = 2,
}

/// One entry of the Raft log. Clones share the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: LogId,
    pub kind: EntryKind,
    pub payload: Bytes,
}

/// What a log remembers besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub vote: Option<Vote>,
    /// Committed as far as this member has noted; may be older than the truth.
    pub committed: Option<LogId>,
    /// Everything up to here has been dropped.
    pub purged: Option<LogId>,
    /// The newest entry; `purged` when there is none.
    pub last: Option<LogId>,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// Raft group that the records belong to; there is one group now, number 0.
    pub group: u32,
    pub segment_bytes: u64,
    /// Bytes of the newest payloads kept in memory, shared by replication and apply.
    pub cache_bytes: usize,
}

/// Told once the entries of one append are on disk, or that they never will be.
pub type Flushed = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Handle to an open log; clones share it.
#[derive(Clone)]
pub struct Log {}

/// Does the writing. Runs until every [`Log`] handle is gone.
pub struct Writer {}

impl Log {
    pub fn open(files: Arc<dyn Files>, options: Options) -> Result<(Log, Writer), Error> {
        let _ = (files, options);
        unimplemented!()
    }

    pub fn state(&self) -> State {
        unimplemented!()
    }

    /// Entries are readable at once and durable when `flushed` is called. An append at an index that
    /// exists replaces it and all that follow.
    pub fn append(&self, entries: Vec<Entry>, flushed: Flushed) {
        let _ = (entries, flushed);
        unimplemented!()
    }

    /// Drops the entries after `last`; all of them for `None`.
    pub fn truncate_after(&self, last: Option<LogId>) {
        let _ = last;
        unimplemented!()
    }

    /// Drops the entries up to `upto`, which may lie beyond the newest entry.
    pub fn purge(&self, upto: LogId) {
        let _ = upto;
        unimplemented!()
    }

    /// Durable on return.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let _ = vote;
        unimplemented!()
    }

    /// Noted in memory, written along with the next batch.
    pub fn save_committed(&self, committed: Option<LogId>) {
        let _ = committed;
        unimplemented!()
    }

    /// Entries of the index range, from its start on, cut after `max_bytes` of payload but never empty
    /// unless the range holds none.
    pub fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let _ = (range, max_bytes);
        unimplemented!()
    }
}

impl Writer {
    pub async fn run(self) {
        unimplemented!()
    }
}

/// The file system as the log sees it.
pub trait Files: Send + Sync {}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
}
