//! The work that goes on beside requests: one loop for each kind, each a turn at a time.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::{
    cluster::Members,
    log::Meter,
    node::{
        keeper::LeaseKeeper,
        reconcile::{self, RaftMembers, Step},
    },
    raft::{Raft, Retention},
    storage::Storage,
    types::MemberId,
};

/// How often the leader looks for leases that have run out: a lease is revoked so much later at
/// most.
const LEASE_TURN: Duration = Duration::from_millis(100);

/// How often the leader looks whether Raft's membership differs from the list.
const RECONCILE_TURN: Duration = Duration::from_millis(200);

/// How often it is asked whether the state should be flushed.
const RETENTION_TURN: Duration = Duration::from_millis(500);

/// State that is not flushed after this time is, so that a restart has little to replay.
const FLUSH_AFTER: Duration = Duration::from_secs(30);

/// Bytes that the log may take on disk, the newest segments aside: what a member that was away can
/// still be sent entry by entry. Much more than that, and a snapshot is quicker.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// After a snapshot was sent, the time until its receiver asks for the entries that follow.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(2);

/// Revokes leases that have run out and checkpoints the others, while this member leads.
pub(crate) async fn keep_leases(keeper: LeaseKeeper, raft: Raft) {
    let turns = async {
        while !raft.is_stopped() {
            if !keeper.turn().await {
                tokio::time::sleep(LEASE_TURN).await;
            }
        }
    };
    // Beside the turns, because one that proposes waits as long as there is no quorum.
    tokio::join!(turns, keeper.watch_interruptions());
}

/// Brings Raft's membership in line with the list, while this member leads.
pub(crate) async fn reconcile_members(
    raft: Raft,
    members: watch::Receiver<Arc<Members>>,
    election: Duration,
) {
    while !raft.is_stopped() {
        tokio::time::sleep(RECONCILE_TURN).await;
        if raft.leadership().borrow().leader != Some(raft.id()) {
            continue;
        }
        let learners = raft.learners();
        let connected = |id: &MemberId| raft.connected_for(*id, Duration::ZERO);
        let ready = raft.caught_up().intersection(&learners).copied().filter(connected).collect();
        let joint = raft.is_joint();
        let now = RaftMembers { voters: raft.voters(), learners, ready, joint };
        let step = reconcile::next_step(&members.borrow(), &now);
        let done = match step {
            None => continue,
            Some(Step::AddLearner(id)) => raft.add_learner(id).await,
            Some(Step::Promote(id)) => raft.add_voter(id).await,
            // Whoever takes over removes this member, and nobody waits for an election.
            Some(Step::Remove(id)) if id == raft.id() && hand_over(&raft, None, election).await => {
                continue;
            }
            Some(Step::Remove(id)) => raft.remove(id).await,
            Some(Step::Finish) => raft.finish_change().await,
        };
        match done {
            Ok(()) => info!(?step, "changed Raft's membership"),
            Err(error) => warn!(?step, %error, "could not change Raft's membership; trying again"),
        }
    }
}

/// Whether another member leads now, preferably this one.
pub(crate) async fn hand_over(raft: &Raft, to: Option<MemberId>, election: Duration) -> bool {
    let Some(successor) = to.or_else(|| raft.successor()) else { return false };
    match raft.transfer_leader(successor, election).await {
        Ok(()) => info!(to = %successor, "handed leadership over"),
        Err(error) => {
            warn!(%error, "could not hand leadership over");
            return false;
        }
    }
    true
}

/// Has the state flushed and the log purged: after so many entries, after some time in any case,
/// and when the log has too many bytes.
///
/// A member that is being sent a snapshot needs the log behind it, so only bytes count meanwhile.
pub(crate) async fn retain(raft: Raft, storage: Storage, log: Meter, retention: Retention) {
    let (mut flushed, mut at) = (raft.applied().index(), Instant::now());
    let mut sent = None;
    while !raft.is_stopped() {
        tokio::time::sleep(RETENTION_TURN).await;
        if raft.is_sending_snapshot() {
            sent = Some(Instant::now());
        }
        let entries = raft.applied().index().saturating_sub(flushed);
        let due =
            entries >= retention.snapshot_count || (entries > 0 && at.elapsed() >= FLUSH_AFTER);
        let needed = sent.is_some_and(|sent| sent.elapsed() < SNAPSHOT_GRACE);
        let excess = log.excess(LOG_BYTES_MAX);
        let durable = storage.durable().map_or(0, |id| id.index);
        if due && !needed || excess.is_some_and(|upto| upto > durable) {
            (flushed, at) = (raft.applied().index(), Instant::now());
            raft.flush_and_purge().await;
        }
        if let Some(upto) = excess {
            raft.purge(upto).await;
        }
    }
}
