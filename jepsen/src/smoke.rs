//! The runs that every change must pass, and the broken builds that they must find: a harness that
//! finds nothing proves nothing.

use crate::{nemesis::Nemesis, workload::Workload};

/// A run of the smoke set.
#[derive(Clone, Copy, Debug)]
pub struct Smoke {
    pub workload: Workload,
    pub nemesis: Nemesis,
    pub seconds: u64,
    /// With certificates and users.
    pub secure: bool,
}

/// Each workload at least once, and each kind of fault.
pub const RUNS: [Smoke; 10] = [
    smoke(Workload::Register, Nemesis::PartitionLeader, 15),
    smoke(Workload::Append, Nemesis::Kill, 15).secure(),
    smoke(Workload::Set, Nemesis::PowerAll, 15),
    smoke(Workload::Watch, Nemesis::Rolling, 15),
    smoke(Workload::Bank, Nemesis::Pause, 15),
    smoke(Workload::Lease, Nemesis::Transfer, 15),
    smoke(Workload::LockFenced, Nemesis::Pause, 12),
    smoke(Workload::Election, Nemesis::Kill, 12),
    smoke(Workload::Mix, Nemesis::Membership, 15).secure(),
    smoke(Workload::Mix, Nemesis::All, 20),
];

/// A build that is broken on purpose, and the run that finds it.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub what: &'static str,
    pub how: Broken,
    pub smoke: Smoke,
}

#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// Syncing does nothing: a library in front of the C library's functions.
    WithoutSyncing,
    /// The server's own failpoint, and what it does.
    Failpoint(&'static str),
    /// Nothing: clients rely on what no server can give.
    Clients,
}

pub const CONTROLS: [Control; 7] = [
    Control {
        what: "nothing is synced",
        how: Broken::WithoutSyncing,
        smoke: smoke(Workload::Set, Nemesis::PowerAll, 10),
    },
    Control {
        what: "reads without asking whether it still leads",
        how: Broken::Failpoint("read-unconfirmed=return"),
        smoke: smoke(Workload::Register, Nemesis::TransferDeaf, 15),
    },
    Control {
        what: "votes are not kept",
        how: Broken::Failpoint("vote-not-saved=return"),
        smoke: smoke(Workload::Register, Nemesis::KillAll, 12),
    },
    Control {
        what: "an event is not told",
        how: Broken::Failpoint("event-dropped=2%return"),
        smoke: smoke(Workload::Watch, Nemesis::None, 8),
    },
    Control {
        what: "leases are missing from snapshots",
        how: Broken::Failpoint("leases-not-exported=return"),
        smoke: smoke(Workload::Mix, Nemesis::Lag, 18),
    },
    Control {
        what: "a revision is used twice",
        how: Broken::Failpoint("revision-reused=return"),
        smoke: smoke(Workload::Mix, Nemesis::None, 8),
    },
    Control {
        what: "clients rely on a lock alone",
        how: Broken::Clients,
        smoke: smoke(Workload::LockUnfenced, Nemesis::Pause, 12),
    },
];

/// Seeds that a control may need: what it breaks shows in most runs, not in all.
pub const CONTROL_SEEDS: u64 = 4;

const fn smoke(workload: Workload, nemesis: Nemesis, seconds: u64) -> Smoke {
    Smoke { workload, nemesis, seconds, secure: false }
}

impl Smoke {
    const fn secure(self) -> Smoke {
        Smoke { secure: true, ..self }
    }
}
