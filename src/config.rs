//! What the member is told to be: etcd's flags and environment, parsed once into a [`Config`] that
//! cannot be wrong. The only place that reads the environment.

mod auth;
mod check;
mod cluster;
mod discovery;
mod duration;
mod error;
mod flags;
mod help;
mod http;
mod raw;
mod tracing;
mod url;

use std::{fmt, path::PathBuf, time::Duration};

pub use auth::{Auth, AuthToken};
pub use cluster::{ClusterState, Founding};
pub use discovery::{Discovery, Domain, Endpoint, Registry, User};
pub use error::Error;
pub use http::{Http, Metrics};
pub use tracing::Tracing;
pub use url::{Address, ListenUrl, Place, Url};

use crate::{telemetry, tls};

/// etcd's bound for `--election-timeout`, in milliseconds.
pub const ELECTION_MS_MAX: u64 = 50_000;

/// etcd's default for `--quota-backend-bytes`, which 0 stands for: 2 GiB.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;

/// Everything that flags and environment say about a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub peers: Listeners,
    pub clients: Listeners,
    /// Where `/metrics` and `/health` are served besides the clients' listeners.
    pub metrics_listen: Vec<ListenUrl>,
    pub http: Http,
    /// The cluster that a member without data founds or joins.
    pub founding: Founding,
    /// Where a member without data learns who that is, if not from `founding`.
    pub discovery: Discovery,
    /// Whether `--initial-cluster-token` was set, so that it can be held against existing data.
    pub token_is_set: bool,
    pub timing: Timing,
    pub limits: Limits,
    /// Applied entries after which older log entries may be dropped.
    pub snapshot_count: u64,
    /// Log entries kept beyond the newest droppable one, for members that are behind.
    pub snapshot_catchup_entries: u64,
    /// Refuse changes of membership that would cost the quorum.
    pub strict_reconfig_check: bool,
    pub max_learners: u64,
    /// Time between two looks at a downgrade; none for zero.
    pub downgrade_check_time: Duration,
    pub pre_vote: bool,
    /// Make this member the only one of its cluster.
    pub force_new_cluster: bool,
    /// Do not wait for the disk.
    pub unsafe_no_fsync: bool,
    pub watch_progress_notify_interval: Duration,
    pub auto_compaction: AutoCompaction,
    pub corruption: CorruptionChecks,
    pub auth: Auth,
    pub tracing: Option<Tracing>,
    pub log_level: telemetry::Level,
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
    /// Negative for no limit.
    pub quota_backend_bytes: i64,
    /// Free bytes that the data disk should have; `None` for a part of it.
    pub disk_reserve_bytes: Option<u64>,
    pub auto_disarm_nospace: bool,
}

/// When members compare what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    pub at_start: bool,
    pub period: Option<Duration>,
    /// Of the hashes that compactions leave.
    pub compaction_period: Option<Duration>,
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

/// What is worth telling about a configuration that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// These flags were set, and nothing comes of it.
    NoEffect(Vec<String>),
    /// An `ETCD_` variable that belongs to no flag.
    UnknownVariable(String),
    /// TLS files, or automatic TLS, for a URL that begins with http.
    TlsUnused(String),
    /// Automatic TLS beside certificate files: the files win.
    AutoTlsUnused(&'static str),
    /// A cost that bcrypt does not have: the default is taken.
    BcryptCost(u64),
    /// Parts of `--auth-token` that mean nothing.
    UnknownTokenOptions(Vec<String>),
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
        match raw::read(arguments, environment)? {
            raw::Asked::Help => Ok(Asked::Print(help::help())),
            raw::Asked::Version => Ok(Asked::Print(help::version())),
            raw::Asked::Serve(raw) => {
                let (config, warnings) = check::check(raw)?;
                Ok(Asked::Serve(Box::new(config), warnings))
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

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoEffect(_) => f.write_str("flag has no effect here"),
            Warning::UnknownVariable(_) => f.write_str("unrecognized environment variable"),
            Warning::TlsUnused(_) => f.write_str(
                "the scheme of a URL is HTTP while TLS is configured; the URL is served without TLS",
            ),
            Warning::AutoTlsUnused(_) => {
                f.write_str("ignoring automatic TLS since certificate files are given")
            }
            Warning::BcryptCost(_) => {
                f.write_str("use default bcrypt cost instead of the invalid given cost")
            }
            Warning::UnknownTokenOptions(_) => f.write_str("unknown JWT options"),
        }
    }
}

impl Warning {
    /// The flags, variable or URL that it is about.
    pub fn about(&self) -> String {
        match self {
            Warning::NoEffect(flags) => flags.join(" "),
            Warning::UnknownVariable(what) | Warning::TlsUnused(what) => what.clone(),
            Warning::AutoTlsUnused(flag) => format!("--{flag}"),
            Warning::BcryptCost(cost) => format!("--bcrypt-cost {cost}"),
            Warning::UnknownTokenOptions(options) => format!("--auth-token {}", options.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests;
