//! The leader's part of leases: how much time each has left, revoking what has run out, and writing
//! the remaining time into the log so that it outlives the leader.
//!
//! Deadlines are in this process's monotonic time and never leave it. What other members know is
//! the granted time and the last checkpoint, so a lease that changes its leader lives as long as
//! its last checkpoint said, and one election timeout longer.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use crate::{
    lease::{self, ExpiryQueue, Lease, Renewal},
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest},
    },
    raft::Raft,
    types::LeaseId,
};

/// Leases revoked with one batch of proposals; the rest follows at the next turn.
const REVOKE_MAX: usize = 1000;

/// How often all leases are looked through for checkpoints.
const CHECKPOINT_TURN: Duration = Duration::from_secs(1);

/// Leases in one checkpoint command.
const CHECKPOINT_MAX: usize = 1000;

/// Knows the time that leases have left while this member leads. Clones share it.
#[derive(Clone)]
pub(crate) struct LeaseKeeper {
    raft: Raft,
    timers: Arc<Mutex<Option<Timers>>>,
}

/// Exists while this member leads.
struct Timers {
    queue: ExpiryQueue,
    /// Term in which this member leads; timers of another term are of no use.
    term: u64,
    /// When all leases were last looked through for checkpoints.
    scanned: std::time::Instant,
    /// What leases get on top after a time without a leader.
    extension: Duration,
    /// This member was cut off from its quorum, so nobody could be renewed.
    interrupted: bool,
}

impl Timers {
    /// What to do with these timers now: nothing unless this member leads in their term.
    fn in_force(&mut self, leads_in: Option<u64>, now: std::time::Instant) -> Option<&mut Timers> {
        if leads_in != Some(self.term) {
            return None;
        }
        if std::mem::take(&mut self.interrupted) {
            self.queue.resume(now, self.extension);
        }
        Some(self)
    }

    /// What is worth a checkpoint now. Looks through all leases, so not at every turn.
    fn checkpoints(&mut self, now: std::time::Instant) -> Vec<(LeaseId, i64)> {
        if now.duration_since(self.scanned) < CHECKPOINT_TURN {
            return Vec::new();
        }
        let checkpoints: Vec<_> = self.queue.checkpoints(now).take(CHECKPOINT_MAX).collect();
        if checkpoints.len() < CHECKPOINT_MAX {
            self.scanned = now;
        }
        checkpoints
    }
}

impl LeaseKeeper {
    pub(crate) fn new(raft: Raft) -> LeaseKeeper {
        LeaseKeeper { raft, timers: Arc::default() }
    }

    /// Told by the apply thread what happened to the lease table, in order.
    pub(crate) fn applied(&self, changes: &[lease::Change], now: Instant) {
        let mut timers = self.lock();
        let Some(timers) = timers.as_mut() else { return };
        for change in changes {
            match change {
                lease::Change::Granted(lease) => timers.queue.grant(*lease, now.into_std()),
                lease::Change::Revoked(id) => timers.queue.forget(*id),
                lease::Change::Checkpointed(lease) => timers.queue.checkpointed(*lease),
            }
        }
    }

    /// This member leads: takes over all leases of the table, each with what its row says is left.
    /// The caller holds back applying meanwhile, or a change between table and timers would be
    /// lost.
    pub(crate) fn take_over(
        &self,
        term: u64,
        leases: Vec<Lease>,
        now: Instant,
        extension: Duration,
    ) {
        let mut queue = ExpiryQueue::default();
        queue.promote(&leases, now.into_std(), extension);
        let scanned = now.into_std();
        *self.lock() = Some(Timers { queue, term, scanned, extension, interrupted: false });
    }

    /// Notes when this member can't lead for a while, until Raft has ended. Timers of a term that
    /// is over are dropped.
    pub(crate) async fn watch_interruptions(&self) {
        let (id, mut leadership) = (self.raft.id(), self.raft.leadership());
        loop {
            if leadership.wait_for(|now| now.leader != Some(id)).await.is_err() {
                return;
            }
            {
                let mut timers = self.lock();
                let term = self.raft.leadership().borrow().term;
                match timers.as_mut() {
                    Some(timers) if timers.term >= term => timers.interrupted = true,
                    Some(_) | None => *timers = None,
                }
            }
            if leadership.wait_for(|now| now.leader == Some(id)).await.is_err() {
                return;
            }
        }
    }

    /// Looks at the timers, if this member leads by them. `None` as well while a new leader has not
    /// yet applied what its predecessors committed.
    fn timers<T>(&self, look: impl FnOnce(&mut Timers, std::time::Instant) -> T) -> Option<T> {
        let now = Instant::now().into_std();
        let leadership = *self.raft.leadership().borrow();
        let leads_in = (leadership.leader == Some(self.raft.id())).then_some(leadership.term);
        let mut timers = self.lock();
        Some(look(timers.as_mut()?.in_force(leads_in, now)?, now))
    }

    /// The granted seconds, 0 when there is no such lease or it has run out; `None` when this
    /// member can't prove that it leads.
    pub(crate) async fn renew(&self, id: LeaseId) -> Option<i64> {
        // A deposed leader must not give a lease more time than the new one does.
        let asked = Instant::now().into_std();
        self.catch_up().await?;
        if self.timers(|timers, _| timers.queue.is_checkpointed(id))? {
            // Other members believe that less is left: tell them first.
            let reset = LeaseCheckpoint { id: id.get(), remaining_ttl: 0 };
            self.checkpoint(vec![reset]).await?;
        }
        let renewal = self.timers(|timers, now| {
            // Whoever leads since this member was asked gives every lease so much more time.
            let in_time = now.duration_since(asked) < timers.extension;
            in_time.then(|| timers.queue.renew(id, now))
        });
        Some(match renewal?? {
            Renewal::Renewed { ttl_secs } => ttl_secs,
            // What has run out stays so, even though its revocation may not have been applied yet.
            Renewal::Expired | Renewal::Unknown => 0,
        })
    }

    /// Proves that this member leads and applies all that was acknowledged before: a follower may
    /// have been faster with applying the grant of a lease. `None` when it can't.
    async fn catch_up(&self) -> Option<()> {
        let index = self.raft.read_index().await.ok()?;
        self.raft.applied().wait(index).await.ok()
    }

    /// Remaining and granted seconds. Outer `None`: this member does not lead.
    pub(crate) async fn time_to_live(&self, id: LeaseId) -> Option<Option<(i64, i64)>> {
        self.catch_up().await?;
        self.timers(|timers, now| timers.queue.time_to_live(id, now))
    }

    /// All leases, the next to run out first. `None`: this member does not lead.
    pub(crate) async fn by_deadline(&self) -> Option<Vec<LeaseId>> {
        self.catch_up().await?;
        self.timers(|timers, _| timers.queue.by_deadline().collect())
    }

    /// One turn of the leader's work. True asks for another turn at once.
    pub(crate) async fn turn(&self) -> bool {
        let work = self.timers(|timers, now| {
            let due: Vec<LeaseId> = timers.queue.due(now).take(REVOKE_MAX).collect();
            due.iter().for_each(|id| timers.queue.revoking(*id));
            (due, timers.checkpoints(now))
        });
        let Some((due, fading)) = work else { return false };
        let more = due.len() == REVOKE_MAX || fading.len() == CHECKPOINT_MAX;
        if !fading.is_empty() {
            let checkpoints = fading.into_iter();
            let checkpoints = checkpoints
                .map(|(id, left)| LeaseCheckpoint { id: id.get(), remaining_ttl: left })
                .collect();
            self.checkpoint(checkpoints).await;
        }
        let revocations = due
            .into_iter()
            .map(|id| encode(Operation::LeaseRevoke(LeaseRevokeRequest { id: id.get() })));
        // Proposed here and not forwarded: whoever lost leadership must not revoke.
        let proposed = self.raft.propose(revocations.collect()).await;
        more && proposed.iter().all(Result::is_ok)
    }

    /// `None` when the checkpoint may not have been applied.
    async fn checkpoint(&self, checkpoints: Vec<LeaseCheckpoint>) -> Option<()> {
        let command = encode(Operation::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }));
        self.raft.propose(vec![command]).await.pop()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Timers>> {
        self.timers.lock().expect("no code panics while it holds this lock")
    }
}

/// A command that nobody waits for by name, and nobody has asked for.
fn encode(operation: Operation) -> Bytes {
    let command = Command { operation: Some(operation), by_member: true, ..Default::default() };
    Bytes::from(command.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_count_only_while_this_member_leads_in_their_term() {
        let start = std::time::Instant::now();
        let lease =
            Lease { id: LeaseId::from_wire(1).unwrap(), ttl_secs: 10, remaining_secs: None };
        let mut timers = Timers {
            queue: ExpiryQueue::default(),
            term: 3,
            scanned: start,
            extension: Duration::from_secs(1),
            interrupted: false,
        };
        timers.queue.grant(lease, start);
        assert!(timers.in_force(None, start).is_none());
        assert!(timers.in_force(Some(4), start).is_none());

        let due = |timers: &mut Timers, secs| {
            let now = start + Duration::from_secs(secs);
            timers.in_force(Some(3), now).map(|timers| timers.queue.due(now).count())
        };
        assert_eq!(due(&mut timers, 9), Some(0));
        timers.interrupted = true;
        assert_eq!(due(&mut timers, 30), Some(0), "nobody could renew it");
        assert_eq!(due(&mut timers, 40), Some(0));
        assert_eq!(due(&mut timers, 41), Some(1));
    }
}
