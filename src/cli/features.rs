//! Which of etcd's features are on, for those who look.

use crate::{config::Config, http::Feature};

/// All of etcd's, by name. A feature that is no question here is shown as it is in etcd unless told
/// otherwise.
pub(super) fn of(config: &Config) -> Vec<Feature> {
    let (alpha, beta) = ("ALPHA", "BETA");
    let corruption = &config.corruption;
    let features = [
        ("AllAlpha", alpha, false),
        ("AllBeta", beta, false),
        ("CompactHashCheck", alpha, corruption.compaction_period.is_some()),
        ("FastLeaseKeepAlive", beta, true),
        ("InitialCorruptCheck", alpha, corruption.at_start),
        ("LeaseCheckpoint", alpha, false),
        ("LeaseCheckpointPersist", alpha, false),
        ("PriorityRequest", alpha, false),
        ("SetMemberLocalAddr", alpha, false),
        ("StopGRPCServiceOnDefrag", alpha, false),
        ("TxnModeWriteWithSharedBuffer", beta, true),
    ];
    features.map(|(name, stage, enabled)| Feature { name, stage, enabled }).to_vec()
}
