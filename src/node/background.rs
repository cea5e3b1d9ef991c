//! The work that goes on beside requests: one loop for each kind, each a turn at a time.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    cluster::Members,
    mvcc,
    node::{
        keeper::LeaseKeeper,
        reconcile::{self, RaftMembers, Step},
    },
    raft::{Raft, Retention},
    storage::{Storage, off_thread},
    types::{MemberId, Revision},
};

/// How often the leader looks for leases that have run out: a lease is revoked so much later at most.
const LEASE_TURN: Duration = Duration::from_millis(100);

/// How often the leader looks whether Raft's membership differs from the list.
const RECONCILE_TURN: Duration = Duration::from_millis(200);

/// How often it is asked whether the state should be flushed.
const RETENTION_TURN: Duration = Duration::from_millis(500);

/// State that is not flushed after this time is, so that a restart has little to replay.
const FLUSH_AFTER: Duration = Duration::from_secs(30);

/// A pause between two batches of a compaction, so that it takes no more than part of the disk's time.
const COMPACTION_PAUSE: Duration = Duration::from_millis(10);

/// Revokes leases that have run out and checkpoints the others, while this member leads.
pub(crate) async fn keep_leases(keeper: LeaseKeeper, raft: Raft) {
    while !raft.is_stopped() {
        if !keeper.turn().await {
            tokio::time::sleep(LEASE_TURN).await;
        }
    }
}

/// Brings Raft's membership in line with the list, while this member leads.
pub(crate) async fn reconcile_members(raft: Raft, members: watch::Receiver<Arc<Members>>) {
    while !raft.is_stopped() {
        tokio::time::sleep(RECONCILE_TURN).await;
        if raft.leadership().borrow().leader != Some(raft.id()) {
            continue;
        }
        let learners = raft.learners();
        let connected = |id: &MemberId| raft.connected_for(*id, Duration::ZERO);
        let ready = raft.caught_up().intersection(&learners).copied().filter(connected).collect();
        let now = RaftMembers { voters: raft.voters(), learners, ready };
        let step = reconcile::next_step(&members.borrow(), &now);
        let done = match step {
            None => continue,
            Some(Step::AddLearner(id)) => raft.add_learner(id).await,
            Some(Step::Promote(id)) => raft.add_voter(id).await,
            Some(Step::Remove(id)) => raft.remove(id).await,
        };
        match done {
            Ok(()) => info!(?step, "changed Raft's membership"),
            Err(error) => warn!(?step, %error, "could not change Raft's membership; trying again"),
        }
    }
}

/// Has the state flushed and the log purged: after so many entries, and after some time in any case.
pub(crate) async fn retain(raft: Raft, retention: Retention) {
    let (mut flushed, mut at) = (raft.applied().index(), Instant::now());
    while !raft.is_stopped() {
        tokio::time::sleep(RETENTION_TURN).await;
        let entries = raft.applied().index().saturating_sub(flushed);
        if entries >= retention.snapshot_count || (entries > 0 && at.elapsed() >= FLUSH_AFTER) {
            (flushed, at) = (raft.applied().index(), Instant::now());
            raft.flush_and_purge().await;
        }
    }
}

/// Removes compacted versions in the background, and tells how far it has come.
pub(crate) async fn compact(
    storage: Storage,
    wake: Arc<Notify>,
    done: watch::Sender<Option<Revision>>,
    raft: Raft,
) {
    while !raft.is_stopped() {
        let target = storage.clone();
        // The floor that this step finds, or a newer one, is reached when nothing is left to do.
        let step = off_thread(move || {
            let floor = mvcc::View::new(target.snapshot())?.floor();
            mvcc::compaction::step(&target).map(|more| (more, floor)).map_err(mvcc::Error::from)
        });
        match step.await {
            Ok((true, _)) => tokio::time::sleep(COMPACTION_PAUSE).await,
            Ok((false, floor)) => {
                done.send_replace(floor);
                wake.notified().await;
            }
            // The same trouble stops the apply thread, and with it the member.
            Err(error) => {
                warn!(%error, "a compaction could not go on");
                wake.notified().await;
            }
        }
    }
}
