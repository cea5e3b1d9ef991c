//! Files that nobody waits for: `--unsafe-no-fsync`.

use std::{io, path::Path, sync::Arc};

use super::{File, Files};

/// Files that are written and not made durable: what a crash of the machine leaves of them, or in
/// which order, nobody knows. A crash of the process alone loses nothing.
pub struct UnsyncedFiles<F>(pub F);

struct Unsynced(Arc<dyn File>);

impl<F: Files> Files for UnsyncedFiles<F> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Unsynced(self.0.open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Unsynced(self.0.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl File for Unsynced {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::FaultyFiles;

    /// What a file holds that was written and synced, after this happened.
    fn left(unsynced: bool, happen: impl Fn(&FaultyFiles)) -> Option<Vec<u8>> {
        let (disk, path) = (FaultyFiles::new(7), Path::new("/log/file"));
        let files: Box<dyn Files> = match unsynced {
            true => Box::new(UnsyncedFiles(disk.clone())),
            false => Box::new(disk.clone()),
        };
        files.create_dir(Path::new("/log")).unwrap();
        let file = files.create(path).unwrap();
        file.write_at(b"acknowledged", 0).unwrap();
        file.sync().unwrap();
        files.sync_dir(Path::new("/log")).unwrap();
        drop(file);
        happen(&disk);
        disk.content(path)
    }

    #[test]
    fn what_is_not_synced_survives_the_process_and_not_the_machine() {
        let whole = Some(b"acknowledged".to_vec());
        assert_eq!(left(true, |_| ()), whole);
        assert_eq!(left(false, FaultyFiles::lose_power), whole);
        assert_ne!(left(true, FaultyFiles::lose_power), whole);
    }
}
