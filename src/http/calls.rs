//! The calls of an HTTP/2 connection, as parts of the connection's own task.
//!
//! As tasks of their own, each would wake the connection when it has its answer, to be written
//! alone. As parts of it, all that have their answers are written together: sixteen clients that
//! share a connection cost one call of the kernel, not sixteen, and that is most of what a small
//! answer costs. Work that takes long is none of a call's: it goes to other threads.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::rt::Executor;

/// For so long calls are gone on with before what they have answered is written.
const TURN: Duration = Duration::from_millis(1);

/// Takes the calls that a connection starts.
#[derive(Clone, Default)]
pub(super) struct Started(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Started {
    fn execute(&self, call: F) {
        // A call that panics ends alone, as a task would; the panic has been reported by then.
        let call = AssertUnwindSafe(call).catch_unwind().map(drop);
        self.0.lock().expect(UNPOISONED).push(call.boxed());
    }
}

const UNPOISONED: &str = "no code panics while it holds this lock";

/// The calls of a connection. Those under way end with it.
pub(super) struct Calls {
    started: Started,
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Calls {
    pub(super) fn new(started: Started) -> Calls {
        Calls { started, under_way: FuturesUnordered::new() }
    }

    /// Goes on with the connection and its calls until the connection ends.
    ///
    /// Calls come first: tokio lets a task do so much at a time, and a connection that has much to
    /// write takes all of it.
    pub(super) async fn with<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        std::future::poll_fn(|context| {
            loop {
                let some_wait = self.turn(context);
                if let Poll::Ready(outcome) = connection.as_mut().poll(context) {
                    return Poll::Ready(outcome);
                }
                if !self.take_started() && !some_wait {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Whether the connection has started calls.
    fn take_started(&mut self) -> bool {
        let mut started = self.started.0.lock().expect(UNPOISONED);
        let are_some = !started.is_empty();
        self.under_way.extend(started.drain(..));
        are_some
    }

    /// Goes on with the calls that can. Whether some of them may have to wait for the next turn.
    fn turn(&mut self, context: &mut Context<'_>) -> bool {
        let began = Instant::now();
        while let Poll::Ready(Some(())) = self.under_way.poll_next_unpin(context) {
            if began.elapsed() > TURN {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::task::noop_waker_ref;
    use tokio::sync::broadcast;

    use super::*;

    /// A connection that is polled as often as this says, and starts `calls` at its first turn.
    fn connection<F: Future<Output = ()> + Send + 'static>(
        started: &Started,
        mut calls: Vec<F>,
        polled: &AtomicUsize,
    ) -> impl Future<Output = ()> {
        std::future::poll_fn(move |_| {
            polled.fetch_add(1, Ordering::Relaxed);
            calls.drain(..).for_each(|call| started.execute(call));
            Poll::Pending
        })
    }

    fn poll(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(noop_waker_ref())).is_ready()
    }

    #[test]
    fn what_is_answered_at_once_is_written_at_once() {
        let (started, polled) = (Started::default(), AtomicUsize::new(0));
        let (applied, _) = broadcast::channel::<()>(1);
        let calls = (0..16).map(|_| applied.subscribe()).map(|mut applied| async move {
            applied.recv().await.unwrap();
        });
        let connection = connection(&started, calls.collect(), &polled);
        let mut calls = Calls::new(started.clone());
        {
            let connection = std::pin::pin!(connection);
            let mut both = std::pin::pin!(calls.with(connection));
            assert!(!poll(both.as_mut()));
            assert_eq!(polled.load(Ordering::Relaxed), 2, "none has an answer");
            applied.send(()).unwrap();
            assert!(!poll(both.as_mut()));
        }
        assert!(calls.under_way.is_empty());
        assert_eq!(polled.load(Ordering::Relaxed), 3, "once for sixteen answers");
    }

    #[test]
    fn a_call_that_panics_ends_alone() {
        let (started, polled) = (Started::default(), AtomicUsize::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let calls = (0..3).map(|number| {
            let ended = ended.clone();
            async move {
                assert_ne!(number, 1, "the one that this test is about");
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
        let connection = connection(&started, calls.collect(), &polled);
        let mut calls = Calls::new(started.clone());
        let connection = std::pin::pin!(connection);
        assert!(!poll(std::pin::pin!(calls.with(connection))));
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn answers_are_not_kept_back_by_calls_that_take_long() {
        let (started, polled) = (Started::default(), AtomicUsize::new(0));
        let calls = (0..3).map(|_| async { std::thread::sleep(2 * TURN) });
        let connection = connection(&started, calls.collect(), &polled);
        let mut calls = Calls::new(started.clone());
        let connection = std::pin::pin!(connection);
        assert!(!poll(std::pin::pin!(calls.with(connection))));
        assert!(polled.load(Ordering::Relaxed) >= 4, "after each of them");
    }
}
