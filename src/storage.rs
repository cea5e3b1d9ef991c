//! The state on disk: one RocksDB, its tables on one page.

pub mod tables;

mod batch;
mod cursor;
mod directory;
mod engine;
mod observe;
mod off_thread;
mod sizes;
mod snapshot;
mod transfer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::types::{LogId, Revision};
use engine::{Engine, Generation};
use tables::Table;

pub use batch::Batch;
pub use cursor::Cursor;
pub use observe::observe_writes;
pub(crate) use off_thread::{off_thread, spawn_off_thread};
pub use snapshot::Snapshot;
pub use transfer::{CHUNK_BYTES, Export, Import};

/// Handle to the open store; clones share it.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    /// Installing a snapshot swaps the generation; who still reads the old one keeps it alive.
    current: ArcSwap<Generation>,
    /// Number of the newest generation, begun ones included.
    newest: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Engine(String),
    #[error("{table}: a row does not decode: {what}")]
    Corrupt { table: &'static str, what: String },
    #[error("{path}: {what}")]
    Files { path: PathBuf, what: String },
    /// What arrived is not the snapshot that was announced; the store is as it was.
    #[error("snapshot refused: {0}")]
    Import(&'static str),
}

/// Where the store keeps its files.
pub enum Place<'a> {
    Directory(&'a Path),
    /// For tests and simulation: RocksDB's in-memory environment.
    Memory,
}

/// How far the state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub applied: Option<LogId>,
    /// The newest Raft membership, with the entry it came from.
    pub membership: Option<(LogId, Bytes)>,
}

/// Bytes of rows before compression, and bytes of them that somebody can still see (an estimate).
/// `sizes.rs` says what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub on_disk: u64,
    pub in_use: u64,
}

/// When a version of a key was written, and its row in [`Table::Versions`].
pub type Found = (Revision, Bytes);

/// What rows can be read from: a [`Snapshot`], or a [`Batch`] with all that it has changed.
pub trait Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Rows by their keys, in the order of `keys`. Costs less for each than [`Rows::get`], least
    /// when the keys are sorted.
    fn get_all(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, Error>;

    /// The newest version of a user key at or before a revision, tombstones included. `key` is
    /// [`tables::escaped`].
    fn newest_version(&self, key: &[u8], at: Revision) -> Result<Option<Found>, Error>;

    /// Rows in order of their keys; stands on none before the first [`Cursor::seek`].
    fn cursor(&self, table: Table) -> Cursor<'_>;
}

impl Storage {
    /// Opens the store, or makes an empty one where there is none.
    ///
    /// # Errors [`Error::Files`] when the directory is not what this module left there, or is of a
    /// newer format.
    pub fn open(place: Place<'_>) -> Result<Storage, Error> {
        let engine = Engine::new(place)?;
        let (generation, number) = engine.open_current()?;
        Ok(Storage::of(engine, generation, number))
    }

    /// Opens the store of a directory that lacks files, as one does that was copied while a process
    /// had it open: as it was at the last moment of which all files are there.
    ///
    /// `is_early_enough` is asked whether what came after an entry can be had from elsewhere.
    ///
    /// # Errors
    /// [`Error::Files`] when there is no such moment, or the answer is no; then nothing has been
    /// changed.
    pub fn open_earlier(
        directory: &Path,
        is_early_enough: impl FnOnce(LogId) -> bool,
    ) -> Result<Storage, Error> {
        let engine = Engine::new(Place::Directory(directory))?;
        let (generation, number) = engine.open_earlier(is_early_enough)?;
        Ok(Storage::of(engine, generation, number))
    }

    fn of(engine: Engine, generation: Generation, number: u64) -> Storage {
        let current = ArcSwap::from_pointee(generation);
        let newest = AtomicU64::new(number);
        Storage { shared: Arc::new(Shared { engine, current, newest }) }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.shared.current.load_full())
    }

    /// Returns when everything applied before the call is on disk.
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.current.load_full().flush()
    }

    /// The newest entry known to be on disk with everything before it.
    pub fn durable(&self) -> Option<LogId> {
        self.shared.current.load().durable()
    }

    pub fn sizes(&self) -> Sizes {
        self.shared.current.load().sizes()
    }

    /// Views of the store that are open now.
    pub fn open_snapshots(&self) -> u64 {
        self.shared.current.load().open_snapshots()
    }

    /// Rewrites all files, so that the space of rows that are gone is given back. Takes as long as
    /// the store is large, and about as much space as it holds; holds up nobody.
    pub fn reclaim(&self) -> Result<(), Error> {
        self.shared.current.load_full().reclaim()
    }

    /// Whether files may be rewritten as RocksDB sees fit, which takes space before it gives some.
    pub fn let_compact(&self, allowed: bool) -> Result<(), Error> {
        self.shared.current.load_full().let_compact(allowed)
    }

    /// Bytes that the files take on the disk.
    pub fn file_bytes(&self) -> u64 {
        self.shared.current.load().file_bytes()
    }

    /// Starts to take in a snapshot of another member. Readers and writers go on with the present
    /// state until [`Import::finish`].
    pub fn begin_import(&self) -> Result<Import, Error> {
        let number = self.shared.newest.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Import::new(self.clone(), self.shared.engine.create(number)?))
    }

    /// Puts a complete and flushed generation in the place of the present one, on disk first.
    fn switch(
        &self,
        next: Arc<Generation>,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), Error> {
        self.shared.engine.make_current(next.number(), step)?;
        let old = self.shared.current.swap(next);
        old.retire();
        step("swapped");
        Ok(())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("generation", &self.shared.current.load().number()).finish()
    }
}
