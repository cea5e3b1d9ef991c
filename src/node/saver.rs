//! Saving the state as a file of etcd, for somebody who asks for it.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
};

use nix::sys::statvfs::fstatvfs;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    cluster::Members,
    exchange,
    node::Error,
    storage::{Storage, off_thread},
    types::Version,
};

/// Files that exist at a time, each as large as the state: whoever asks for one more waits.
const SAVED_MAX: usize = 4;

/// Room on the disk that a file leaves to the log and the state.
const ROOM_BYTES: u64 = 256 << 20;

/// How much is written before it is asked again how much room there is.
const ROOM_CHECK_BYTES: u64 = 16 << 20;

/// How much is written, and read, at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of a chunk, as in etcd.
const CHUNK_BYTES: u64 = 32 << 10;

/// Saves the state. Clones share the bound on how often at a time.
#[derive(Clone)]
pub struct Saver {
    storage: Storage,
    /// Where the files are until they are sent; `None` when the state is in memory.
    dir: Option<PathBuf>,
    slots: Arc<Semaphore>,
}

/// A complete file without a name: it is gone when this is.
pub struct Saved {
    file: BufReader<File>,
    size: u64,
    sent: u64,
    digest: Option<Sha256>,
    storage_version: Option<Version>,
    _slot: OwnedSemaphorePermit,
}

/// A part of the file, or, last of all, its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    /// Bytes of the file that are still to come.
    pub remaining: u64,
}

impl Saver {
    pub(crate) fn new(storage: Storage, dir: Option<PathBuf>) -> Saver {
        Saver { storage, dir, slots: Arc::new(Semaphore::new(SAVED_MAX)) }
    }

    /// Writes a file with everything that this member has applied, at one moment. Takes seconds for
    /// each GiB; nobody waits for it meanwhile but the caller.
    pub async fn save(&self) -> Result<Saved, Error> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let (storage, dir) = (self.storage.clone(), self.dir.clone());
        let written = off_thread(move || {
            let dir = dir.ok_or(io::ErrorKind::Unsupported).map_err(io::Error::from)?;
            let file = Guarded::new(tempfile::tempfile_in(dir)?)?;
            let out = BufWriter::with_capacity(BUFFER_BYTES, file);
            let snapshot = storage.snapshot();
            let version = Members::read(&snapshot)?.versions.storage();
            let (out, size) = exchange::save(&snapshot, out)?;
            let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?.file;
            file.seek(SeekFrom::Start(0))?;
            Ok((file, size, version))
        });
        let (file, size, storage_version) =
            written.await.map_err(|error: exchange::Error| match error {
                exchange::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                    Error::NoRoomToSave
                }
                error => Error::Save(error.to_string()),
            })?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let digest = Some(Sha256::new());
        Ok(Saved { file, size, sent: 0, digest, storage_version, _slot: slot })
    }
}

impl Saved {
    /// The oldest etcd that can read the file; `None` before the cluster has decided on one.
    pub fn storage_version(&self) -> Option<Version> {
        self.storage_version
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next part; `None` behind the digest. Reads a file, so it does not belong on a thread of
    /// the runtime.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let Some(digest) = &mut self.digest else { return Ok(None) };
        let length = CHUNK_BYTES.min(self.size - self.sent);
        if length == 0 {
            let digest = self.digest.take().map(Digest::finalize).unwrap_or_default();
            return Ok(Some(Chunk { bytes: digest.to_vec(), remaining: 0 }));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact(&mut bytes).map_err(|error| Error::Save(error.to_string()))?;
        digest.update(&bytes);
        self.sent += length;
        Ok(Some(Chunk { bytes, remaining: self.size - self.sent }))
    }
}

/// A file that refuses to grow when the disk has no room left.
struct Guarded {
    file: File,
    unchecked: u64,
}

impl Guarded {
    fn new(file: File) -> io::Result<Guarded> {
        let guarded = Guarded { file, unchecked: 0 };
        guarded.check()?;
        Ok(guarded)
    }

    fn check(&self) -> io::Result<()> {
        let disk = fstatvfs(&self.file)?;
        let room = disk.blocks_available().saturating_mul(disk.fragment_size());
        if room < ROOM_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Write for Guarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unchecked += written as u64;
        if self.unchecked >= ROOM_CHECK_BYTES {
            self.unchecked = 0;
            self.check()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Guarded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
