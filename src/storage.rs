//! The state on disk: one RocksDB, its tables on one page.

use std::path::{Path, PathBuf};

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
