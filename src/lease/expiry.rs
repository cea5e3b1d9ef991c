//! The leader's timers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::Lease;
use crate::types::LeaseId;

/// Leases that a new leader lets run out within one second. Three quarters of the thousand that it
/// can revoke in that time, so that leases granted later are not late.
const EXPIRIES_PER_SECOND: usize = 750;

/// When each lease runs out, as seen by this leader.
///
/// Not replicated: deadlines are in this machine's monotonic time, so a new leader builds its own.
#[derive(Debug, Default)]
pub struct ExpiryQueue {
    deadlines: BTreeSet<(Instant, LeaseId)>,
    timers: BTreeMap<LeaseId, Timer>,
}

#[derive(Debug)]
struct Timer {
    lease: Lease,
    deadline: Instant,
    /// Its revocation may be in the log: nothing saves it.
    revoking: bool,
}

/// How an attempt to renew a lease went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has its full time again.
    Renewed {
        ttl_secs: i64,
    },
    /// It has run out, and its revocation is on the way: wait for that, it cannot be saved.
    Expired,
    Unknown,
}

impl ExpiryQueue {
    /// Starts over with the leases that a new leader finds. It cannot know when they were renewed
    /// last, so each gets what its last checkpoint left it, and `extension` for the time without a
    /// leader.
    pub fn promote(&mut self, leases: &[Lease], now: Instant, extension: Duration) {
        self.clear();
        let mut by_time: Vec<_> =
            leases.iter().map(|lease| (now + time_left(lease) + extension, lease)).collect();
        by_time.sort_by_key(|(deadline, lease)| (*deadline, lease.id));
        // Leases that would run out together are spread over the seconds that revoking them takes.
        let mut window = now;
        let mut in_window = 0;
        for (deadline, lease) in by_time {
            if deadline >= window + Duration::from_secs(1) {
                (window, in_window) = (deadline, 0);
            } else if in_window == EXPIRIES_PER_SECOND {
                (window, in_window) = (window + Duration::from_secs(1), 0);
            }
            in_window += 1;
            self.set(*lease, deadline.max(window));
        }
    }

    /// Starts over with the leases that are here: nobody could be renewed for a while, so each has
    /// what a new leader would give it.
    pub fn resume(&mut self, now: Instant, extension: Duration) {
        let timers = std::mem::take(&mut self.timers);
        let (revoking, leases): (Vec<_>, Vec<_>) =
            timers.into_values().partition(|timer| timer.revoking);
        let leases: Vec<Lease> = leases.into_iter().map(|timer| timer.lease).collect();
        self.promote(&leases, now, extension);
        for timer in revoking {
            self.set(timer.lease, now);
            self.revoking(timer.lease.id);
        }
    }

    /// The revocation of a lease is about to be proposed. It may be committed at any time from then
    /// on, even after this leader was cut off from its quorum for a while.
    pub fn revoking(&mut self, id: LeaseId) {
        if let Some(timer) = self.timers.get_mut(&id) {
            timer.revoking = true;
        }
    }

    /// Leadership is lost: another member counts now.
    pub fn clear(&mut self) {
        self.deadlines.clear();
        self.timers.clear();
    }

    /// Starts the timer of a lease that was just granted.
    pub fn grant(&mut self, lease: Lease, now: Instant) {
        self.set(lease, now + time_left(&lease));
    }

    /// Gives a lease its full time again. A lease with a checkpoint needs that reset first, or the
    /// next leader would count from the old checkpoint: see [`ExpiryQueue::is_checkpointed`].
    pub fn renew(&mut self, id: LeaseId, now: Instant) -> Renewal {
        let Some(timer) = self.timers.get(&id) else { return Renewal::Unknown };
        if timer.revoking || timer.deadline <= now {
            return Renewal::Expired;
        }
        let lease = timer.lease;
        self.set(lease, now + seconds(lease.ttl_secs));
        Renewal::Renewed { ttl_secs: lease.ttl_secs }
    }

    /// A checkpoint was applied. It says what the other members know; the timer runs on.
    pub fn checkpointed(&mut self, lease: Lease) {
        if let Some(timer) = self.timers.get_mut(&lease.id) {
            timer.lease = lease;
        }
    }

    /// Whether the other members believe that less than the full time is left.
    pub fn is_checkpointed(&self, id: LeaseId) -> bool {
        self.timers.get(&id).is_some_and(|timer| timer.lease.remaining_secs.is_some())
    }

    /// The lease was revoked.
    pub fn forget(&mut self, id: LeaseId) {
        if let Some(timer) = self.timers.remove(&id) {
            self.deadlines.remove(&(timer.deadline, id));
        }
    }

    /// Leases to revoke, earliest first. They stay queued until the revocation has been applied.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = LeaseId> + '_ {
        self.deadlines.iter().take_while(move |(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// When the next lease runs out.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// All leases, the next to expire first.
    pub fn by_deadline(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.deadlines.iter().map(|(_, id)| *id)
    }

    /// What is left of a lease; zero when it has run out.
    pub fn remaining(&self, id: LeaseId, now: Instant) -> Option<Duration> {
        let timer = self.timers.get(&id)?;
        Some(timer.deadline.saturating_duration_since(now))
    }

    /// Seconds left, rounded down, and seconds granted; `None` for what has run out too.
    pub fn time_to_live(&self, id: LeaseId, now: Instant) -> Option<(i64, i64)> {
        let left = self.remaining(id, now).filter(|left| !left.is_zero())?;
        let left_secs = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        Some((left_secs, self.timers.get(&id)?.lease.ttl_secs))
    }

    /// Leases with the seconds left to them that the other members should be told: those that have
    /// less than half of what the others know.
    ///
    /// Halving bounds both sides: a lease that loses its leader lives at most twice as long as it
    /// had left, and one that is renewed in time, as clients do at a third of it, is never written
    /// about.
    pub fn checkpoints(&self, now: Instant) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        let worth_telling = move |timer: &Timer| {
            let left = timer.deadline.saturating_duration_since(now);
            let known = time_left(&timer.lease);
            let left_secs = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            (left_secs > 0 && left * 2 < known).then_some((timer.lease.id, left_secs))
        };
        self.timers.values().filter_map(worth_telling)
    }

    fn set(&mut self, lease: Lease, deadline: Instant) {
        self.forget(lease.id);
        self.deadlines.insert((deadline, lease.id));
        self.timers.insert(lease.id, Timer { lease, deadline, revoking: false });
    }
}

/// What the replicated table says is left.
fn time_left(lease: &Lease) -> Duration {
    seconds(lease.remaining_secs.unwrap_or(lease.ttl_secs))
}

/// Bounded, so that adding it to an instant cannot overflow.
fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0)).min(super::TTL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(id: i64, ttl_secs: i64, remaining: impl Into<Option<i64>>) -> Lease {
        Lease { id: LeaseId::from_wire(id).unwrap(), ttl_secs, remaining_secs: remaining.into() }
    }

    fn ids(due: impl Iterator<Item = LeaseId>) -> Vec<i64> {
        due.map(LeaseId::get).collect()
    }

    #[test]
    fn a_lease_is_due_when_its_time_is_over_and_until_it_is_forgotten() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        queue.grant(lease(1, 10, None), start);
        queue.grant(lease(2, 5, None), start);
        queue.grant(lease(-3, 5, None), start + SECOND);
        assert_eq!(queue.next_deadline(), Some(start + 5 * SECOND));
        assert_eq!(queue.due(start + 4 * SECOND).count(), 0);
        assert_eq!(ids(queue.due(start + 6 * SECOND)), [2, -3]);
        assert_eq!(ids(queue.by_deadline()), [2, -3, 1]);
        queue.forget(LeaseId::from_wire(2).unwrap());
        assert_eq!(ids(queue.due(start + 10 * SECOND)), [-3, 1]);
    }

    #[test]
    fn a_lease_whose_revocation_may_be_in_the_log_is_not_saved_by_a_pause() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        let (doomed, other) = (lease(1, 2, None), lease(2, 2, None));
        queue.grant(doomed, start);
        queue.grant(other, start);
        queue.revoking(doomed.id);
        queue.resume(start + 3 * SECOND, SECOND);
        assert_eq!(queue.renew(doomed.id, start + 3 * SECOND), Renewal::Expired);
        assert_eq!(ids(queue.due(start + 3 * SECOND)), [1]);
        let renewed = Renewal::Renewed { ttl_secs: 2 };
        assert_eq!(queue.renew(other.id, start + 3 * SECOND), renewed);
    }

    #[test]
    fn a_renewed_lease_is_not_due_and_an_expired_one_cannot_be_renewed() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        let granted = lease(7, 10, None);
        queue.grant(granted, start);
        let renewed = Renewal::Renewed { ttl_secs: 10 };
        assert_eq!(queue.renew(granted.id, start + 9 * SECOND), renewed);
        assert_eq!(queue.due(start + 11 * SECOND).count(), 0);
        assert_eq!(queue.remaining(granted.id, start + 11 * SECOND), Some(8 * SECOND));
        assert_eq!(queue.renew(granted.id, start + 19 * SECOND), Renewal::Expired);
        assert_eq!(queue.remaining(granted.id, start + 20 * SECOND), Some(Duration::ZERO));
        queue.forget(granted.id);
        assert_eq!(queue.renew(granted.id, start + 20 * SECOND), Renewal::Unknown);
        assert_eq!(queue.remaining(granted.id, start), None);
    }

    #[test]
    fn a_new_leader_counts_from_the_last_checkpoint_and_adds_the_extension() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        queue.grant(lease(9, 1, None), start);
        queue.promote(&[lease(1, 60, None), lease(2, 60, 20)], start, 2 * SECOND);
        assert_eq!(queue.remaining(LeaseId::from_wire(1).unwrap(), start), Some(62 * SECOND));
        assert_eq!(queue.remaining(LeaseId::from_wire(2).unwrap(), start), Some(22 * SECOND));
        assert_eq!(ids(queue.by_deadline()), [2, 1]);
    }

    #[test]
    fn a_leader_that_was_cut_off_gives_what_a_new_one_would() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        queue.grant(lease(1, 10, None), start);
        queue.grant(lease(2, 60, 20), start);
        queue.resume(start + 30 * SECOND, 2 * SECOND);
        let left = |id| queue.remaining(LeaseId::from_wire(id).unwrap(), start + 30 * SECOND);
        assert_eq!([left(1), left(2)], [Some(12 * SECOND), Some(22 * SECOND)]);
    }

    #[test]
    fn a_new_leader_spreads_leases_that_would_run_out_together() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        let leases: Vec<_> = (1..=2000).map(|id| lease(id, 10, None)).collect();
        queue.promote(&leases, start, Duration::ZERO);
        let due = |after| queue.due(start + after * SECOND).count();
        assert_eq!([due(9), due(10), due(11), due(12)], [0, 750, 1500, 2000]);
    }

    #[test]
    fn checkpoints_are_due_when_others_believe_too_much() {
        let (start, mut queue) = (Instant::now(), ExpiryQueue::default());
        let granted = lease(1, 1000, None);
        queue.grant(granted, start);
        queue.grant(lease(2, 9000, None), start);
        let told = |queue: &ExpiryQueue, after| {
            let checkpoints = queue.checkpoints(start + after * SECOND);
            checkpoints.map(|(id, left)| (id.get(), left)).collect::<Vec<_>>()
        };
        assert_eq!(told(&queue, 500), []);
        assert_eq!(told(&queue, 501), [(1, 499)]);
        assert!(!queue.is_checkpointed(granted.id));
        queue.checkpointed(Lease { remaining_secs: Some(499), ..granted });
        assert!(queue.is_checkpointed(granted.id));
        assert_eq!(told(&queue, 750), []);
        assert_eq!(told(&queue, 751), [(1, 249)]);
        assert_eq!(queue.remaining(granted.id, start), Some(1000 * SECOND));
    }
}
