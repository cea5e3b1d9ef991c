//! The Raft log on disk: segments of checksummed records, one writer, one fsync per batch.
//!
//! **Files.** A log is a directory of segments (`segment.rs`), written one after the other and each
//! byte once. A segment is a header and a chain of records (`record.rs`): the checksum of a record
//! continues that of the record before it, and the header, which holds a random salt, starts the
//! chain. So bytes that an earlier use of the file has left behind never verify. The header also
//! holds the state at its start, so older segments can be dropped whole, and states where the
//! segment before it ends, so nothing can be missing there. A segment gets its name after its
//! header is durable; only then are records written to it.
//!
//! **Writing** (`writer.rs`). Everything queued is one write and one fdatasync. Then a mark is
//! written, without an fsync of its own, that says how far the segment is durable, and only after
//! that the callbacks run. The mark is the header of the batch to come, written as soon as it is
//! true. It has a checksum of its own, salted with the segment's salt and its offset, so that it
//! verifies without the chain.
//!
//! **Reading after a crash** (`recovery.rs`). Where the chain breaks is the torn tail only in the
//! last segment and only past every mark; otherwise acknowledged bytes are damaged, and opening is
//! refused. Because nothing is acknowledged before its mark is written, a bit flipped in any
//! acknowledged record is noticed, in the newest one too. One case remains: power was lost before
//! the kernel wrote the newest mark back, *and* the newest batch, which was durable, rotted in that
//! same moment. Telling this from a torn batch would take a second fsync per batch.
//!
//! What was read and is not below a mark is written again and synced before it counts: after a
//! failed fsync the page cache shows bytes that the disk does not have.
//!
//! **Memory.** The newest entries stay in memory (`cache.rs`), always including those that are not
//! durable yet; older ones are found through an index of records (`extents.rs`).

mod cache;
mod extents;
mod faulty;
mod files;
mod folder;
mod outline;
pub(crate) mod record;
mod recovery;
pub(crate) mod segment;
mod shared;
mod unsynced;
mod writer;

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::{
    faulty::{Fault, FaultyFiles},
    files::{File, Files, OsFiles},
    unsynced::UnsyncedFiles,
    writer::Writer,
};
use self::{
    folder::Folder,
    recovery::Recovered,
    shared::{Handle, Shared},
};
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

/// Tells how much the log holds. It does not keep the log open.
#[derive(Clone)]
pub struct Meter(Arc<Shared>);

impl Meter {
    /// Index up to which entries must go, so that no more than `bytes_max` of records stay; `None`
    /// when no more are there. Counts what is on disk.
    pub fn excess(&self, bytes_max: u64) -> Option<u64> {
        self.0.excess(bytes_max)
    }
}

/// Told once the entries of one append are on disk, or that they never will be.
pub type Flushed = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Acknowledged bytes are not what was written. Nothing has been changed.
    #[error("log file {} is damaged at offset {offset}: {reason}", file.display())]
    Corrupt { file: PathBuf, offset: u64, reason: &'static str },
    /// A newer release has written here.
    #[error("log file {} has format {found}; this release knows format {known}", file.display())]
    Format { file: PathBuf, found: u32, known: u32 },
    #[error("log file {} belongs to Raft group {found}, not {expected}", file.display())]
    Group { file: PathBuf, found: u32, expected: u32 },
    /// A segment is gone that held entries which have not been purged.
    #[error("log in {} has no entries from {first} to {last}", dir.display())]
    Missing { dir: PathBuf, first: u64, last: u64 },
}

/// Handle to an open log; clones share it.
///
/// Calls return at once: they change what is in memory and queue the writing. Nothing here bounds
/// the bytes in that queue; admission control, above the log, bounds what may be in flight.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

impl Log {
    /// Reads the log in `options.dir`, making an empty one if there is none.
    ///
    /// The caller makes sure that nobody else has it open, and runs the writer.
    pub fn open(files: Arc<dyn Files>, options: Options) -> Result<(Log, Writer), Error> {
        files.create_dir(&options.dir)?;
        let mut folder = Folder::new(files, &options);
        let recovered = recovery::recover(&mut folder)?;
        let Recovered { outline, extents, segments, active } = recovered;
        let shared = Arc::new(Shared::new(outline, options.cache_bytes, extents, segments));
        let writer = Writer::new(shared.clone(), folder, active, outline);
        Ok((Log { handle: Arc::new(Handle(shared)) }, writer))
    }

    pub fn state(&self) -> State {
        self.handle.0.state()
    }

    /// Whether the entries from this index on are read without touching the disk.
    pub fn is_in_memory(&self, index: u64) -> bool {
        self.handle.0.is_in_memory(index)
    }

    pub fn meter(&self) -> Meter {
        Meter(self.handle.0.clone())
    }

    /// Entries are readable at once and durable when `flushed` is called. An append at an index
    /// that exists replaces it and all that follow.
    ///
    /// `flushed` is called exactly once, in the order of the appends, by the writer. Entries that
    /// do not continue the log are refused at once (`InvalidInput`) and change nothing, and so is
    /// everything when the writer is gone.
    pub fn append(&self, entries: Vec<Entry>, flushed: Flushed) {
        self.handle.0.append(entries, flushed);
    }

    /// Drops the entries after `last`; all of them for `None`.
    pub fn truncate_after(&self, last: Option<LogId>) {
        self.handle.0.truncate_after(last);
    }

    /// Drops the entries up to `upto`, which may lie beyond the newest entry.
    pub fn purge(&self, upto: LogId) {
        self.handle.0.purge(upto);
    }

    /// Durable on return.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let flushed = Box::new(move |result| {
            // Nobody waits any more when the caller has been cancelled; the vote is saved anyway.
            let _ = sender.send(result);
        });
        self.handle.0.save_vote(vote, flushed);
        receiver.await.unwrap_or_else(|_| Err(shared::stopped()))
    }

    /// Noted in memory, written along with the next batch.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.handle.0.save_committed(committed);
    }

    /// Entries of the index range, from its start on, cut after `max_bytes` of payload but never
    /// empty unless the range holds none.
    ///
    /// Indexes that were purged or do not exist yet are left out. Reads files when the entries are
    /// no longer in memory, and checks them: a damaged record is `InvalidData`.
    pub fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        self.handle.0.entries(range, max_bytes)
    }
}

#[cfg(test)]
mod tests;
