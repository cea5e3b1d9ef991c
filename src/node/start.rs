//! Starting and stopping a member.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    cluster::{Labels, Members},
    log::{self, Log, Meter, Writer},
    node::{
        CorruptionRules, Identity, Leases, Limits, Membership, MembershipRules, Node, Proposer,
        Reader, Regions, Saver, Space, SpaceRules, StatusHandle, Tuning,
        answer::Answers,
        ask::Leader,
        background,
        corruption::{Comparison, Watchman},
        credentials::{self, Credentials},
        introduce::{Introduction, address_members, introduce, set_addresses},
        keeper::LeaseKeeper,
        metered_files::MeteredFiles,
        peers::{MemberHandler, MembersGate, connections},
        placement::Placement,
        replies::Replies,
        told::Told,
        versions::{Downgrades, VersionKeeper},
    },
    proto::{command::ForceNewCluster, etcdserverpb::Member},
    raft::{
        self, Parts, Peers, Raft, Retention, StartError, Timing, Workers,
        network::{Network, PeerUrl, Tls},
        peers,
    },
    state_machine::StateMachine,
    storage::{self, Storage},
    telemetry::METERS,
    types::{LogId, Version},
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
    /// Where the member stands.
    pub labels: Labels,
    /// The founding members, this one included; empty when the member joins a cluster that exists.
    pub founders: Vec<Member>,
    pub timing: Timing,
    pub retention: Retention,
    pub limits: Limits,
    pub tuning: Tuning,
    pub rules: MembershipRules,
    pub space: SpaceRules,
    pub corruption: CorruptionRules,
    pub credentials: credentials::Options,
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
    /// The version of etcd that this program stands in for, with its patch number.
    pub version: String,
    /// Time between two looks at a downgrade; none for zero.
    pub downgrade_check: Duration,
    /// Makes this member the only one of its cluster, if it has data; as its flags describe it.
    pub force_new_cluster: Option<Member>,
    /// Seed of everything random that is not secret.
    pub seed: u64,
}

/// A member that runs.
pub struct Running {
    pub node: Node,
    raft: Raft,
    peers: Peers,
    members: watch::Receiver<Arc<Members>>,
    /// Told by others that there is no place for this member.
    refused: watch::Receiver<Option<Ended>>,
    replies: Replies,
    placement: Placement,
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
    /// The cluster knows it with another data directory, which has been lost or replaced.
    DataLost,
    /// Raft can't go on, for this reason.
    Failed(String),
}

impl Running {
    /// Starts a member. Returns as soon as it takes part; [`Running::ready`] tells when it serves.
    ///
    /// # Errors
    /// The log or the state can't be opened, or the settings contradict each other.
    pub async fn start(options: Options) -> Result<Running, StartError> {
        let Opened { storage, log, writer, meter, hub, founders } = Opened::open(&options)?;
        let replies = Replies::new(options.identity.member, options.epoch);
        let keeper = Arc::new(OnceLock::new());
        let (told, mut announcer) = Told::new(&options, &storage, &replies, &keeper)?;
        let (refuse, refused) = watch::channel(None);
        let gate = Arc::new(MembersGate::new(told.members.clone(), refuse));
        let peers = Peers::new(connections(&options, gate.clone()));
        let comparison = comparison(&options, &told, &peers);
        if options.corruption.at_start && founders.is_empty() {
            compare_at_start(&comparison, &peers).await?;
        }
        let ports = open_ports(&peers, &options.peer_listen).await?;
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
            workers: options.workers.clone(),
            slow_apply: options.tuning.slow_apply,
            in_force: told.authority.in_force.clone(),
            seed: options.seed,
        })
        .await?;
        gate.know(raft.participants());
        let handles = Handles::new(&options, &raft, &storage, hub, replies.clone(), &told);
        let _ = keeper.set(handles.keeper.clone());
        let (answers, version) = (handles.answers, options.version.clone());
        let members = told.members.clone();
        let handler = Arc::new(MemberHandler { incoming, answers, members, version });
        let members = told.members;
        ports.into_iter().for_each(|port| peers.serve(port, handler.clone()));
        options.founders.iter().for_each(|founder| set_addresses(&peers, founder));
        raft.run(first_election.early(options.tuning.initial_election));
        let (introduction, timing) = (Introduction::new(&options, founders), options.timing);
        let watchman =
            Watchman::new(comparison, options.corruption, &handles.node, told.alarms.clone());
        let (tasks, stop) = run_all(vec![
            handles.proposing,
            handles.reading,
            background::keep_leases(handles.keeper, raft.clone()).boxed(),
            background::reconcile_members(raft.clone(), members.clone(), timing.election).boxed(),
            background::retain(raft.clone(), storage.clone(), meter, options.retention).boxed(),
            told.compactions.run(storage, raft.clone()).boxed(),
            address_members(peers.clone(), members.clone(), raft.participants()).boxed(),
            introduce(handles.node.clone(), raft.clone(), members.clone(), introduction).boxed(),
            handles.versions.run().boxed(),
            handles.placement.clone().keep(handles.node.proposer.clone()).boxed(),
            handles.node.space.clone().watch(raft.clone()).boxed(),
            watchman.run(raft.clone()).boxed(),
        ]);
        Ok(Running {
            node: handles.node,
            raft,
            peers,
            members,
            refused,
            replies,
            placement: handles.placement,
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
        let mut refused = self.refused.clone();
        let told = async {
            let told = refused.wait_for(Option::is_some).await;
            told.ok().and_then(|told| told.clone())
        };
        tokio::select! {
            reason = self.raft.stopped() => Ended::Failed(reason),
            Some(ended) = told => ended,
            Some(()) = self.left() => Ended::Removed,
        }
    }

    /// Returns when this member has applied that it is no member any more. `None` when it has
    /// stopped.
    async fn left(&self) -> Option<()> {
        let (id, mut members) = (self.node.identity.member, self.members.clone());
        members.wait_for(|members| members.is_removed(id)).await.ok()?;
        self.raft.participants().wait_for(|participants| !participants.contains(&id)).await.ok()?;
        // The others must hear that it is committed; those that have will close the connections.
        tokio::time::sleep(self.timing.election).await;
        Some(())
    }

    /// Hands leadership over if this member has it, so that the cluster need not wait for an
    /// election.
    pub async fn hand_over(&self) {
        let to = self.placement.successor();
        background::hand_over(&self.raft, to, self.timing.election).await;
    }

    /// Ends everything. Leadership should have been handed over before.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.raft.shut_down().await;
        self.peers.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        // What was proposed and can't be applied here any more.
        self.replies.forget_all();
    }
}

fn comparison(options: &Options, told: &Told, peers: &Peers) -> Comparison {
    Comparison {
        identity: options.identity,
        hashes: told.hashes.clone(),
        peers: peers.clone(),
        members: told.members.clone(),
        timeout: options.limits.timeout,
    }
}

/// Nothing has been opened yet, so members that start at the same time find nobody to ask, and do
/// not wait for each other.
async fn compare_at_start(comparison: &Comparison, peers: &Peers) -> Result<(), StartError> {
    let members = comparison.members.borrow().clone();
    members.rows.iter().for_each(|row| set_addresses(peers, &row.member));
    comparison.at_start().await.map_err(|found| StartError::Inconsistent(found.to_string()))
}

/// Runs the work in the background until the returned token is cancelled.
fn run_all(background: Vec<BoxFuture<'static, ()>>) -> (TaskTracker, CancellationToken) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    for work in background {
        tasks.spawn(stop.clone().run_until_cancelled_owned(work));
    }
    (tasks, stop)
}

/// What a member has on disk, open.
struct Opened {
    storage: Storage,
    log: Log,
    writer: Writer,
    meter: Meter,
    hub: WatchHub,
    /// Not empty when this member has never run and founds a cluster.
    founders: Vec<Member>,
}

impl Opened {
    fn open(options: &Options) -> Result<Opened, StartError> {
        let storage = open_state(options)?;
        storage::observe_writes(|took| METERS.disk.commit.observe(took));
        refuse_older(&options.version, Members::read(&storage.snapshot())?.versions.cluster)?;
        if let Some(member) = &options.force_new_cluster {
            force(options, &storage, member)?;
        }
        let files = Arc::new(MeteredFiles(options.files.clone()));
        let (log, writer) = Log::open(files, options.log.clone())?;
        let is_new = log.state().last.is_none() && storage.durable().is_none();
        let founders = if is_new { options.founders.clone() } else { Vec::new() };
        let head = StateMachine::open(storage.clone())?.revision();
        let hub = WatchHub::new(storage.clone(), head);
        let meter = log.meter();
        Ok(Opened { storage, log, writer, meter, hub, founders })
    }
}

/// Opens the state. A directory that was copied while its member ran may have state of which not
/// all files were copied; if the log holds what came after an earlier moment, the state is opened
/// as it was then, and the log replayed as after a crash.
fn open_state(options: &Options) -> Result<Storage, StartError> {
    let Some(dir) = &options.state_dir else { return Ok(Storage::open(storage::Place::Memory)?) };
    let refused = match Storage::open(storage::Place::Directory(dir)) {
        Ok(storage) => return Ok(storage),
        Err(refused) => refused,
    };
    let Ok((log, _)) = Log::open(options.files.clone(), options.log.clone()) else {
        return Err(refused.into());
    };
    let purged = log.state().purged;
    drop(log);
    let in_log = |applied: LogId| purged.is_none_or(|purged| purged.index <= applied.index);
    match Storage::open_earlier(dir, in_log) {
        Ok(storage) => {
            let applied = storage.durable().map_or(0, |id| id.index);
            warn!(%refused, applied, "state lacks files; opened as it was, the log has the rest");
            Ok(storage)
        }
        Err(_) => Err(refused.into()),
    }
}

/// A cluster that has gone on to a newer version may hold what this program does not know.
fn refuse_older(server: &str, cluster: Option<Version>) -> Result<(), StartError> {
    match cluster {
        Some(cluster) if Version::parse(server).is_some_and(|server| server < cluster) => {
            Err(StartError::OlderThanCluster { server: server.to_owned(), cluster })
        }
        Some(_) | None => Ok(()),
    }
}

fn force(options: &Options, storage: &Storage, member: &Member) -> Result<(), StartError> {
    let Identity { cluster, member: id } = options.identity;
    let request = ForceNewCluster {
        cluster_id: cluster.0,
        member: Some(Member { id: id.0, ..member.clone() }),
    };
    let forced =
        raft::force_new_cluster(options.files.clone(), options.log.clone(), storage, request)?;
    if let Some(raft::Forced { committed_before, committed }) = forced {
        info!(
            cluster_id = %cluster, local_member_id = %id,
            wal_commit_index = committed_before, commit_index = committed,
            "forcing restart member"
        );
    }
    Ok(())
}

/// The handles of a member, with the work behind them.
struct Handles {
    node: Node,
    keeper: LeaseKeeper,
    answers: Answers,
    placement: Placement,
    versions: VersionKeeper,
    proposing: BoxFuture<'static, ()>,
    reading: BoxFuture<'static, ()>,
}

impl Handles {
    fn new(
        options: &Options,
        raft: &Raft,
        storage: &Storage,
        watch: WatchHub,
        replies: Replies,
        told: &Told,
    ) -> Handles {
        let timeout = options.limits.timeout;
        let keeper = LeaseKeeper::new(raft.clone());
        let placement = Placement::new(options, raft, told);
        let answers = Answers::new(
            raft.clone(),
            keeper.clone(),
            told.hashes.clone(),
            placement.clone(),
            &options.version,
        );
        let leader = Leader::new(raft.clone(), answers.clone());
        let (proposer, proposing) =
            Proposer::new(raft.clone(), leader.clone(), replies, options.limits, options.seed);
        let (reader, reading) = Reader::new(
            raft.clone(),
            leader.clone(),
            (storage.clone(), watch.clone()),
            (told.compactions.clone(), told.hashes.clone()),
            timeout,
        );
        let credentials = credentials(options, raft, storage, told, (&proposer, &reader));
        let membership = Membership {
            identity: options.identity,
            raft: raft.clone(),
            leader: leader.clone(),
            proposer: proposer.clone(),
            reader: reader.clone(),
            rules: options.rules.clone(),
            timeout,
        };
        let versions = versions(options, raft, told, &proposer);
        let downgrades = Downgrades { proposer: proposer.clone(), reader: reader.clone() };
        let space = space(options, storage, told, (&proposer, &reader));
        let node = Node {
            identity: options.identity,
            labels: options.labels.clone(),
            proposer,
            reader: reader.clone(),
            watch,
            leases: Leases::new(raft.clone(), leader, reader, timeout),
            regions: Regions { membership: membership.clone(), placement: placement.clone() },
            membership,
            downgrades,
            saver: Saver::new(storage.clone(), options.state_dir.clone()),
            status: StatusHandle::new(
                raft.clone(),
                storage.clone(),
                options.identity,
                (told.members.clone(), told.alarms.clone()),
                options.space.quota_bytes,
            ),
            space,
            credentials,
        };
        let (proposing, reading) = (proposing.boxed(), reading.boxed());
        Handles { node, keeper, answers, placement, versions, proposing, reading }
    }
}

fn versions(options: &Options, raft: &Raft, told: &Told, proposer: &Proposer) -> VersionKeeper {
    VersionKeeper {
        raft: raft.clone(),
        proposer: proposer.clone(),
        members: told.members.clone(),
        identity: options.identity,
        server: options.version.clone(),
        downgrade_check: options.downgrade_check,
    }
}

fn space(
    options: &Options,
    storage: &Storage,
    told: &Told,
    (proposer, reader): (&Proposer, &Reader),
) -> Space {
    Space::new(
        options.identity,
        storage.clone(),
        proposer.clone(),
        reader.clone(),
        told.alarms.clone(),
        options.space.clone(),
    )
}

fn credentials(
    options: &Options,
    raft: &Raft,
    storage: &Storage,
    told: &Told,
    (proposer, reader): (&Proposer, &Reader),
) -> Credentials {
    Credentials::new(credentials::Parts {
        options: options.credentials.clone(),
        tokens: told.authority.tokens.clone(),
        in_force: told.authority.in_force.clone(),
        storage: storage.clone(),
        raft: raft.clone(),
        proposer: proposer.clone(),
        reader: reader.clone(),
        timeout: options.limits.timeout,
    })
}

async fn open_ports(peers: &Peers, urls: &[PeerUrl]) -> Result<Vec<peers::Bound>, StartError> {
    let mut ports = Vec::new();
    for url in urls {
        let bound = peers.bind(url).await;
        ports.push(bound.map_err(|error| StartError::Bind { url: url.to_string(), error })?);
    }
    Ok(ports)
}
