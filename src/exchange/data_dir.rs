//! What etcd leaves behind: a file of bbolt, and a log that goes on from where the file ends.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use super::{Error, names, wal};
use crate::{bbolt::Database, proto::etcddisk::Entry};

/// A data directory of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// `member/snap`.
    pub snap: PathBuf,
    /// `member/wal`, unless etcd ran with `--wal-dir`.
    pub wal: PathBuf,
}

/// The data directory of etcd at this path; `None` if it is none.
pub fn find(path: &Path) -> Option<LeftBehind> {
    let member = path.join("member");
    let found = LeftBehind { snap: member.join("snap"), wal: member.join("wal") };
    found.snap.join("db").is_file().then_some(found)
}

/// A directory that was opened, for reading alone.
pub(super) struct Opened {
    pub(super) database: Database,
    /// Entries that the file lacks: all that the log has, as if this member were elected. Those at
    /// the end may be acknowledged, since etcd notes later, and without an fsync, that they are
    /// committed.
    pub(super) entries: Vec<Entry>,
}

impl LeftBehind {
    pub(super) fn open(&self) -> Result<Opened, Error> {
        let database = open(&self.snap.join("db"))?;
        let applied = consistent_index(&database)?;
        // A snapshot of another member that etcd had received and not yet put in the file's place.
        let mut received = self.received(applied)?;
        while let Some((index, path)) = received.pop() {
            let wal = wal::read(&self.wal, index)?;
            if wal.snapshots.contains(&index) && index <= wal.commit {
                return Ok(Opened { database: open(&path)?, entries: wal.entries });
            }
        }
        Ok(Opened { database, entries: wal::read(&self.wal, applied)?.entries })
    }

    /// Files of received snapshots that are newer than an entry, the newest last.
    fn received(&self, than: u64) -> Result<Vec<(u64, PathBuf)>, Error> {
        let failed = |error| Error::File { path: self.snap.clone(), error };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.snap).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let index = name.strip_suffix(".snap.db");
            if let Some(index) = index.and_then(|index| u64::from_str_radix(index, 16).ok())
                && index > than
            {
                found.push((index, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// etcd holds a lock on its file as long as it runs.
fn open(path: &Path) -> Result<Database, Error> {
    let failed = |error| Error::File { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Database::open(file)?),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The last entry whose changes the file holds.
fn consistent_index(database: &Database) -> Result<u64, Error> {
    let meta = database.small_bucket(names::META)?;
    let row = meta.get(names::CONSISTENT_INDEX.as_bytes()).map(Vec::as_slice);
    let bytes = row.unwrap_or(&[0; 8]).try_into();
    let bytes = bytes.map_err(|_| Error::Row {
        bucket: names::META,
        what: format!("{} is no number", names::CONSISTENT_INDEX),
    })?;
    Ok(u64::from_be_bytes(bytes))
}
