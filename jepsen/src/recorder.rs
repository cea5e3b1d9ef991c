//! The run's notebook: one clock and one history for everybody who sees something.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::history::{History, Nanos, Process};

/// Clones write into the same history.
#[derive(Clone, Debug)]
pub struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
    processes: Arc<AtomicU64>,
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder { began: Instant::now(), history: Arc::default(), processes: Arc::default() }
    }

    pub fn now(&self) -> Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// A number that no process has had.
    pub fn new_process(&self) -> Process {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}
