//! openraft's settings, derived from etcd's flags. Each that differs from openraft's default says
//! why.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// Heartbeat interval and election timeout, as the flags of these names give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election: Duration,
}

impl Timing {
    /// A follower hears nothing from its leader for so long before it may stand for election.
    ///
    /// openraft waits for this and then for a random time up to it, so that failover takes one to
    /// two of these. Four fifths of the flag's value keep it within what etcd's users expect of the
    /// flag.
    pub(crate) fn leader_lease(&self) -> Duration {
        self.election * 4 / 5
    }
}

/// How much of the log stays after a snapshot, for members that are a little behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries between two flushes of the state that let the log be purged (etcd's snapshot-count).
    pub snapshot_count: u64,
    /// Entries kept behind that point (etcd's snapshot-catchup-entries).
    pub catchup_entries: u64,
}

/// # Errors The values contradict each other, for example an election timeout not above the
/// heartbeat interval.
pub(crate) fn openraft_config(
    timing: Timing,
    retention: Retention,
) -> Result<Config, openraft::ConfigError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "orrery".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election * 2 / 5),
        election_timeout_max: millis(timing.leader_lease()),
        // A member that was cut off must not depose a working leader when it returns.
        enable_pre_vote: Some(true),
        // Without the probe a one-way partition can leave a cluster leaderless for good.
        quorum_loss_probe_interval: Some(millis(timing.election * 2)),
        // A restarted leader must win an election again before it leads.
        enable_leader_restore: Some(false),
        // We say when: by entries and by bytes, see `retention.rs`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: retention.catchup_entries,
        // Whole segments go at once, so purging entry by entry would be wasted work.
        purge_batch_size: retention.catchup_entries.clamp(1, 1024),
        // Batches are bounded in bytes where the log is read.
        max_payload_entries: 4096,
        max_append_entries: Some(4096),
        // Replicate as soon as entries are in the log, in parallel with our own fsync.
        broadcast_submitted_on_append: Some(true),
        // Only a hint: the transport has progress timeouts of its own.
        install_snapshot_timeout: 60_000,
        // An attempt at a member that is not connected costs nothing; one that has come back waits
        // for entries as long as this, and with it whoever asks it.
        backoff: "50ms ...50ms".into(),
        ..Config::default()
    }
    .validate()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_member_that_comes_back_waits_little_for_entries_however_long_it_was_away() {
        let timing =
            Timing { heartbeat: Duration::from_millis(100), election: Duration::from_secs(1) };
        let retention = Retention { snapshot_count: 1000, catchup_entries: 100 };
        let config = openraft_config(timing, retention).unwrap();
        let pauses: Vec<Duration> = config.build_backoff().take(100).collect();
        assert!(pauses.iter().all(|pause| *pause == Duration::from_millis(50)), "{pauses:?}");
    }
}
