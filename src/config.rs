//! What the member is told to be: etcd's flags, environment or file, parsed once into a [`Config`]
//! that cannot be wrong. The only place that reads the environment.

mod auth;
mod check;
mod cluster;
mod consistency;
mod discovery;
mod duration;
mod error;
mod features;
mod file;
mod flags;
mod help;
mod http;
mod proxies;
mod raw;
mod removed;
mod services;
mod url;
mod value;
mod warning;

use std::{path::PathBuf, time::Duration};

pub use auth::{Auth, AuthToken};
pub use cluster::{ClusterState, Founding};
pub use consistency::Defaults;
pub use discovery::{Discovery, Domain, Endpoint, Registry, User};
pub use error::Error;
pub(crate) use features::Stage;
pub use features::{Features, Gate};
pub use help::USAGE;
pub use http::{Http, Metrics};
pub use services::{CorruptionChecks, Tracing};
pub use url::{Address, ListenUrl, Place, Url};
pub use warning::Warning;

use crate::{cluster::Labels, raft::network::Proxies, telemetry, tls};

/// etcd's bound for `--election-timeout`, in milliseconds.
pub const ELECTION_MS_MAX: u64 = 50_000;

/// etcd's default for `--quota-backend-bytes`, which 0 stands for: 2 GiB.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;

/// Everything that flags and environment, or a file, say about a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: String,
    /// Where the member stands.
    pub labels: Labels,
    pub data_dir: PathBuf,
    /// Where the Raft log is kept, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    pub peers: Listeners,
    pub clients: Listeners,
    /// Where `/metrics` and `/health` are served besides the clients' listeners.
    pub metrics_listen: Vec<ListenUrl>,
    pub sockets: SocketOptions,
    /// How members are reached that are not reached directly.
    pub proxies: Proxies,
    /// The cluster that a member without data founds or joins.
    pub founding: Founding,
    /// Where a member without data learns who that is, if not from `founding`.
    pub discovery: Discovery,
    /// Whether `--initial-cluster-token` was set, so that it can be held against existing data.
    pub token_is_set: bool,
    pub timing: Timing,
    /// Shorten the first election after a start.
    pub initial_election_tick_advance: bool,
    pub limits: Limits,
    pub keepalive: Keepalive,
    /// Applied entries after which older log entries may be dropped.
    pub snapshot_count: u64,
    /// Log entries kept beyond the newest droppable one, for members that are behind.
    pub snapshot_catchup_entries: u64,
    /// Refuse changes of membership that would cost the quorum.
    pub strict_reconfig_check: bool,
    pub max_learners: u64,
    pub watch_progress_notify_interval: Duration,
    pub auto_compaction: AutoCompaction,
    pub compaction: Compaction,
    pub corruption: CorruptionChecks,
    /// Time between two looks at a downgrade; none for zero.
    pub downgrade_check_time: Duration,
    /// Space to gain, in megabytes, for which a start defragments; 0 for never.
    pub bootstrap_defrag_threshold_megabytes: u64,
    pub features: Features,
    pub auth: Auth,
    /// What reads get that do not say how fresh they have to be.
    pub consistency: Defaults,
    pub http: Http,
    pub log: telemetry::Options,
    /// A unary request that takes longer is logged.
    pub warning_unary_request_duration: Duration,
    /// A request whose application or local read takes longer is logged.
    pub warning_apply_duration: Duration,
    /// `None` when no traces are sent.
    pub tracing: Option<Tracing>,
    /// Keep the process in memory pages that are never swapped.
    pub memory_mlock: bool,
    /// Make this member the only one of its cluster.
    pub force_new_cluster: bool,
    /// Do not wait for the disk.
    pub unsafe_no_fsync: bool,
}

/// One kind of connections: where they come in, how others find the place, how they are secured.
#[derive(Clone, Debug, PartialEq)]
pub struct Listeners {
    /// Sorted by URL, each once, never empty.
    pub listen: Vec<ListenUrl>,
    /// Sorted, each once, never empty.
    pub advertise: Vec<Url>,
    pub tls: tls::Source,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Others may listen on the same port.
    pub reuse_port: bool,
    /// A port of which connections are still closing may be taken.
    pub reuse_address: bool,
}

/// `election` is at least five times `heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    /// Streams that one connection may have open.
    pub max_concurrent_streams: u32,
    /// Negative for no limit.
    pub quota_backend_bytes: i64,
    /// Free bytes that the data disk should have; `None` for a part of it.
    pub disk_reserve_bytes: Option<u64>,
    pub auto_disarm_nospace: bool,
}

/// Pings to clients that are silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `None` for no pings.
    pub interval: Option<Duration>,
    pub timeout: Duration,
}

/// Compaction that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// Keep this much time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(u64),
}

/// How compaction is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Revisions looked at in one batch.
    pub batch_limit: usize,
    /// Pause between two batches.
    pub sleep_interval: Duration,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Print this and stop.
    Print(String),
    Serve(Box<Config>, Vec<Warning>),
}

impl Config {
    /// Reads this process's arguments (those behind the program's name) and environment.
    pub fn of_process(
        arguments: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Asked, Error> {
        Config::read(arguments, std::env::vars_os())
    }

    /// The same from given arguments and environment.
    pub fn read(
        arguments: impl IntoIterator<Item = std::ffi::OsString>,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Asked, Error> {
        let environment: Vec<_> = environment.into_iter().collect();
        let proxies = proxies::of_environment(&environment);
        match raw::read(arguments, environment)? {
            raw::Asked::Help => Ok(Asked::Print(help::help())),
            raw::Asked::Version => Ok(Asked::Print(help::version())),
            raw::Asked::Serve(raw) => {
                let (config, warnings) = check::check(raw)?;
                Ok(Asked::Serve(Box::new(Config { proxies, ..config }), warnings))
            }
        }
    }
}

/// The arguments of this process, without the program's name.
pub fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().skip(1)
}

/// The name that this process was called by, without the folder.
pub fn program() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
