//! The words of the project: numbers that have a meaning, each with a type of its own.

mod key_range;
mod level;
mod log_id;
mod trace_context;
mod version;

use std::fmt;

pub use key_range::KeyRange;
pub use level::Level;
pub use log_id::{LogId, Vote};
pub use trace_context::TraceContext;
pub use version::Version;

/// A point in the history of the key space; grows by one per applied write transaction.
///
/// Revision 1 is the empty store, so the first write creates revision 2 (as in etcd).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    pub const EMPTY_STORE: Revision = Revision(1);

    /// Where nothing ever was; etcd lets a store that was never compacted be compacted here.
    pub const BEFORE_ALL: Revision = Revision(0);

    /// `None` for what the wire uses as "not set": zero and negative numbers.
    pub fn from_wire(raw: i64) -> Option<Revision> {
        (raw > 0).then_some(Revision(raw))
    }

    /// The number that the wire and the disk use.
    pub fn get(self) -> i64 {
        self.0
    }

    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// The revision before this one; `None` before the first.
    pub fn previous(self) -> Option<Revision> {
        Revision::from_wire(self.0 - 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One change within a revision: a transaction numbers its changes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubRevision {
    pub main: Revision,
    pub sub: i64,
}

/// Name of a lease. Zero on the wire means "no lease", which here is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(std::num::NonZeroI64);

impl LeaseId {
    /// `None` for zero. Negative ids are valid: clients may choose them.
    pub fn from_wire(raw: i64) -> Option<LeaseId> {
        std::num::NonZeroI64::new(raw).map(LeaseId)
    }

    pub fn get(self) -> i64 {
        self.0.get()
    }
}

/// Name of a member, which is its Raft node id as well. Printed as etcd prints it: in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Name of a cluster. Printed as etcd prints it: in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
