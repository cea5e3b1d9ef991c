//! Connections that other members made: at most one per member and lane.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::handshake::{Hello, Lane};
use crate::types::MemberId;

/// What is connected now. A member that dials anew has given up its older connection, perhaps
/// without our having heard of it, so the newer one takes its place.
#[derive(Default)]
pub(super) struct Incoming(Mutex<Connections>);

#[derive(Default)]
struct Connections {
    by_lane: BTreeMap<(MemberId, Lane), (u64, CancellationToken)>,
    count: u64,
}

impl Incoming {
    /// Ends the older connection and gives the new one a number. `close` ends the new one.
    pub(super) fn enter(&self, hello: &Hello, close: CancellationToken) -> u64 {
        let mut connections = self.lock();
        connections.count += 1;
        let number = connections.count;
        let entry = (number, close);
        if let Some((_, older)) = connections.by_lane.insert((hello.member, hello.lane), entry) {
            older.cancel();
        }
        number
    }

    /// The connection of that number is over.
    pub(super) fn leave(&self, hello: &Hello, number: u64) {
        let mut connections = self.lock();
        let key = (hello.member, hello.lane);
        if connections.by_lane.get(&key).is_some_and(|(current, _)| *current == number) {
            connections.by_lane.remove(&key);
        }
    }

    /// Ends all connections of the member.
    pub(super) fn close(&self, member: MemberId) {
        self.lock().by_lane.retain(|(from, _), (_, close)| {
            if *from == member {
                close.cancel();
            }
            *from != member
        });
    }

    /// How many are connected.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().by_lane.len()
    }

    /// No change can be left half-way by a panic, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a log line through once a second.
#[derive(Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// `None` to say nothing now; else how many lines were not said since the last one.
    pub(super) fn allow(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now - last < Duration::from_secs(1)) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_counts_those_left_out() {
        let seldom = Seldom::default();
        assert_eq!([(); 4].map(|()| seldom.allow()), [Some(0), None, None, None]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([(); 2].map(|()| seldom.allow()), [Some(3), None]);
    }
}
