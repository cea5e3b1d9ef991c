//! The directory of a store: `state-<n>/` for each generation, and the file `CURRENT` that names
//! the one in force. `CURRENT` is replaced by a rename, so a crash leaves the old name or the new
//! one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Error, engine::files_error};

const CURRENT: &str = "CURRENT";
const CURRENT_NEXT: &str = "CURRENT.next";
const PREFIX: &str = "state-";

/// Locked as long as a process has the store open.
const LOCK: &str = "LOCK";

pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Directory, Error> {
        fs::create_dir_all(path).map_err(|error| files_error(path, &error))?;
        let lock = File::create(path.join(LOCK)).map_err(|error| files_error(path, &error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Error::Files { path: path.into(), what: "is in use by another process".into() }
            }
            TryLockError::Error(error) => files_error(path, &error),
        })?;
        Ok(Directory { path: path.into(), _lock: lock })
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{number}"))
    }

    /// The generation in force; `None` before the first one is.
    pub(super) fn current(&self) -> Result<Option<u64>, Error> {
        let path = self.path.join(CURRENT);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(files_error(&path, &error)),
        };
        match text.trim_end().strip_prefix(PREFIX).and_then(|number| number.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::Files { path, what: format!("names no generation: {text:?}") }),
        }
    }

    /// Every generation that has a directory.
    pub(super) fn generations(&self) -> Result<Vec<u64>, Error> {
        let failed = |error: io::Error| files_error(&self.path, &error);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    /// Removes what an interrupted import or a switch left behind.
    pub(super) fn remove_others(&self, current: u64) -> Result<(), Error> {
        for number in self.generations()? {
            if number != current {
                let path = self.generation(number);
                fs::remove_dir_all(&path).map_err(|error| files_error(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Durable on return. `step` is told after each step that a crash could come behind.
    pub(super) fn make_current(
        &self,
        number: u64,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), Error> {
        let next = self.path.join(CURRENT_NEXT);
        let mut replace = || -> io::Result<()> {
            // The name of the generation's own directory must not be lost either.
            File::open(&self.path)?.sync_all()?;
            step("generation named");
            let mut file = File::create(&next)?;
            step("next CURRENT created");
            writeln!(file, "{PREFIX}{number}")?;
            file.sync_all()?;
            step("next CURRENT written");
            fs::rename(&next, self.path.join(CURRENT))?;
            step("CURRENT renamed");
            File::open(&self.path)?.sync_all()?;
            step("CURRENT durable");
            Ok(())
        };
        replace().map_err(|error| files_error(&self.path, &error))
    }
}
