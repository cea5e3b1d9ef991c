//! The file system as the log sees it, and the real one.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

/// Zeros written at a time where the file system can't allocate.
const ZEROS_BYTES: u64 = 1 << 20;

/// The file system as the log sees it. Names become durable with [`Files::sync_dir`] only.
pub trait Files: Send + Sync {
    /// Makes a directory and its parents, durably; does nothing if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Atomic: after a crash the file has the one name or the other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes the name away; whoever has the file open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// A number that nobody can guess; from the seed in a simulation.
    fn random(&self) -> u64;
}

/// An open file, read and written by position.
pub trait File: Send + Sync {
    fn size(&self) -> io::Result<u64>;

    /// Makes the file `size` bytes long and reserves the space; new bytes read as zeros.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Fills the buffer, or fails with `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content and the size durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// The files of the operating system.
pub struct OsFiles;

impl Files for OsFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir(parent)?;
            fs::create_dir(dir)?;
            return self.sync_dir(parent);
        }
        fs::create_dir(dir)?;
        self.sync_dir(Path::new("."))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn random(&self) -> u64 {
        // The keys of the hasher come from the operating system.
        RandomState::new().build_hasher().finish()
    }
}

impl File for fs::File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let length = i64::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match fallocate(self, FallocateFlags::empty(), 0, length) {
            Err(Errno::EOPNOTSUPP) => {
                let zeros = vec![0; ZEROS_BYTES as usize];
                let mut offset = self.metadata()?.len();
                while offset < size {
                    let count = ZEROS_BYTES.min(size - offset);
                    self.write_all_at(&zeros[..count as usize], offset)?;
                    offset += count;
                }
                Ok(())
            }
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(()),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
