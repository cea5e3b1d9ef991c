//! Who stands for election, and whom the leader could hand over to.
//!
//! A member votes whatever is said here: this is about who leads, and safety does not depend on it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{CAUGHT_UP_WITHIN, Raft, matched};
use crate::types::MemberId;

/// Election timeouts for which a member tries to be elected when it is told to. Voters refuse for
/// one of them after they have lost their leader; one that has more of the log always refuses.
const CAMPAIGN_TIMEOUTS: u32 = 2;

/// What this member may do by itself, and what it has ordered.
pub(super) struct Candidacy {
    campaigns: AtomicBool,
    ordered: Mutex<Option<Order>>,
}

/// The last order to take over.
#[derive(Clone, Copy)]
struct Order {
    /// In which this member led.
    term: u64,
    to: MemberId,
    at: Instant,
}

impl Default for Candidacy {
    fn default() -> Candidacy {
        Candidacy { campaigns: AtomicBool::new(true), ordered: Mutex::default() }
    }
}

/// Another member, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) connected: bool,
    /// Entries of the leader's log that it is not known to have.
    pub(crate) lag: u64,
}

impl Follower {
    /// Whether it could take over now.
    pub(crate) fn is_fit(self) -> bool {
        self.connected && self.lag <= CAUGHT_UP_WITHIN
    }
}

impl Raft {
    /// Says whether this member stands for election when there is no leader. It takes over in any
    /// case when the leader tells it to.
    pub(crate) fn let_campaign(&self, may: bool) {
        self.0.candidacy.campaigns.store(may, Ordering::Relaxed);
        self.0.open.runtime_config().elect(may);
    }

    pub(crate) fn may_campaign(&self) -> bool {
        self.0.candidacy.campaigns.load(Ordering::Relaxed)
    }

    /// Stands for election, whether or not it may by itself; returns whether it leads then. It
    /// begins with pre-votes, so a leader that works is left alone.
    pub(crate) async fn campaign(&self) -> bool {
        let deadline = Instant::now() + self.0.timing.election * CAMPAIGN_TIMEOUTS;
        let mut leadership = self.leadership();
        while Instant::now() < deadline && !self.is_stopped() {
            // An error is Raft's end, which is announced elsewhere.
            let _ = self.0.open.trigger().elect(true).await;
            // Voters that have only just lost their leader refuse at first.
            let turn =
                self.0.timing.heartbeat.min(deadline.saturating_duration_since(Instant::now()));
            let decided = timeout(turn, leadership.wait_for(|now| now.leader.is_some())).await;
            if let Ok(Ok(now)) = decided {
                return now.leader == Some(self.id());
            }
        }
        false
    }

    /// The other members; `None` when this member does not lead.
    pub(crate) fn followers(&self) -> Option<BTreeMap<MemberId, Follower>> {
        let metrics = self.0.metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let others = matched(&metrics)?.into_iter().filter(|(id, _)| *id != self.0.id);
        let follower = |(id, matched): (MemberId, Option<u64>)| {
            let connected = self.0.peers.connected(id).is_some();
            (id, Follower { connected, lag: last.saturating_sub(matched.unwrap_or(0)) })
        };
        Some(others.map(follower).collect())
    }

    /// Notes that this voter is told to take over.
    pub(super) fn note_order(&self, to: MemberId) {
        let term = self.0.metrics.borrow_watched().current_term;
        *self.0.candidacy.ordered.lock().expect("no code panics while it holds this lock") =
            Some(Order { term, to, at: Instant::now() });
    }

    /// Tells another voter to take over if the one that was told to has not. openraft never takes
    /// the order back: until somebody takes over, this member does not act as the leader and can't
    /// stand for election either, and others may not.
    pub(crate) async fn order_again(&self) {
        let order = {
            let ordered = self.0.candidacy.ordered.lock();
            *ordered.expect("no code panics while it holds this lock")
        };
        let Some(order) = order.filter(|order| order.at.elapsed() >= self.0.timing.election * 2)
        else {
            return;
        };
        let leads_still = {
            let metrics = self.0.metrics.borrow_watched();
            metrics.current_term == order.term && metrics.current_leader == Some(self.0.id.0)
        };
        if !leads_still {
            return;
        }
        let voters = self.voters();
        let followers = self.followers().unwrap_or_default().into_iter();
        let can = followers.filter(|(id, follower)| follower.connected && voters.contains(id));
        let next = can.min_by_key(|(id, follower)| (*id == order.to, follower.lag, *id));
        let Some((next, _)) = next else { return };
        warn!(from = %order.to, to = %next, "a member has not taken leadership over: telling another");
        self.note_order(next);
        // An error is Raft's end, which is announced elsewhere.
        let _ = self.0.open.trigger().transfer_leader(next.0).await;
    }
}
