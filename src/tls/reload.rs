//! A configuration made from files, made again when one of them has changed.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{info, warn};

use super::Error;

type Build<T> = Box<dyn Fn() -> Result<T, Error> + Send + Sync>;

pub(crate) struct Reloading<T> {
    paths: Vec<PathBuf>,
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// How the files looked when they were last read, whether or not they could be used then.
    stamps: Vec<Stamp>,
    made: Arc<T>,
}

/// Tells one content of a path from the next; `None` when there is no such file.
///
/// The change time counts as well as the modification time, which tools that copy files set back,
/// and the inode number, because secrets are replaced by switching a symbolic link.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

impl<T> Reloading<T> {
    pub(crate) fn new(paths: Vec<PathBuf>, build: Build<T>) -> Result<Reloading<T>, Error> {
        // Taken before reading: a file that changes meanwhile is read once more.
        let stamps = stamps(&paths);
        let made = Arc::new(build()?);
        Ok(Reloading { paths, build, state: Mutex::new(State { stamps, made }) })
    }

    /// Files that cannot be used, a certificate without its new key yet for instance, change
    /// nothing: handshakes go on with what was read before.
    pub(crate) fn current(&self) -> Arc<T> {
        // The state is whole between any two statements, so a panic elsewhere cannot have broken
        // it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.paths);
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.build)() {
                Ok(made) => {
                    state.made = Arc::new(made);
                    info!(paths = ?self.paths, "read changed TLS files");
                }
                Err(error) => warn!(%error, "changed TLS files cannot be used; keeping the old"),
            }
        }
        Arc::clone(&state.made)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        let modified = (data.mtime(), data.mtime_nsec());
        Some((data.ino(), data.size(), modified, (data.ctime(), data.ctime_nsec())))
    };
    paths.iter().map(stamp).collect()
}
