//! The runtime that openraft runs on: tokio, with randomness that follows from a seed.
//!
//! What is random in consensus is how long to wait before standing for election. A member's tasks
//! inherit the seed that it was started with, each with a sequence of its own, so a simulation
//! replays. Outside such a task randomness comes from the operating system.

use std::{cell::Cell, time::Duration};

use futures::FutureExt;
use openraft::{AsyncRuntime, OptionalSend, impls::TokioRuntime};
use openraft_rt::deterministic_rng::DeterministicRng;

/// Makes generators of the `rand` release that openraft uses.
type Generators = DeterministicRng<TokioRuntime>;

tokio::task_local! {
    static SEED: Cell<u64>;
}

/// Runs a future, and whatever openraft spawns in it, with randomness from the seed.
pub(crate) async fn seeded<F: Future>(seed: u64, future: F) -> F::Output {
    SEED.scope(Cell::new(seed), future).await
}

/// As [`seeded`], for what does not wait.
pub(crate) fn seeded_now<T>(seed: u64, work: impl FnOnce() -> T) -> T {
    SEED.sync_scope(Cell::new(seed), work)
}

/// The next number of the sequence at `seed` (SplitMix64).
fn next(seed: &Cell<u64>) -> u64 {
    let state = seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    seed.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[derive(Debug)]
pub(crate) struct SeededTokio(TokioRuntime);

impl AsyncRuntime for SeededTokio {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Generators as AsyncRuntime>::ThreadLocalRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match SEED.try_with(next) {
            Ok(seed) => TokioRuntime::spawn(SEED.scope(Cell::new(seed), future)),
            Err(_) => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let seed = SEED.try_with(next).unwrap_or_else(|_| rand::random());
        let generator = Generators::scope(seed, async { Generators::thread_rng() });
        generator.now_or_never().expect("there is nothing in it to wait for")
    }

    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        SeededTokio(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = std::io::Result<T>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        TokioRuntime::spawn_blocking(work)
    }
}
