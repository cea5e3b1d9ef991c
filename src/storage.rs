//! The state on disk: one RocksDB, its tables on one page.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::types::LogId;

/// Handle to the open store; clones share it.
#[derive(Clone)]
pub struct Storage {}

/// An unchanging picture of the whole store, held by reference; keep it only as long as a request.
pub struct Snapshot {}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Engine(String),
    #[error("{table}: a row does not decode: {what}")]
    Corrupt { table: &'static str, what: String },
    #[error("{path}: {what}")]
    Files { path: PathBuf, what: String },
}

/// Where the store keeps its files.
pub enum Place<'a> {
    Directory(&'a Path),
    /// For tests and simulation: RocksDB's in-memory environment.
    Memory,
}

impl Storage {
    pub fn open(place: Place<'_>) -> Result<Storage, Error> {
        let _ = place;
        unimplemented!()
    }

    pub fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    /// How far the state would survive a crash now.
    pub fn durable(&self) -> Option<LogId> {
        unimplemented!()
    }

    /// Makes everything written so far durable; blocks until it is.
    pub fn flush(&self) -> Result<Option<LogId>, Error> {
        unimplemented!()
    }

    pub fn begin_import(&self) -> Result<Import, Error> {
        unimplemented!()
    }

    /// Bytes on disk, and bytes of them that hold live data (an estimate).
    pub fn sizes(&self) -> Sizes {
        unimplemented!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub on_disk: u64,
    pub in_use: u64,
}

impl Snapshot {
    /// The whole store in chunks of about 1 MiB, for another member.
    pub fn export(self) -> Export {
        unimplemented!()
    }
}

pub struct Export {}

impl Iterator for Export {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        unimplemented!()
    }
}

/// A store being received from another member; nothing is changed until it is finished.
pub struct Import {}

impl Import {
    pub fn chunk(&mut self, chunk: Bytes) -> Result<(), Error> {
        let _ = chunk;
        unimplemented!()
    }

    /// Checks that the received store has applied exactly `expected`, and puts it in the place of the
    /// present one.
    pub fn finish(self, expected: LogId) -> Result<(), Error> {
        let _ = expected;
        unimplemented!()
    }
}
