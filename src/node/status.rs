//! What a member knows of itself, for Status, health and metrics.

use tokio::sync::watch;

use crate::{storage::Sizes, types::MemberId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `None` while leaderless; a leader without a quorum for one election timeout counts as none.
    pub leader: Option<MemberId>,
    pub term: u64,
    /// Index of the newest committed entry that this member knows of.
    pub committed_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
    pub sizes: Sizes,
    /// `quota-backend-bytes` in force.
    pub quota_bytes: i64,
}

#[derive(Clone)]
pub struct StatusHandle {}

impl StatusHandle {
    pub fn now(&self) -> Status {
        unimplemented!()
    }

    /// The Raft term, for headers.
    pub fn term(&self) -> u64 {
        unimplemented!()
    }

    /// As [`Status::is_learner`]. Asked for every call, so cheap.
    pub fn is_learner(&self) -> bool {
        unimplemented!()
    }

    /// Who leads, by the same rule as [`Status::leader`]; changes are announced.
    pub fn leader(&self) -> watch::Receiver<Option<MemberId>> {
        unimplemented!()
    }
}
