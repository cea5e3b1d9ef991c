//! Starting and stopping a member.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    cluster::Members,
    log::{self, Log},
    node::{
        Identity, Leases, Limits, Membership, MembershipRules, Node, Proposer, Reader,
        StatusHandle,
        answer::Answers,
        ask::Leader,
        background,
        keeper::LeaseKeeper,
        peers::{MemberHandler, MembersGate},
        replies::Replies,
    },
    proto::{
        command::{Bootstrap, MemberPublish, command::Operation},
        etcdserverpb::Member,
    },
    raft::{
        Content, Notice, PAYLOAD_BYTES_MAX, Parts, Peers, Raft, Retention, StartError, Timing,
        Workers,
        network::{Network, PeerUrl, Tls},
        peers,
    },
    state_machine::{Reply, StateMachine, View},
    storage::{self, Storage},
    types::MemberId,
    watch::WatchHub,
};

/// All that a member needs to know to start.
pub struct Options {
    pub identity: Identity,
    /// Made with the data directory.
    pub incarnation: u64,
    /// Differs from that of every other start of this member.
    pub epoch: u64,
    pub name: String,
    pub client_urls: Vec<String>,
    /// The founding members, this one included; empty when the member joins a cluster that exists.
    pub founders: Vec<Member>,
    pub timing: Timing,
    pub retention: Retention,
    pub limits: Limits,
    pub rules: MembershipRules,
    pub quota_bytes: i64,
    /// Where the log keeps its files, and through what.
    pub log: log::Options,
    pub files: Arc<dyn log::Files>,
    /// `None` keeps the state in memory, for tests.
    pub state_dir: Option<PathBuf>,
    pub workers: Workers,
    /// How other members are reached.
    pub network: Arc<dyn Network>,
    pub peer_tls: Option<Tls>,
    /// Where other members reach this one.
    pub peer_listen: Vec<PeerUrl>,
    /// The JSON body of `/version` on the peers' port.
    pub version: String,
    /// Seed of everything random that is not secret.
    pub seed: u64,
}

/// A member that runs.
pub struct Running {
    pub node: Node,
    raft: Raft,
    peers: Peers,
    members: watch::Receiver<Arc<Members>>,
    removed: watch::Receiver<bool>,
    incarnation: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
    timing: Timing,
}

/// Why a member ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The cluster has removed it.
    Removed,
    /// Raft can't go on, for this reason.
    Failed(String),
}

/// What the apply thread tells, and whom.
struct Announcer {
    identity: Identity,
    storage: Storage,
    replies: Replies,
    members: watch::Sender<Arc<Members>>,
    compaction: Arc<Notify>,
    /// Set once Raft runs; nothing is kept before.
    keeper: Arc<OnceLock<LeaseKeeper>>,
    election: Duration,
}

impl Announcer {
    fn announce(&mut self, notice: Notice) {
        let outcomes = match notice {
            Notice::Applied(outcomes) => outcomes,
            Notice::Replaced(_) => {
                self.replies.forget_all();
                self.refresh_members();
                self.compaction.notify_one();
                return;
            }
        };
        let mut members_changed = false;
        for outcome in &outcomes {
            members_changed |= outcome.applied.members_changed;
            if matches!(outcome.applied.reply, Ok(Reply::Compact)) {
                self.compaction.notify_one();
            }
        }
        if members_changed {
            self.refresh_members();
        }
        if let Some(keeper) = self.keeper.get() {
            for outcome in &outcomes {
                keeper.applied(&outcome.applied.leases, Instant::now());
                // A leader's first entry: all that its predecessors committed has been applied.
                let first = matches!(outcome.content, Content::Blank);
                if first && outcome.id.node == self.identity.member.0 {
                    self.take_over(keeper, outcome.id.term);
                }
            }
        }
        self.replies.applied(outcomes);
    }

    fn take_over(&self, keeper: &LeaseKeeper, term: u64) {
        match View::new(self.storage.snapshot()).and_then(|view| Ok(view.leases()?)) {
            Ok(leases) => keeper.take_over(term, leases, Instant::now(), self.election),
            // Without its timers this leader revokes nothing: safe, and worth a word.
            Err(error) => error!(%error, "could not read the leases on becoming leader"),
        }
    }

    fn refresh_members(&self) {
        match Members::read(&self.storage.snapshot()) {
            Ok(members) => drop(self.members.send_replace(Arc::new(members))),
            Err(error) => error!(%error, "could not read the membership list"),
        }
    }
}

impl Running {
    /// Starts a member. Returns as soon as it takes part; [`Running::ready`] tells when it serves.
    ///
    /// # Errors
    /// The log or the state can't be opened, or the settings contradict each other.
    pub async fn start(options: Options) -> Result<Running, StartError> {
        let place = match &options.state_dir {
            Some(dir) => storage::Place::Directory(dir),
            None => storage::Place::Memory,
        };
        let storage = Storage::open(place)?;
        let (log, writer) = Log::open(options.files.clone(), options.log.clone())?;
        let is_new = log.state().last.is_none() && storage.durable().is_none();
        let head = StateMachine::open(storage.clone())?.revision();
        let hub = WatchHub::new(storage.clone(), head);

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let replies = Replies::new(options.identity.member, options.epoch);
        let (members, members_now) = watch::channel(Arc::new(Members::read(&storage.snapshot())?));
        let (compaction, keeper_cell) = (Arc::new(Notify::new()), Arc::new(OnceLock::new()));
        let mut announcer = Announcer {
            identity: options.identity,
            storage: storage.clone(),
            replies: replies.clone(),
            members,
            compaction: compaction.clone(),
            keeper: keeper_cell.clone(),
            election: options.timing.election,
        };

        let (removed, removed_now) = watch::channel(false);
        let peers = Peers::new(peers::Options {
            identity: peers::Identity {
                cluster: options.identity.cluster,
                member: options.identity.member,
                incarnation: options.incarnation,
                group: options.log.group,
            },
            network: options.network,
            tls: options.peer_tls,
            gate: Arc::new(MembersGate::new(members_now.clone(), removed)),
            dead_after: options.timing.election,
            payload_bytes_max: payload_bytes_max(options.limits.request_bytes),
            seed: options.seed,
        });
        let mut ports = Vec::new();
        for url in &options.peer_listen {
            let bound = peers.bind(url).await;
            ports.push(bound.map_err(|error| StartError::Bind { url: url.to_string(), error })?);
        }
        let (raft, incoming, first_election) = Raft::start(Parts {
            id: options.identity.member,
            timing: options.timing,
            retention: options.retention,
            log,
            writer,
            storage: storage.clone(),
            hub: hub.clone(),
            outlet: Box::new(move |notice| announcer.announce(notice)),
            peers: peers.clone(),
            workers: options.workers,
            seed: options.seed,
        })
        .await?;

        let keeper = LeaseKeeper::new(raft.clone());
        let _ = keeper_cell.set(keeper.clone());
        let answers = Answers::new(raft.clone(), keeper.clone());
        let leader = Leader::new(raft.clone(), answers.clone());
        let timeout = options.limits.timeout;
        let (proposer, proposing) =
            Proposer::new(raft.clone(), leader.clone(), replies, options.limits, options.seed);
        let (compacted, compacted_now) = watch::channel(None);
        let (reader, reading) =
            Reader::new(raft.clone(), leader.clone(), storage.clone(), compacted_now, timeout);
        let membership = Membership {
            identity: options.identity,
            raft: raft.clone(),
            leader: leader.clone(),
            proposer: proposer.clone(),
            reader: reader.clone(),
            rules: options.rules,
            timeout,
        };
        let node = Node {
            identity: options.identity,
            proposer,
            reader: reader.clone(),
            watch: hub,
            leases: Leases::new(raft.clone(), leader, reader, timeout),
            membership,
            status: StatusHandle::new(raft.clone(), storage.clone(), options.quota_bytes),
        };

        let handler = Arc::new(MemberHandler {
            incoming,
            answers,
            members: members_now.clone(),
            version: options.version,
        });
        for port in ports {
            peers.serve(port, handler.clone());
        }
        for founder in &options.founders {
            set_addresses(&peers, founder);
        }
        raft.run(first_election);

        let background = [
            Box::pin(proposing) as BoxFuture<'static, ()>,
            Box::pin(reading),
            Box::pin(background::keep_leases(keeper, raft.clone())),
            Box::pin(background::reconcile_members(raft.clone(), members_now.clone())),
            Box::pin(background::retain(raft.clone(), options.retention)),
            Box::pin(background::compact(storage, compaction, compacted, raft.clone())),
            Box::pin(address_members(peers.clone(), members_now.clone())),
            Box::pin(introduce(
                node.clone(),
                raft.clone(),
                members_now.clone(),
                Introduction {
                    founders: if is_new { options.founders } else { Vec::new() },
                    name: options.name,
                    client_urls: options.client_urls,
                    incarnation: options.incarnation,
                },
            )),
        ];
        for work in background {
            tasks.spawn(stop.clone().run_until_cancelled_owned(work));
        }
        let (members, removed, timing) = (members_now, removed_now, options.timing);
        Ok(Running {
            node,
            raft,
            peers,
            members,
            removed,
            incarnation: options.incarnation,
            tasks,
            stop,
            timing,
        })
    }

    /// Returns when this member is known to the cluster and serves.
    pub async fn ready(&self) {
        let mut members = self.members.clone();
        let is_introduced = |members: &Arc<Members>| {
            let row = members.get(self.node.identity.member);
            row.is_some_and(|row| row.incarnation == Some(self.incarnation))
        };
        // An error means that the member has stopped; whoever waits is told that elsewhere.
        let _ = members.wait_for(is_introduced).await;
    }

    /// Returns when the member has ended by itself, with the reason: an error, or its removal.
    pub async fn ended(&self) -> Ended {
        let mut removed = self.removed.clone();
        tokio::select! {
            reason = self.raft.stopped() => Ended::Failed(reason),
            Ok(_) = removed.wait_for(|removed| *removed) => Ended::Removed,
        }
    }

    /// Hands leadership over if this member has it, so that the cluster need not wait for an election.
    pub async fn hand_over(&self) {
        let Some(successor) = self.raft.successor() else { return };
        match self.raft.transfer_leader(successor, self.timing.election).await {
            Ok(()) => info!(to = %successor, "handed leadership over"),
            Err(error) => warn!(%error, "could not hand leadership over"),
        }
    }

    /// Ends everything. Leadership should have been handed over before.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.raft.shut_down().await;
        self.peers.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a member tells the cluster of itself.
struct Introduction {
    /// Not empty when the cluster is new.
    founders: Vec<Member>,
    name: String,
    client_urls: Vec<String>,
    incarnation: u64,
}

/// How long to wait before trying again what the cluster did not take.
const INTRODUCE_RETRY: Duration = Duration::from_millis(100);

/// Founds the cluster if it is new, and makes this member's name and client URLs known to it.
async fn introduce(
    node: Node,
    raft: Raft,
    mut members: watch::Receiver<Arc<Members>>,
    introduction: Introduction,
) {
    let Introduction { founders, name, client_urls, incarnation } = introduction;
    if !founders.is_empty() {
        let ids: Vec<MemberId> = founders.iter().map(|member| MemberId(member.id)).collect();
        if raft.initialize(&ids).await.is_err() {
            return;
        }
    }
    let id = node.identity.member;
    while !raft.is_stopped() {
        let known = members.borrow_and_update().clone();
        let row = known.rows.iter().find(|row| row.member.id == id.0);
        let operation = match row {
            // Every founder proposes it, and the first one counts.
            None if known.cluster.is_none() && !founders.is_empty() => {
                Operation::Bootstrap(Bootstrap {
                    cluster_id: node.identity.cluster.0,
                    members: founders.clone(),
                })
            }
            Some(row)
                if row.member.name != name
                    || row.member.client_ur_ls != client_urls
                    || row.incarnation != Some(incarnation) =>
            {
                Operation::MemberPublish(MemberPublish {
                    id: id.0,
                    name: name.clone(),
                    client_urls: client_urls.clone(),
                    incarnation,
                })
            }
            // Nothing to say, or nothing is known of this member yet: what comes will tell.
            None | Some(_) => {
                if members.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        if let Err(error) = node.proposer.command(operation).await {
            debug!(%error, "the cluster does not know this member yet");
            tokio::time::sleep(INTRODUCE_RETRY).await;
        }
    }
}

/// Keeps the connections' address book in line with the membership list.
async fn address_members(peers: Peers, mut members: watch::Receiver<Arc<Members>>) {
    loop {
        {
            let members = members.borrow_and_update();
            for row in &members.rows {
                set_addresses(&peers, &row.member);
            }
            for id in &members.removed {
                peers.remove(*id);
            }
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}

fn set_addresses(peers: &Peers, member: &Member) {
    let mut addresses = Vec::new();
    for url in &member.peer_ur_ls {
        match url.parse() {
            Ok(address) => addresses.push(address),
            Err(error) => warn!(member = %MemberId(member.id), %error, "cannot dial a peer URL"),
        }
    }
    peers.set_addresses(MemberId(member.id), addresses);
}

/// A batch of entries may hold as many bytes as one read of the log gives, or one request of the largest
/// size.
fn payload_bytes_max(request_bytes: usize) -> usize {
    PAYLOAD_BYTES_MAX.max(request_bytes.saturating_mul(2))
}
