//! Putting a member of the Raft group together and setting it going.

use std::{io, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use tokio::sync::watch;

use super::{
    Leadership, OpenRaft, Outlet, Raft, Retention, Shared, Timing,
    applied::Applied,
    apply::{Applier, Gaps, open_position},
    campaign::Candidacy,
    config::openraft_config,
    incoming::Incoming,
    leadership::Heard,
    log_store::LogStore,
    outgoing::{Outgoing, SnapshotsSent},
    participants::Participants,
    peers::Peers,
    runtime,
    traced::Traced,
    watch_metrics,
    workers::Workers,
};
use crate::{
    log::{self, Log, Writer},
    state_machine::{InForce, StateMachine},
    storage::{self, Storage},
    types::{MemberId, Version},
    watch::WatchHub,
};

/// Everything that a member of the group is made of.
pub struct Parts {
    pub id: MemberId,
    pub timing: Timing,
    pub retention: Retention,
    pub log: Log,
    pub writer: Writer,
    pub storage: Storage,
    pub hub: WatchHub,
    pub outlet: Outlet,
    /// Kept at the rules of authentication that have been applied.
    pub in_force: InForce,
    pub peers: Peers,
    pub workers: Workers,
    /// Applying a batch that takes longer is logged.
    pub slow_apply: Duration,
    /// Of the randomness in elections.
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Timing(#[from] openraft::ConfigError),
    #[error("{0}")]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    Log(#[from] log::Error),
    #[error("cannot listen on {url}: {error}")]
    Bind { url: String, error: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
    /// etcd's words.
    #[error(
        "invalid downgrade; server version is lower than determined cluster version \
         (current-server-version: {server}, determined-cluster-version: {cluster})"
    )]
    OlderThanCluster { server: String, cluster: Version },
    /// The store holds something else than those of other members.
    #[error("{0}")]
    Inconsistent(String),
    #[error("{0}")]
    Raft(String),
}

impl Raft {
    /// Applies what the log holds beyond the state, and then takes part in the group. What members
    /// send is answered once [`Peers`] is told of the returned [`Incoming`].
    ///
    /// # Errors The settings contradict each other, or the log or the state can't be read.
    pub async fn start(parts: Parts) -> Result<(Raft, Incoming, FirstElection), StartError> {
        let config = openraft_config(parts.timing, parts.retention)?;
        let machine = StateMachine::open_telling(parts.storage.clone(), parts.in_force.clone())?;
        let applied = Applied::default();
        if let Some(id) = machine.position().applied {
            applied.advance(id.index);
        }
        let traced = Traced::default();
        let mut applier = Applier {
            machine,
            storage: parts.storage.clone(),
            hub: parts.hub,
            applied: applied.clone(),
            outlet: parts.outlet,
            in_force: parts.in_force,
            gaps: Gaps::Refused,
            traced: traced.clone(),
            slow: parts.slow_apply,
        };
        applier.catch_up(&parts.log)?;
        let (_, membership) = open_position(applier.machine.position().clone())?;
        let (watched, participants) = Participants::new(Some(membership.membership()));

        let (handle, applying) = applier.split();
        parts.workers.run("apply", applying)?;
        parts.workers.run("log", parts.writer.run())?;

        let snapshots_sent = SnapshotsSent::default();
        let timeout = parts.timing.heartbeat * 5;
        let outgoing = Outgoing::new(parts.peers.clone(), timeout, &snapshots_sent, &traced);
        let durable = parts.storage.clone();
        let store = LogStore::new(parts.log, Arc::new(move || durable.durable()), traced);
        let built = OpenRaft::build(parts.id.0, Arc::new(config), outgoing, store, handle);
        let built = runtime::seeded(parts.seed, built).await;
        let open = built.map_err(|fatal| StartError::Raft(fatal.to_string()))?;

        let heard = Heard::default();
        let (shown, leadership) = watch::channel(Leadership::default());
        let (leader_shown, leader) = watch::channel(None);
        let metrics = open.metrics();
        tokio::spawn(watch_metrics(
            parts.id,
            metrics.clone(),
            heard.clone(),
            parts.timing,
            shown,
            leader_shown,
            watched,
        ));
        let (id, peers) = (parts.id, parts.peers);
        let shared = Shared {
            id,
            open,
            metrics,
            leadership,
            leader,
            participants,
            applied,
            peers,
            snapshots_sent,
            candidacy: Candidacy::default(),
            timing: parts.timing,
        };
        let raft = Raft(Arc::new(shared));
        let incoming = Incoming::new(raft.clone(), heard.clone(), parts.storage);
        let mut random = StdRng::seed_from_u64(parts.seed);
        let after = (parts.timing.heartbeat * 3).mul_f64(random.random_range(0.0..1.0));
        let first = FirstElection { heard, after, only_alone: false, seed: random.random() };
        Ok((raft, incoming, first))
    }

    /// Begins to stand for elections and to vote. Before this, nothing is sent.
    pub fn run(&self, first: FirstElection) {
        runtime::seeded_now(first.seed, || self.0.open.run());
        tokio::spawn(first.hold(self.clone()));
        tokio::spawn(self.clone().watch_for_vacancy());
    }
}

/// A member that has just started has no leader to wait for: it asks for votes at once if nobody
/// leads it by then, where openraft would wait for an election timeout. It begins with a pre-vote,
/// which a quorum that has a leader refuses, so a restart disturbs nobody. etcd does the same
/// (`--initial-election-tick-advance`).
pub struct FirstElection {
    heard: Heard,
    /// Random, so that members that start together do not take each other's votes; short beside an
    /// election timeout.
    after: Duration,
    /// Not where others may lead.
    only_alone: bool,
    /// What else is random in Raft follows from it.
    seed: u64,
}

impl FirstElection {
    /// With `early` false, leaves it to the election timeout unless there is nobody else to hear
    /// from.
    pub fn early(self, early: bool) -> FirstElection {
        FirstElection { only_alone: !early, ..self }
    }

    async fn hold(self, raft: Raft) {
        if self.only_alone && raft.participants().borrow().len() > 1 {
            return;
        }
        tokio::time::sleep(self.after).await;
        let leads = raft.0.leader.borrow().is_some();
        if self.heard.last().is_none() && !leads && raft.is_voter() && raft.may_campaign() {
            // An error is Raft's end, which is announced elsewhere.
            let _ = raft.0.open.trigger().elect(true).await;
        }
    }
}
