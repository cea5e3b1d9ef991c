//! How a member goes about its work, with defaults that fit most.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Stand for election soon after a start, without waiting for the election timeout.
    pub initial_election: bool,
    /// Revisions that one batch of a compaction looks at.
    pub compaction_batch: usize,
    /// Pause between two batches, so that a compaction takes no more than part of the disk's time.
    pub compaction_pause: Duration,
    /// Applying what takes longer is logged.
    pub slow_apply: Duration,
}

impl Default for Tuning {
    /// As in etcd.
    fn default() -> Tuning {
        Tuning {
            initial_election: true,
            compaction_batch: 1000,
            compaction_pause: Duration::from_millis(10),
            slow_apply: Duration::from_millis(100),
        }
    }
}
