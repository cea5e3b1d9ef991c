//! The servers that a run can have: ours, and a real etcd to compare with. Both take the same
//! flags, so little differs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Entries between two snapshots, and entries kept behind one: few, so that members that were away
/// need a snapshot.
const SNAPSHOT_COUNT: u32 = 200;
const CATCHUP_ENTRIES: u32 = 100;

/// Which server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Orrery,
    Etcd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Orrery => "orrery",
            Kind::Etcd => "etcd",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    pub kind: Kind,
    pub binary: PathBuf,
    /// What `--version` says, on one line.
    pub version: String,
    /// Flags beyond those of every member; a broken build is told here how it is broken.
    pub flags: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Server {
    /// # Errors The binary does not run.
    pub fn new(kind: Kind, binary: PathBuf) -> Result<Server> {
        let output = Command::new(&binary).arg("--version").output();
        let output = output.with_context(|| format!("{} --version", binary.display()))?;
        ensure!(output.status.success(), "{} --version failed", binary.display());
        let printed = String::from_utf8_lossy(&output.stdout);
        let version = printed.lines().collect::<Vec<_>>().join(", ");
        // Nobody is there to disarm the alarm of a disk that was full for a while.
        let flags = match kind {
            Kind::Orrery => vec!["--auto-disarm-nospace=true".to_owned()],
            Kind::Etcd => Vec::new(),
        };
        Ok(Server { kind, binary, version, flags, environment: Vec::new() })
    }

    /// The command line of a member, after the binary.
    pub(crate) fn arguments(&self, member: &Identity<'_>) -> Vec<String> {
        let clients = format!("http://{}:2379", member.address);
        let peers = format!("http://{}:2380", member.address);
        let flags = [
            ("name", member.name.clone()),
            ("data-dir", member.data_dir.display().to_string()),
            ("listen-client-urls", clients.clone()),
            ("advertise-client-urls", clients),
            ("listen-peer-urls", peers.clone()),
            ("initial-advertise-peer-urls", peers),
            ("initial-cluster", member.initial_cluster.to_owned()),
            ("initial-cluster-state", member.state.to_owned()),
            ("snapshot-count", SNAPSHOT_COUNT.to_string()),
            ("snapshot-catchup-entries", CATCHUP_ENTRIES.to_string()),
            ("watch-progress-notify-interval", "1s".to_owned()),
        ];
        let flags = flags.into_iter().map(|(name, value)| format!("--{name}={value}"));
        flags.chain(self.flags.iter().cloned()).collect()
    }
}

/// Who a member is when it starts.
pub(crate) struct Identity<'a> {
    pub(crate) name: String,
    pub(crate) address: std::net::Ipv4Addr,
    pub(crate) data_dir: &'a Path,
    pub(crate) initial_cluster: &'a str,
    /// "new" or "existing".
    pub(crate) state: &'a str,
}
