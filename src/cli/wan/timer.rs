//! Waiting for a moment, more exactly than to the millisecond that the runtime's timers go by.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, sleep_until},
};

/// A round trip has two waits, and a millisecond for each would be as much as the next zone is
/// away.
pub(super) enum Timer {
    /// The kernel's.
    Fine(AsyncFd<Clock>),
    /// The runtime's: where time is paused, and where the process may open no more files.
    Coarse,
}

/// A timer of the kernel that is a file.
pub(super) struct Clock(TimerFd);

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    pub(super) fn fine() -> Timer {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(io::Error::from);
        #[expect(deprecated, reason = "its successor is unsafe; this file is nobody else's")]
        match clock.and_then(|clock| AsyncFd::new(Clock(clock))) {
            Ok(clock) => Timer::Fine(clock),
            Err(_) => Timer::Coarse,
        }
    }

    /// Returns at that moment or soon after it, never before. May be dropped and begun anew.
    pub(super) async fn until(&self, due: Instant) {
        let Timer::Fine(clock) = self else { return sleep_until(due).await };
        loop {
            let rest = due.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let once = Expiration::OneShot(TimeSpec::from_duration(rest));
            if clock.get_ref().0.set(once, TimerSetTimeFlags::empty()).is_err() {
                return sleep_until(due).await;
            }
            loop {
                let Ok(mut ready) = clock.readable().await else { return sleep_until(due).await };
                match clock.get_ref().0.wait() {
                    // Said of an earlier wait that was dropped.
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_wait_ends_early_even_after_one_that_was_given_up() {
        let timer = Timer::fine();
        assert!(matches!(timer, Timer::Fine(_)));
        let long = Instant::now() + Duration::from_secs(600);
        tokio::select! {
            biased;
            () = timer.until(long) => panic!("ten minutes are not over"),
            () = tokio::task::yield_now() => (),
        }
        for micros in [100, 1_000, 3_300] {
            let due = Instant::now() + Duration::from_micros(micros);
            timer.until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}
