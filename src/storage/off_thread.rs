//! Work on the store that would hold up the tasks of a runtime, put where it does not.

use std::{future, panic};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task,
};

/// Runs a piece of work where it holds up no other task.
///
/// A runtime with one thread has no such place, and does it where it is: so a simulation stays
/// exact.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if !has_threads() {
        return work();
    }
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => future::pending().await,
        },
    }
}

/// Goes through work that blocks between its awaits, as [`off_thread`] does; it ends by itself.
pub(crate) fn spawn_off_thread(work: impl Future<Output = ()> + Send + 'static) {
    if has_threads() {
        task::spawn_blocking(move || futures::executor::block_on(work));
    } else {
        tokio::spawn(work);
    }
}

fn has_threads() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    matches!(flavor, Ok(RuntimeFlavor::MultiThread))
}
