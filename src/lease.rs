//! Leases: the replicated table, and the leader's timers beside it.

mod expiry;
pub mod table;

use std::time::Duration;

use crate::types::LeaseId;

pub use expiry::{ExpiryQueue, Renewal};

/// A row of the lease table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// What was granted, in seconds.
    pub ttl_secs: i64,
    /// What was left at the last checkpoint, in seconds; `None` when the full time was.
    pub remaining_secs: Option<i64>,
}

/// What applying a command did to the lease table, for the leader's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Granted(Lease),
    Revoked(LeaseId),
    /// A checkpoint was applied: the lease now has this row.
    Checkpointed(Lease),
}

/// Longest time to live that can be granted, as in etcd.
pub const TTL_MAX: Duration = Duration::from_secs(9_000_000_000);
