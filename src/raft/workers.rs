//! Where the log's writer and the apply loop run: both block on the disk.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
};

/// Where they run, as the one who starts the member wants it.
#[derive(Clone, Debug)]
pub enum Workers {
    /// Each on a thread of its own.
    Threads(Threads),
    /// As tasks of the runtime, so that a simulation decides the order of everything.
    Tasks,
}

impl Workers {
    pub(super) fn run(
        &self,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Workers::Threads(threads) => threads.spawn(name, work),
            Workers::Tasks => {
                tokio::spawn(work);
                Ok(())
            }
        }
    }
}

/// The threads of a member; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Threads {
    fn spawn(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        // The work needs nothing of a runtime: it waits on channels and blocks on the disk.
        let thread = Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || futures::executor::block_on(work))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Waits until they have ended, each with everything that it held. Each ends when nobody can
    /// ask it for anything any more: the runtime that the member ran on must be gone.
    ///
    /// The process must not end before: at its exit RocksDB destroys what all its stores share, and
    /// a thread that closes one at that moment aborts the process.
    pub fn join(&self) {
        let threads: Vec<_> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for thread in threads {
            // A thread that panicked has aborted the process.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use tokio::sync::oneshot;

    use super::*;

    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(20));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn joining_waits_for_what_the_work_held() {
        let (threads, closed) = (Threads::default(), Arc::new(AtomicBool::new(false)));
        let (asks, asked) = oneshot::channel::<()>();
        let held = Held(closed.clone());
        let work = async move {
            let _held = held;
            let _ = asked.await;
        };
        threads.clone().spawn("held", work).unwrap();
        drop(asks);
        threads.join();
        assert!(closed.load(Ordering::SeqCst));
    }
}
