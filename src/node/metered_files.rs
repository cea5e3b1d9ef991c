//! The log's files with a clock: how long the disk takes is what etcd's dashboards look at first.

use std::{io, path::Path, sync::Arc, time::Instant};

use crate::{
    log::{File, Files},
    telemetry::METERS,
};

/// Files whose writes and syncs are timed.
pub(crate) struct MeteredFiles(pub(crate) Arc<dyn Files>);

struct MeteredFile(Arc<dyn File>);

impl Files for MeteredFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MeteredFile(self.0.open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MeteredFile(self.0.create(path)?)))
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

impl File for MeteredFile {
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
        let begun = Instant::now();
        self.0.write_at(bytes, offset)?;
        METERS.disk.log_write.observe(begun.elapsed());
        METERS.disk.log_bytes.inc_by(bytes.len().cast_signed() as i64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let begun = Instant::now();
        self.0.sync()?;
        METERS.disk.log_sync.observe(begun.elapsed());
        Ok(())
    }
}
