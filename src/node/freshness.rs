//! How old this member's state may be, by its own clock alone.
//!
//! The answer to a round of read index is an index: whoever has applied it lacks nothing that was
//! acknowledged before the round *began*. So a member notes, by its own monotonic clock, when it
//! sent the question, never when the answer came; once it has applied the index, its state is no
//! older than that. No clock is compared with another one.
//!
//! Rounds come from strong reads, and from the beacon, which makes them while bounded reads are
//! asked for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// How far a read may lag; at least one of the two is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Everything acknowledged so long before the request arrived is seen.
    pub time: Option<Duration>,
    /// At most so many revisions are missing of those there were when the leader was last asked,
    /// which is at most `time` ago; without `time` it is asked for each read. Counted in entries of
    /// the log, each of which makes one revision or none, so never too few.
    pub revisions: Option<u64>,
}

/// Rounds in each span of the tightest bound. The state is at most one round trip and one pause old
/// while the leader answers, so a bound of twice the round trip is met without waiting for it.
const ROUNDS_IN_BOUND: u32 = 4;

/// However tight the bound, so many rounds at most are made: 40 in a second.
const PAUSE_MIN: Duration = Duration::from_millis(25);

/// A round that failed is repeated after so long at most: the leader may be back.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// The beacon goes on for so long after the last read that wanted it, or for two of its bounds.
const WANTED_FOR: Duration = Duration::from_secs(10);

/// Answered rounds of which nothing has been applied. Beyond that a member is so far behind that
/// it does not matter which of them it forgets.
const ROUNDS_MAX: usize = 64;

/// A round of read index that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    sent: Instant,
    index: u64,
}

/// What is known of the age of this member's state. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Beacon(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// Counts the answered rounds.
    answered: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Both `sent` and `index` rise: a round that another one says more than is not kept. The first
    /// may have been applied, the others had not when it was last looked.
    rounds: VecDeque<Round>,
    begun: Option<Instant>,
    failed: bool,
    demand: Demand,
}

/// Who wants the beacon.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    /// For as long as the member runs.
    standing: Option<Duration>,
    /// The tightest bound that was asked for lately, and until when that counts.
    asked: Option<(Duration, Instant)>,
}

impl Demand {
    fn ask(&mut self, bound: Duration, now: Instant) {
        let is_tightest =
            self.asked.is_none_or(|(tightest, until)| bound <= tightest || now > until);
        if is_tightest {
            let lasting = WANTED_FOR.max(bound.saturating_mul(2));
            // A bound that no clock can reach needs no beacon.
            self.asked = now.checked_add(lasting).map(|until| (bound, until));
        }
    }

    /// Time between two rounds.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let asked = self.asked.filter(|(_, until)| now <= *until).map(|(bound, _)| bound);
        let tightest = self.standing.into_iter().chain(asked).min()?;
        Some((tightest / ROUNDS_IN_BOUND).max(PAUSE_MIN))
    }
}

impl Known {
    /// Forgets all rounds that have been applied but the newest of them, which says most.
    fn settle(&mut self, applied: u64) {
        while self.rounds.get(1).is_some_and(|second| second.index <= applied) {
            self.rounds.pop_front();
        }
    }

    fn note(&mut self, round: Round, applied: u64) {
        self.settle(applied);
        // Rounds overlap, and an earlier one may be answered later.
        let says_more = |one: &Round, other: &Round| {
            one.sent >= other.sent && (one.index <= other.index || one.index <= applied)
        };
        if self.rounds.iter().any(|known| says_more(known, &round)) {
            return;
        }
        self.rounds.retain(|known| !says_more(&round, known));
        let at = self.rounds.partition_point(|known| known.sent < round.sent);
        self.rounds.insert(at, round);
        if self.rounds.len() > ROUNDS_MAX {
            // The first is proven next, and the last tells how much is missing.
            self.rounds.remove(ROUNDS_MAX - 1);
        }
    }

    /// The index that must have been applied for a read that arrived then to keep its bound; `None`
    /// when no answered round can tell.
    fn target(&self, bound: Bound, arrived: Instant) -> Option<u64> {
        let newest = self.rounds.back()?;
        let most = bound.revisions.map_or(0, |missing| newest.index.saturating_sub(missing));
        let Some(time) = bound.time else {
            return (newest.sent >= arrived).then_some(most);
        };
        // A clock does not go back that far: anything is new enough.
        let since = arrived.checked_sub(time);
        let is_recent = |round: &&Round| since.is_none_or(|since| round.sent >= since);
        let proof = self.rounds.iter().find(is_recent)?;
        Some(proof.index.max(most))
    }

    /// When the next round is due; `None` while nobody wants one.
    fn due(&self, now: Instant) -> Option<Instant> {
        let pause = self.demand.pause(now)?;
        let pause = if self.failed { pause.min(RETRY_MAX) } else { pause };
        // A bound may be longer than any clock runs.
        self.begun.map_or(Some(now), |begun| begun.checked_add(pause))
    }
}

impl Beacon {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().expect("no code panics while it holds this lock")
    }

    /// A round begins now. What is returned goes with its answer.
    pub(crate) fn begin(&self) -> Instant {
        let sent = Instant::now();
        self.known().begun = Some(sent);
        sent
    }

    /// The round that began then was answered, while `applied` was the newest applied index here;
    /// `None` when it failed.
    pub(crate) fn end(&self, sent: Instant, answer: Option<u64>, applied: u64) {
        let mut known = self.known();
        known.failed = answer.is_none();
        let Some(index) = answer else { return };
        known.note(Round { sent: stamp(sent), index }, applied);
        drop(known);
        self.0.answered.send_modify(|answered| *answered += 1);
    }

    /// Wakes whoever waits for [`Beacon::target`] to say something else.
    pub(crate) fn answered(&self) -> watch::Receiver<u64> {
        self.0.answered.subscribe()
    }

    /// The index that must have been applied for a read that arrived then to keep its bound; `None`
    /// when no answered round can tell.
    pub(crate) fn target(&self, bound: Bound, arrived: Instant) -> Option<u64> {
        self.known().target(bound, arrived)
    }

    /// How long before then everything had been acknowledged that a member has which has applied
    /// so far; `None` when no round has told. Never too little.
    pub(crate) fn staleness(&self, applied: u64, arrived: Instant) -> Option<Duration> {
        let mut known = self.known();
        known.settle(applied);
        let proven = known.rounds.front().filter(|round| round.index <= applied)?;
        Some(arrived.saturating_duration_since(proven.sent))
    }

    /// Has the beacon run for a while, often enough for reads of this bound.
    pub(crate) fn want(&self, bound: Duration) {
        let now = Instant::now();
        self.change_demand(now, |demand| demand.ask(bound, now));
    }

    /// Has the beacon run for good.
    pub(crate) fn always_want(&self, bound: Duration) {
        self.change_demand(Instant::now(), |demand| {
            demand.standing = demand.standing.into_iter().chain([bound]).min();
        });
    }

    /// Wakes the beacon only if it has to come sooner.
    fn change_demand(&self, now: Instant, change: impl FnOnce(&mut Demand)) {
        let comes_sooner = {
            let mut known = self.known();
            let before = known.demand.pause(now);
            change(&mut known.demand);
            let after = known.demand.pause(now);
            after.is_some_and(|after| before.is_none_or(|before| after < before))
        };
        if comes_sooner {
            self.0.wanted.notify_one();
        }
    }

    /// Returns when somebody wants a round and it is due. Rounds that strong reads make count: as
    /// long as there are enough of those, it does not return.
    pub(crate) async fn until_due(&self) {
        loop {
            let now = Instant::now();
            let due = self.known().due(now);
            if due.is_some_and(|due| due <= now) {
                return;
            }
            let until_due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A strong read may have made one meanwhile, or nobody wants one any more.
                () = until_due => {}
                () = self.0.wanted.notified() => {}
            }
        }
    }
}

/// When a round counts from. The answer tells of the moment at which it was given and of none
/// after, and only the question is surely older.
fn stamp(sent: Instant) -> Instant {
    fail::fail_point!("freshness-stamped-late", |_| Instant::now());
    sent
}

#[cfg(test)]
mod tests;
