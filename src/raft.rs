//! Consensus: openraft with our log, our state machine and our connections.
//!
//! The only module that names openraft's types. What the layer above sees is [`Raft`]: propose
//! commands, get a read index, know who leads, change who takes part.

mod applied;
mod apply;
mod campaign;
mod config;
mod force_new_cluster;
pub mod frame;
mod incoming;
mod leadership;
mod log_store;
pub mod message;
pub(crate) mod meter;
pub mod network;
mod outgoing;
mod participants;
pub mod peers;
mod read_index;
mod runtime;
mod start;
mod succession;
mod traced;
mod type_config;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use openraft::{
    ChangeMembers, async_runtime::watch::WatchReceiver, error::ClientWriteError, impls::EmptyNode,
    type_config::alias::WatchReceiverOf,
};
use tokio::{sync::watch, time::Instant};

pub use applied::Applied;
pub use apply::{Content, Notice, Origin, Outcome, Outlet};
pub use config::{Retention, Timing};
pub use force_new_cluster::{Forced, force_new_cluster};
pub use frame::PAYLOAD_BYTES_MAX;
pub use incoming::Incoming;
pub use leadership::Leadership;
pub use peers::{PeerError, Peers};
pub use read_index::ReadError;
pub use start::{FirstElection, Parts, StartError};
pub use type_config::founding_membership;
pub use workers::{Threads, Workers};

use crate::types::{MemberId, TraceContext};
use apply::ApplyHandle;
use campaign::Candidacy;
pub(crate) use campaign::Follower;
use leadership::{Evidence, Heard};
use outgoing::SnapshotsSent;
use participants::Participants;
use type_config::{EncodedCommand, TypeConfig};

type OpenRaft = openraft::Raft<TypeConfig, ApplyHandle>;
type OpenMetrics = openraft::RaftMetrics<TypeConfig>;
type MetricsReceiver = WatchReceiverOf<TypeConfig, OpenMetrics>;

/// Why a command was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead, or has lost its quorum: the command entered no log.
    NotLeader,
    /// The command entered the log, and leadership was lost before it was committed: nobody knows.
    Unknown,
}

/// A running member of the Raft group. Clones share it.
#[derive(Clone)]
pub struct Raft(Arc<Shared>);

struct Shared {
    id: MemberId,
    open: OpenRaft,
    metrics: MetricsReceiver,
    leadership: watch::Receiver<Leadership>,
    leader: watch::Receiver<Option<MemberId>>,
    /// See [`Raft::participants`].
    participants: watch::Receiver<BTreeSet<MemberId>>,
    applied: Applied,
    peers: Peers,
    snapshots_sent: SnapshotsSent,
    candidacy: Candidacy,
    timing: Timing,
}

/// How close to the leader's log a learner must be to become a voter, in entries: near enough that
/// the quorum does not wait for it noticeably.
const CAUGHT_UP_WITHIN: u64 = 1024;

impl Raft {
    pub fn id(&self) -> MemberId {
        self.0.id
    }

    /// Makes this the first membership of a new group. Every founding member may call it, with the
    /// same members; a member that already has a log ignores it.
    ///
    /// # Errors Raft has stopped.
    pub async fn initialize(&self, members: &[MemberId]) -> Result<(), ReadError> {
        let members: BTreeSet<u64> = members.iter().map(|id| id.0).collect();
        match self.0.open.initialize(members).await {
            Ok(()) => Ok(()),
            Err(error) if error.fatal().is_some() => Err(ReadError::Stopped),
            // It has been initialized before.
            Err(_) => Ok(()),
        }
    }

    /// Proposes encoded commands; returns the fate of each, in order. A committed command has been
    /// applied here when this returns. `traces` has the position of each command whose trace is
    /// recorded, in order.
    pub async fn propose(
        &self,
        commands: Vec<Bytes>,
        traces: Vec<(usize, TraceContext)>,
    ) -> Vec<Result<(), ProposeError>> {
        let count = commands.len();
        let mut traces = traces.into_iter().peekable();
        let commands = commands.into_iter().enumerate().map(move |(at, bytes)| {
            let trace = traces.next_if(|(position, _)| *position == at);
            EncodedCommand { bytes, trace: trace.map(|(_, trace)| Box::new(trace)) }
        });
        let proposed = self.0.open.client_write_many(commands).await;
        let Ok(results) = proposed else {
            return vec![Err(ProposeError::NotLeader); count];
        };
        let fates = results.map(|result| match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        });
        let mut fates: Vec<_> = fates.collect().await;
        // The stream ends early when Raft stops.
        fates.resize(count, Err(ProposeError::Unknown));
        fates
    }

    /// Who leads now; changes are announced.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    /// Who leads now, without the term.
    pub fn leader(&self) -> watch::Receiver<Option<MemberId>> {
        self.0.leader.clone()
    }

    /// How far this member has applied the log.
    pub fn applied(&self) -> &Applied {
        &self.0.applied
    }

    /// Index of the newest entry that this member knows to be committed; 0 before the first.
    pub fn committed_index(&self) -> u64 {
        let metrics = self.0.metrics.borrow_watched();
        metrics.local_committed.as_ref().map_or(0, |id| id.index()).max(self.0.applied.index())
    }

    /// Entries committed and not yet applied.
    pub fn apply_gap(&self) -> u64 {
        self.committed_index().saturating_sub(self.0.applied.index())
    }

    /// Raft has ended, by order or by an error; nothing will be answered any more.
    pub fn is_stopped(&self) -> bool {
        self.0.metrics.borrow_watched().running_state.is_err()
    }

    /// Returns when Raft has ended, with the reason.
    pub async fn stopped(&self) -> String {
        let ended =
            |metrics: &OpenMetrics| metrics.running_state.as_ref().err().map(ToString::to_string);
        self.until(ended).await.unwrap_or_else(|| "Raft has ended".into())
    }

    /// Voters of the newest membership, both halves of a joint one.
    pub fn voters(&self) -> BTreeSet<MemberId> {
        self.0.metrics.borrow_watched().membership_config.voter_ids().map(MemberId).collect()
    }

    /// Whose messages still count: everybody in the newest membership that was applied here, and in
    /// one that follows it and may yet fail. Changes are announced.
    pub fn participants(&self) -> watch::Receiver<BTreeSet<MemberId>> {
        self.0.participants.clone()
    }

    /// Is one set of voters about to replace another?
    pub(crate) fn is_joint(&self) -> bool {
        let metrics = self.0.metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }

    /// Does this member vote?
    pub fn is_voter(&self) -> bool {
        self.0.metrics.borrow_watched().membership_config.voter_ids().any(|id| id == self.0.id.0)
    }

    pub fn learners(&self) -> BTreeSet<MemberId> {
        let metrics = self.0.metrics.borrow_watched();
        metrics.membership_config.membership().learner_ids().map(MemberId).collect()
    }

    /// Has the learner nine tenths of the leader's log, as etcd demands before a promotion? `None`
    /// when this member does not lead.
    pub fn learner_is_ready(&self, id: MemberId) -> Option<bool> {
        let metrics = self.0.metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = matched(&metrics)?.get(&id).copied().flatten();
        Some(matched.is_some_and(|matched| matched.saturating_mul(10) >= last.saturating_mul(9)))
    }

    /// Learners close enough to the leader's log to vote. Empty when this member does not lead.
    pub(crate) fn caught_up(&self) -> BTreeSet<MemberId> {
        let metrics = self.0.metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let Some(matched) = matched(&metrics) else { return BTreeSet::new() };
        let near = |index: &Option<u64>| index.is_some_and(|at| at + CAUGHT_UP_WITHIN >= last);
        matched.into_iter().filter(|(_, index)| near(index)).map(|(id, _)| id).collect()
    }

    /// Adds a learner, and returns once that is committed.
    ///
    /// # Errors
    /// Not the leader, or another change is under way.
    pub async fn add_learner(&self, id: MemberId) -> Result<(), ChangeFailed> {
        let added = self.0.open.add_learner(id.0, EmptyNode {}, false).await;
        added.map(drop).map_err(|error| ChangeFailed(error.to_string()))
    }

    /// Makes a learner a voter, and returns once that is committed.
    ///
    /// # Errors
    /// Not the leader, or another change is under way.
    pub async fn add_voter(&self, id: MemberId) -> Result<(), ChangeFailed> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id.0]))).await
    }

    /// Takes a member out, and returns once that is committed.
    ///
    /// # Errors
    /// Not the leader, or another change is under way.
    pub async fn remove(&self, id: MemberId) -> Result<(), ChangeFailed> {
        let ids = BTreeSet::from([id.0]);
        if self.voters().contains(&id) {
            self.change(ChangeMembers::RemoveVoters(ids)).await
        } else {
            self.change(ChangeMembers::RemoveNodes(ids)).await
        }
    }

    /// Waits until a member votes, or does not, in a membership that has been applied here: whoever
    /// goes then, the quorum is one of that membership. `None` when Raft ends before.
    ///
    /// Of its own removal this member need not hear that it is applied: the others decide that.
    pub(crate) async fn until_voter(&self, id: MemberId, votes: bool) -> Option<()> {
        self.until(|metrics| {
            let (membership, applied) = (&metrics.membership_config, metrics.last_applied.as_ref());
            let is_applied = applied >= membership.log_id().as_ref() || (id == self.0.id && !votes);
            let is_joint = membership.membership().get_joint_config().len() > 1;
            let is_voter = membership.voter_ids().any(|voter| voter == id.0);
            (is_applied && !is_joint && is_voter == votes).then_some(())
        })
        .await
    }

    /// Completes a change of voters whose leader was lost half-way, and returns once that is
    /// committed.
    ///
    /// # Errors Not the leader, or another change is under way.
    pub(crate) async fn finish_change(&self) -> Result<(), ChangeFailed> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    async fn change(&self, change: ChangeMembers<u64, EmptyNode>) -> Result<(), ChangeFailed> {
        let changed = self.0.open.change_membership(change, false).await;
        changed.map(drop).map_err(|error| ChangeFailed(error.to_string()))
    }

    /// Hands leadership to a voter that has the whole log, and returns once it leads.
    ///
    /// # Errors
    /// It did not take over in time; whoever wins the next election leads.
    pub async fn transfer_leader(
        &self,
        to: MemberId,
        timeout: Duration,
    ) -> Result<(), ChangeFailed> {
        if self.0.peers.connected(to).is_none() {
            return Err(ChangeFailed(format!("{to} is not connected")));
        }
        let deadline = Instant::now() + timeout;
        self.until_caught_up(to, deadline).await?;
        self.note_order(to);
        let transfer = self.0.open.trigger().transfer_leader(to.0).await;
        transfer.map_err(|error| ChangeFailed(error.to_string()))?;
        let mut leadership = self.leadership();
        let other = |leader: MemberId| leader != self.0.id;
        let taken = leadership.wait_for(|now| now.leader.is_some_and(other));
        match tokio::time::timeout_at(deadline, taken).await {
            Ok(Ok(now)) if now.leader == Some(to) => Ok(()),
            Ok(Ok(_)) => Err(ChangeFailed(format!("another member took over instead of {to}"))),
            Ok(Err(_)) | Err(_) => Err(ChangeFailed(format!("{to} did not take over in time"))),
        }
    }

    /// Waits until a voter's log is as long as ours: only then may it be told to take over, since
    /// openraft never takes the order back.
    async fn until_caught_up(&self, id: MemberId, deadline: Instant) -> Result<(), ChangeFailed> {
        let level = self.until(|metrics| {
            let last = metrics.last_log_index.unwrap_or(0);
            let matched = matched(metrics)?.get(&id).copied().flatten()?;
            (matched + TRANSFER_LAG_MAX >= last).then_some(())
        });
        match tokio::time::timeout_at(deadline, level).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => Err(ChangeFailed(format!("{id} does not catch up"))),
        }
    }

    /// Waits until `found` finds something in openraft's metrics; `None` when Raft ends before.
    async fn until<T>(&self, found: impl Fn(&OpenMetrics) -> Option<T>) -> Option<T> {
        let mut metrics = self.0.metrics.clone();
        loop {
            // Held no longer than this line: openraft waits for whoever borrows its metrics.
            let it = found(&metrics.borrow_and_update());
            if it.is_some() {
                return it;
            }
            metrics.changed().await.ok()?;
        }
    }

    /// The voter that leadership should go to when this member stops: of those that are connected,
    /// the one with the longest log. `None` when this member does not lead, or is the only voter.
    pub fn successor(&self) -> Option<MemberId> {
        let metrics = self.0.metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let others = matched(&metrics)?.into_iter();
        let can_lead = |id: MemberId| {
            voters.contains(&id.0) && id != self.0.id && self.0.peers.connected(id).is_some()
        };
        let others = others.filter(|(id, _)| can_lead(*id));
        others.max_by_key(|(_, matched)| *matched).map(|(id, _)| id)
    }

    /// Asks another member something of the layer above.
    ///
    /// # Errors
    /// No answer came; see [`PeerError`] for which of them leave open whether the request arrived.
    pub async fn call(
        &self,
        to: MemberId,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        self.0.peers.call(to, request, timeout).await
    }

    /// Has this member been connected to that one for so long?
    pub fn connected_for(&self, id: MemberId, duration: Duration) -> bool {
        self.0.peers.connected(id).is_some_and(|since| since.elapsed() >= duration)
    }

    /// Is a member being sent a snapshot? It will need the log that follows.
    pub(crate) fn is_sending_snapshot(&self) -> bool {
        self.0.snapshots_sent.are_under_way()
    }

    /// Lets the log be purged up to this entry, as far as the last flush has come, whether or not
    /// members that lag need it.
    pub(crate) async fn purge(&self, upto: u64) {
        // A failure is Raft's end, which is announced elsewhere.
        let _ = self.0.open.trigger().purge_log(upto).await;
    }

    /// Lets the log be purged up to what is applied now, less what stays for members that lag.
    pub(crate) async fn flush_and_purge(&self) {
        // A failure is Raft's end, which is announced elsewhere.
        let _ = self.0.open.trigger().snapshot().await;
    }

    /// Ends Raft on this member. Leadership should have been handed over before.
    pub async fn shut_down(&self) {
        // It ends in any case; a task that panicked has aborted the process.
        let _ = self.0.open.shutdown().await;
        self.0.applied.close();
    }
}

/// Entries that a transfer target may lack when it is told to take over. They are under way to it,
/// no new ones follow, and it waits for them before it obeys; under load a voter always lacks some.
const TRANSFER_LAG_MAX: u64 = 1024;

/// A change that Raft did not carry out, in openraft's words, for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ChangeFailed(String);

/// The newest index that each member is known to hold; `None` when this member does not lead.
fn matched(metrics: &OpenMetrics) -> Option<BTreeMap<MemberId, Option<u64>>> {
    let replication = metrics.replication.as_ref()?;
    let index = |id: &Option<_>| id.as_ref().map(openraft_index);
    Some(replication.iter().map(|(id, matching)| (MemberId(*id), index(matching))).collect())
}

fn openraft_index(id: &openraft::type_config::alias::LogIdOf<TypeConfig>) -> u64 {
    id.index()
}

/// Judges who leads and who takes part, at every change and once per heartbeat, until Raft has
/// ended.
async fn watch_metrics(
    id: MemberId,
    mut metrics: MetricsReceiver,
    heard: Heard,
    timing: Timing,
    leadership: watch::Sender<Leadership>,
    leader: watch::Sender<Option<MemberId>>,
    mut participants: Participants,
) {
    loop {
        let evidence = {
            let metrics = metrics.borrow_and_update();
            participants.see(&metrics);
            let mut voters = metrics.membership_config.voter_ids();
            Evidence {
                id,
                term: metrics.current_term,
                leader: metrics.current_leader.map(MemberId),
                alone: voters.next() == Some(id.0) && voters.next().is_none(),
                quorum_acked: metrics
                    .last_quorum_acked
                    .and_then(|at| Instant::now().checked_sub(openraft::Instant::elapsed(&*at))),
                heard: heard.last(),
            }
        };
        let now = leadership::judge(evidence, Instant::now(), timing.election);
        leadership.send_if_modified(|shown| std::mem::replace(shown, now) != now);
        leader.send_if_modified(|shown| std::mem::replace(shown, now.leader) != now.leader);
        if let Ok(Err(_)) = tokio::time::timeout(timing.heartbeat, metrics.changed()).await {
            return;
        }
    }
}
