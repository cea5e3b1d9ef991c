//! Waiting until this member has applied an entry.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

/// How far this member has applied the log, and who waits for it to go further.
///
/// Kept beside openraft's own metrics because those wake every waiter at every change.
#[derive(Clone, Default)]
pub struct Applied(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    /// Index of the newest applied entry; `None` before the first.
    index: Option<u64>,
    /// Nothing more will be applied.
    closed: bool,
    /// By the index waited for. Bounded by the requests that are admitted at one time.
    waiters: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl Applied {
    /// Index of the newest applied entry, 0 when there is none.
    pub fn index(&self) -> u64 {
        self.lock().index.unwrap_or(0)
    }

    /// Returns once the entry at `index` has been applied.
    ///
    /// # Errors
    /// The member is stopping.
    pub async fn wait(&self, index: u64) -> Result<(), oneshot::error::RecvError> {
        let waiter = {
            let mut progress = self.lock();
            if progress.index.is_some_and(|applied| applied >= index) {
                return Ok(());
            }
            let (sender, waiter) = oneshot::channel();
            // Without its sender the wait ends at once.
            if !progress.closed {
                progress.waiters.entry(index).or_default().push(sender);
            }
            waiter
        };
        waiter.await
    }

    pub(crate) fn advance(&self, index: u64) {
        let ready = {
            let mut progress = self.lock();
            progress.index = Some(index);
            let later = progress.waiters.split_off(&(index + 1));
            std::mem::replace(&mut progress.waiters, later)
        };
        for waiter in ready.into_values().flatten() {
            // A waiter that has given up is no loss.
            let _ = waiter.send(());
        }
    }

    /// Ends every wait with an error: nothing more will be applied.
    pub(crate) fn close(&self) {
        let mut progress = self.lock();
        progress.closed = true;
        progress.waiters.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_wait_ends_when_its_entry_is_applied() {
        let applied = Applied::default();
        let (mut third, mut fifth) = (Box::pin(applied.wait(3)), Box::pin(applied.wait(5)));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(fifth.as_mut().now_or_never().is_none());
        applied.advance(4);
        assert_eq!(third.as_mut().now_or_never(), Some(Ok(())));
        assert!(fifth.as_mut().now_or_never().is_none());
        assert_eq!(applied.wait(4).now_or_never(), Some(Ok(())));
        applied.close();
        assert!(fifth.as_mut().now_or_never().is_some_and(|ended| ended.is_err()));
        assert!(applied.wait(6).now_or_never().is_some_and(|ended| ended.is_err()));
        assert_eq!(applied.wait(4).now_or_never(), Some(Ok(())));
    }
}
