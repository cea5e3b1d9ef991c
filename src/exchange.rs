//! Moving in and out: the whole state as a file of etcd, and files and logs of etcd as a state.
//!
//! A saved file is one of bbolt with etcd's buckets, so `etcdutl` and etcd itself read it. Each
//! bucket is written by one function (`save.rs`) and read by one (`load.rs`):
//!
//! | bucket | table |
//! | --- | --- |
//! | `key` | revisions; versions follow from them |
//! | `lease` | leases; which keys are attached follows from the keys |
//! | `alarm` | alarms |
//! | `auth`, `authUsers`, `authRoles` | meta (auth), users, roles |
//! | `members`, `members_removed` | members, removed members; not read: a new cluster begins |
//! | `cluster` | not read, for the same reason |
//! | `meta` | the floor; the rest is about Raft and not read |
//!
//! What etcd leaves behind in a data directory is such a file and a log (`wal.rs`) that goes on
//! from where the file ends; its entries become commands (`replay.rs`).

mod data_dir;
mod inspect;
mod load;
mod replay;
mod save;
mod wal;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use crate::{bbolt, mvcc, storage};

pub use data_dir::{LeftBehind, find};
pub use inspect::{Status, hash_kv, status};
pub use load::{Bump, Restored, Source, restore};
pub use save::save;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Database(#[from] bbolt::Error),
    #[error("{0}")]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    Mvcc(#[from] mvcc::Error),
    #[error("bucket {bucket}: {what}")]
    Row { bucket: &'static str, what: String },
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    /// A process has the file open for writing.
    #[error("{path} is in use by another process; stop etcd first", path = .0.display())]
    InUse(PathBuf),
    #[error("log file {path} is damaged at offset {offset}: {what}", path = .path.display())]
    Log { path: PathBuf, offset: u64, what: String },
    #[error("the log in {path} {what}", path = .path.display())]
    Gap { path: PathBuf, what: String },
    #[error("entry {index} of the log cannot be taken over: {what}")]
    Entry { index: u64, what: String },
}

/// Names of buckets, and of keys in them.
mod names {
    pub(super) const ALARM: &str = "alarm";
    pub(super) const AUTH: &str = "auth";
    pub(super) const AUTH_ROLES: &str = "authRoles";
    pub(super) const AUTH_USERS: &str = "authUsers";
    pub(super) const CLUSTER: &str = "cluster";
    pub(super) const KEY: &str = "key";
    pub(super) const LEASE: &str = "lease";
    pub(super) const MEMBERS: &str = "members";
    pub(super) const MEMBERS_REMOVED: &str = "members_removed";
    pub(super) const META: &str = "meta";

    pub(super) const AUTH_ENABLED: &str = "authEnabled";
    pub(super) const AUTH_REVISION: &str = "authRevision";
    pub(super) const CLUSTER_VERSION: &str = "clusterVersion";
    pub(super) const CONF_STATE: &str = "confState";
    pub(super) const CONSISTENT_INDEX: &str = "consistent_index";
    pub(super) const FINISHED_COMPACTION: &str = "finishedCompactRev";
    pub(super) const SCHEDULED_COMPACTION: &str = "scheduledCompactRev";
    pub(super) const STORAGE_VERSION: &str = "storageVersion";
    pub(super) const TERM: &str = "term";
}
