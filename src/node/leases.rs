//! Leases as clients see them: keep-alive and remaining time, answered by the leader's clock.

use bytes::Bytes;

use crate::{node::Error, types::LeaseId};

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Seconds left, rounded down.
    pub remaining_secs: i64,
    pub granted_secs: i64,
    /// Sorted; empty unless asked for.
    pub keys: Vec<Bytes>,
}

#[derive(Clone)]
pub struct Leases {}

impl Leases {
    /// Renews a lease through the leader. The granted seconds; `None` when there is no such lease.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Option<i64>, Error> {
        let _ = id;
        unimplemented!()
    }

    /// `None` when there is no such lease.
    pub async fn time_to_live(
        &self,
        id: LeaseId,
        with_keys: bool,
    ) -> Result<Option<TimeToLive>, Error> {
        let _ = (id, with_keys);
        unimplemented!()
    }

    /// All leases, the next to expire first.
    pub async fn list(&self) -> Result<Vec<LeaseId>, Error> {
        unimplemented!()
    }
}
