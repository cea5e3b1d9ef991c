//! A machine of the simulation: a disk that outlives its member, and a member that can be killed,
//! made to stand still, and started again.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use orrery::{
    log::{self, Fault, FaultyFiles, Files},
    node::{
        CorruptionRules, Identity, Labels, Limits, MembershipRules, Node, Options, Running,
        SpaceRules, Tuning,
    },
    proto::etcdserverpb::Member,
    raft::{Retention, Timing, Workers},
    types::{ClusterId, MemberId},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    crash_image::take_image,
    door::{self, Door},
    lies::{Flattery, Lie},
    network::{Card, Orders},
};

pub(crate) const MEMBERS: usize = 3;

pub(crate) const ELECTION: Duration = Duration::from_millis(250);
const HEARTBEAT: Duration = Duration::from_millis(25);

/// How long a request may take inside a member.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A step of simulated time.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// How a member's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// What was written is in the kernel's hands and survives.
    Kill,
    /// What was not synced is lost, or half of it is.
    PowerLoss,
}

/// A way in which a build is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing is.
    Not,
    /// A member that starts again has forgotten whom it voted for.
    VoteForgotten,
    /// Syncing the log does nothing.
    NoSync,
    /// A member hears what it would like to hear instead of what others say.
    Flattered(Lie),
}

pub(crate) struct Machine {
    pub index: usize,
    pub door: Door,
    pub files: FaultyFiles,
    /// Filled with a new card's end when a member starts.
    pub slot: Rc<RefCell<Option<Orders>>>,
    /// Power may go at any operation of the disk.
    pub is_failing: bool,
    /// Standing still until this step.
    pub still_until: Option<u64>,
    random: StdRng,
    broken: Broken,
    root: TempDir,
    /// Number of the present image of the state.
    image: u64,
    /// Of the state when the member last started.
    first_generation: u64,
    process: Option<Process>,
}

/// Dropped in this order: first what is inside, then the runtime.
struct Process {
    shared: Arc<Mutex<Shared>>,
    /// Told before the tasks are dropped, whose order says nothing.
    gone: CancellationToken,
    runtime: Runtime,
    /// Steps that this process has seen, and the step at which it began.
    clock: u64,
}

#[derive(Default)]
struct Shared {
    node: Option<Node>,
    ended: Option<String>,
}

pub(crate) fn host(index: usize) -> String {
    format!("m{}", index + 1)
}

pub(crate) fn id(index: usize) -> MemberId {
    MemberId(index as u64 + 1)
}

/// In memory, where the system has such a place.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || tempfile::Builder::new().prefix("orrery-sim-").rand_bytes(8).to_owned();
    if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() }.unwrap()
}

impl Machine {
    pub(crate) fn new(index: usize, seed: u64, broken: Broken) -> Machine {
        let mut random = StdRng::seed_from_u64(seed);
        Machine {
            index,
            door: Door::default(),
            files: FaultyFiles::new(random.random()),
            slot: Rc::default(),
            is_failing: false,
            still_until: None,
            random,
            broken,
            root: folder(),
            image: 0,
            first_generation: 1,
            process: None,
        }
    }

    fn state_dir(&self) -> PathBuf {
        self.root.path().join(self.image.to_string())
    }

    /// Counts the processes that this machine has had.
    pub(crate) fn life(&self) -> u64 {
        self.image
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn start(&mut self, now: u64) {
        if self.broken == Broken::VoteForgotten && self.image > 0 {
            self.files = super::lies::without_vote(&self.files, self.random.random());
        }
        self.first_generation = self.generation();
        let gone = CancellationToken::new();
        let (card, orders) = Card::new(gone.clone());
        *self.slot.borrow_mut() = Some(orders);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&self.random.random::<[u8; 32]>()))
            .build()
            .unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let options = self.options(card);
        runtime.spawn(live(options, self.door.open(gone.clone()), shared.clone()));
        // Deadlines fall on whole milliseconds from here on.
        runtime.block_on(async { tokio::time::sleep(STEP).await });
        self.process = Some(Process { shared, gone, runtime, clock: now });
    }

    fn options(&mut self, card: Card) -> Options {
        let url = |index| format!("http://{}:2380", host(index));
        let founders = (0..MEMBERS).map(|index| Member {
            id: id(index).0,
            name: host(index),
            peer_ur_ls: vec![url(index)],
            ..Member::default()
        });
        let files: Arc<dyn Files> = match self.broken {
            Broken::NoSync => Arc::new(super::lies::NoSync(Arc::new(self.files.clone()))),
            Broken::Not | Broken::VoteForgotten | Broken::Flattered(_) => {
                Arc::new(self.files.clone())
            }
        };
        let network: Arc<dyn orrery::raft::network::Network> = match self.broken {
            Broken::Flattered(lie) => Arc::new(Flattery(card, lie)),
            Broken::Not | Broken::VoteForgotten | Broken::NoSync => Arc::new(card),
        };
        Options {
            identity: Identity { cluster: ClusterId(7), member: id(self.index) },
            incarnation: id(self.index).0,
            epoch: self.random.random(),
            name: host(self.index),
            client_urls: vec![format!("http://{}:2379", host(self.index))],
            labels: Labels::default(),
            founders: founders.collect(),
            timing: Timing { heartbeat: HEARTBEAT, election: ELECTION },
            // Members that were away for a second need a snapshot.
            retention: Retention { snapshot_count: 25, catchup_entries: 15 },
            limits: Limits {
                request_bytes: 1 << 20,
                lease_ttl_min_secs: 1,
                timeout: REQUEST_TIMEOUT,
            },
            tuning: Tuning::default(),
            rules: MembershipRules { max_learners: 1, strict: true },
            space: SpaceRules {
                quota_bytes: -1,
                places: Vec::new(),
                reserve_bytes: None,
                disarms_itself: false,
            },
            corruption: CorruptionRules::default(),
            credentials: Default::default(),
            log: log_options(),
            files,
            state_dir: Some(self.state_dir()),
            workers: Workers::Tasks,
            network,
            peer_tls: None,
            peer_listen: vec![url(self.index).parse().unwrap()],
            version: "3.7.0".to_owned(),
            downgrade_check: Duration::from_secs(5),
            force_new_cluster: None,
            seed: self.random.random(),
        }
    }

    /// Lets the member do what it has to do within one step, and catches up if it stood still.
    pub(crate) fn step(&mut self, now: u64) {
        if self.still_until.is_some_and(|until| now < until) {
            return;
        }
        self.still_until = None;
        let Some(process) = &mut self.process else { return };
        let _span = tracing::info_span!("member", id = self.index + 1, now).entered();
        let missed = (now - process.clock).saturating_sub(1);
        if missed > 0 {
            // The clock has run on; all that is due happens at once.
            let missed = STEP * u32::try_from(missed).unwrap();
            process.runtime.block_on(async { tokio::time::advance(missed).await });
        }
        process.runtime.block_on(async { tokio::time::sleep(STEP).await });
        process.clock = now;
    }

    /// Who leads in which term, as this member believes.
    pub(crate) fn leadership(&self) -> Option<(u64, MemberId)> {
        let shared = self.process.as_ref()?.shared.lock().unwrap();
        let status = &shared.node.as_ref()?.status;
        let leader = (*status.leader().borrow())?;
        Some((status.term(), leader))
    }

    /// Why the member has ended by itself.
    pub(crate) fn ended(&self) -> Option<String> {
        self.process.as_ref()?.shared.lock().unwrap().ended.clone()
    }

    /// Ends the member's process; its disk keeps what the kind of death leaves.
    pub(crate) fn die(&mut self, death: Death) {
        let Some(process) = self.process.take() else { return };
        self.still_until = None;
        // Closing RocksDB would write what a crash loses, so the image is taken before.
        let from = self.state_dir();
        self.image += 1;
        take_image(&from, &self.state_dir());
        process.gone.cancel();
        drop(process);
        fs::remove_dir_all(from).unwrap();
        self.fail_no_more();
        self.is_failing = false;
        // Power may have gone in the very moment in which the member was to be killed.
        if death == Death::PowerLoss || !self.files.has_power() {
            self.files.lose_power();
        }
    }

    /// Power goes at the n-th operation of the disk from now on.
    pub(crate) fn fail_at(&mut self, operation: u64) {
        self.is_failing = true;
        self.files.fail_after(operation, Fault::Power);
    }

    pub(crate) fn fail_no_more(&self) {
        self.files.fail_no_more();
    }

    /// How many snapshots have been put in the place of the state since the member last started.
    pub(crate) fn snapshots(&self) -> u64 {
        self.generation() - self.first_generation
    }

    fn generation(&self) -> u64 {
        let current = fs::read_to_string(self.state_dir().join("CURRENT")).unwrap_or_default();
        current.trim().trim_start_matches("state-").parse().unwrap_or(1)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process = None;
    }
}

pub(crate) fn log_options() -> log::Options {
    log::Options {
        dir: "/log".into(),
        group: 0,
        // Small, so that segments follow each other and old entries are read from files.
        segment_bytes: 16 << 10,
        cache_bytes: 4 << 10,
    }
}

async fn live(options: Options, requests: door::Requests, shared: Arc<Mutex<Shared>>) {
    let ended = match Running::start(options).await {
        Err(error) => format!("did not start: {error}"),
        Ok(running) => {
            shared.lock().unwrap().node = Some(running.node.clone());
            tokio::spawn(door::serve(running.node.clone(), requests));
            format!("{:?}", running.ended().await)
        }
    };
    shared.lock().unwrap().ended = Some(ended);
}
