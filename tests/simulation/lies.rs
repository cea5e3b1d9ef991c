//! Builds that are broken on purpose: the simulation must find each of them.

use std::{io, path::Path, sync::Arc};

use futures::{executor::block_on, future::BoxFuture};
use orrery::{
    log::{FaultyFiles, File, Files, Log},
    raft::network::{Address, Listener, Network, Stream},
};

use super::{machine::log_options, network::Card};

/// The same log on another disk, as a build would leave it that never writes a vote.
pub fn without_vote(files: &FaultyFiles, seed: u64) -> FaultyFiles {
    let (old, old_writer) = Log::open(Arc::new(files.clone()), log_options()).unwrap();
    let state = old.state();
    let entries = old.entries(0..u64::MAX, usize::MAX).unwrap();
    let disk = FaultyFiles::new(seed);
    let (new, writer) = Log::open(Arc::new(disk.clone()), log_options()).unwrap();
    if let Some(purged) = state.purged {
        new.purge(purged);
    }
    if !entries.is_empty() {
        new.append(entries, Box::new(|result| result.unwrap()));
    }
    new.save_committed(state.committed);
    drop((old, new));
    block_on(writer.run());
    block_on(old_writer.run());
    disk
}

/// Files that say that they are synced, and are not.
pub struct NoSync(pub Arc<dyn Files>);

struct NoSyncFile(Arc<dyn File>);

impl Files for NoSync {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(self.0.open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(self.0.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl File for NoSyncFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A network on which a leader's entries are acknowledged before anybody has them.
pub struct Flattery(pub Card);

impl Network for Flattery {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        self.0.dial(address)
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.bind(address)
    }
}
