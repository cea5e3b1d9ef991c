//! Flags of earlier releases of etcd, which command lines in the wild still hold, and what became
//! of them.

use Becomes::{Flag, Gate, Nothing};
use Kind::{Anything, Bool, Count, Duration, Number, Text};
use features::Gate::{
    CompactHashCheck, InitialCorruptCheck, LeaseCheckpoint, LeaseCheckpointPersist,
    SetMemberLocalAddr, StopGRPCServiceOnDefrag, TxnModeWriteWithSharedBuffer,
};

use super::{
    features,
    flags::{self, Effect, Section},
    value::Kind,
};

/// What a value of a removed flag means today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Becomes {
    Nothing,
    /// The same as for this flag.
    Flag(&'static str),
    /// Whether this feature is on.
    Gate(features::Gate),
}

pub(crate) struct Removed {
    pub(crate) flag: flags::Flag,
    pub(crate) becomes: Becomes,
}

pub(crate) fn find(name: &str) -> Option<&'static Removed> {
    REMOVED.iter().find(|removed| removed.flag.name == name)
}

const fn removed(name: &'static str, kind: Kind, becomes: Becomes) -> Removed {
    let (section, effect) = (Section::Unsafe, Effect::Removed);
    Removed { flag: flags::Flag { name, section, kind, default: "", effect, help: "" }, becomes }
}

#[rustfmt::skip] // a table
pub(crate) const REMOVED: &[Removed] = &[
    removed("discovery-proxy", Text, Nothing),
    removed("enable-v2", Bool, Nothing),
    removed("experimental-enable-v2v3", Text, Nothing),
    removed("proxy", Text, Nothing),
    removed("proxy-failure-wait", Count, Nothing),
    removed("proxy-refresh-interval", Count, Nothing),
    removed("proxy-dial-timeout", Count, Nothing),
    removed("proxy-write-timeout", Count, Nothing),
    removed("proxy-read-timeout", Count, Nothing),
    removed("debug", Bool, Nothing),
    removed("log-package-levels", Text, Nothing),
    removed("experimental-initial-corrupt-check", Bool, Gate(InitialCorruptCheck)),
    removed("experimental-corrupt-check-time", Duration, Flag("corrupt-check-time")),
    removed("experimental-compact-hash-check-enabled", Bool, Gate(CompactHashCheck)),
    removed("experimental-compact-hash-check-time", Duration, Flag("compact-hash-check-time")),
    removed("experimental-watch-progress-notify-interval", Duration, Flag("watch-progress-notify-interval")),
    removed("experimental-warning-apply-duration", Duration, Flag("warning-apply-duration")),
    removed("experimental-warning-unary-request-duration", Duration, Flag("warning-unary-request-duration")),
    removed("experimental-peer-skip-client-san-verification", Bool, Flag("peer-skip-client-san-verification")),
    removed("experimental-memory-mlock", Bool, Flag("memory-mlock")),
    removed("experimental-max-learners", Number, Flag("max-learners")),
    removed("experimental-snapshot-catchup-entries", Count, Flag("snapshot-catchup-entries")),
    removed("experimental-compaction-batch-limit", Number, Flag("compaction-batch-limit")),
    removed("experimental-compaction-sleep-interval", Duration, Flag("compaction-sleep-interval")),
    removed("experimental-bootstrap-defrag-threshold-megabytes", Count, Flag("bootstrap-defrag-threshold-megabytes")),
    removed("experimental-enable-distributed-tracing", Bool, Flag("enable-distributed-tracing")),
    removed("experimental-distributed-tracing-address", Text, Flag("distributed-tracing-address")),
    removed("experimental-distributed-tracing-service-name", Text, Flag("distributed-tracing-service-name")),
    removed("experimental-distributed-tracing-instance-id", Text, Flag("distributed-tracing-instance-id")),
    removed("experimental-distributed-tracing-sampling-rate", Number, Flag("distributed-tracing-sampling-rate")),
    removed("experimental-downgrade-check-time", Duration, Flag("downgrade-check-time")),
    removed("experimental-enable-lease-checkpoint", Bool, Gate(LeaseCheckpoint)),
    removed("experimental-enable-lease-checkpoint-persist", Bool, Gate(LeaseCheckpointPersist)),
    removed("experimental-stop-grpc-service-on-defrag", Bool, Gate(StopGRPCServiceOnDefrag)),
    removed("experimental-txn-mode-write-with-shared-buffer", Bool, Gate(TxnModeWriteWithSharedBuffer)),
    removed("experimental-set-member-localaddr", Bool, Gate(SetMemberLocalAddr)),
    removed("experimental-wait-cluster-ready-timeout", Duration, Nothing),
    removed("experimental-backend-bbolt-freelist-type", Text, Flag("backend-bbolt-freelist-type")),
    removed("cluster-active-size", Anything, Nothing),
    removed("cluster-remove-delay", Anything, Nothing),
    removed("cluster-sync-interval", Anything, Nothing),
    removed("config", Anything, Nothing),
    removed("force", Anything, Nothing),
    removed("max-result-buffer", Anything, Nothing),
    removed("max-retry-attempts", Anything, Nothing),
    removed("peer-heartbeat-interval", Anything, Nothing),
    removed("peer-election-timeout", Anything, Nothing),
    removed("retry-interval", Anything, Nothing),
    removed("snapshot", Anything, Nothing),
    removed("v", Anything, Nothing),
    removed("vv", Anything, Nothing),
];
