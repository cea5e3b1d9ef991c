//! How long writes take, for whoever wants to know.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

static OBSERVER: OnceLock<fn(Duration)> = OnceLock::new();

/// Every write of a batch in this process is told from now on; the first observer stays.
pub fn observe_writes(observer: fn(Duration)) {
    let _ = OBSERVER.set(observer);
}

pub(super) fn observed<T>(write: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let written = write();
    if let Some(observer) = OBSERVER.get() {
        observer(begun.elapsed());
    }
    written
}
