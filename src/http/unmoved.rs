//! Names that etcd's dashboards ask for, of things that do not exist here: they stay at zero.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::telemetry::Histogram;

/// etcd's first store, which version 3.7 still counts, and its proxy, which is another process.
const COUNTERS: &[&str] = &[
    "etcd_debugging_store_expires",
    "etcd_debugging_store_watch_requests",
    "etcd_grpc_proxy_events_coalescing",
];

const GAUGES: &[&str] = &[
    "etcd_debugging_store_watchers",
    "etcd_grpc_proxy_cache_hits_total",
    "etcd_grpc_proxy_cache_keys_total",
    "etcd_grpc_proxy_cache_misses_total",
    "etcd_grpc_proxy_watchers_coalescing_total",
];

/// Parts of a commit of bbolt, snapshot files beside the log, and an index in memory; with the
/// first bound and the number of bounds.
const HISTOGRAMS: &[(&str, f64, i32)] = &[
    ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", 0.001, 14),
    ("etcd_debugging_disk_backend_commit_spill_duration_seconds", 0.001, 14),
    ("etcd_debugging_snap_save_marshalling_duration_seconds", 0.001, 14),
    ("etcd_debugging_snap_save_total_duration_seconds", 0.001, 14),
    ("etcd_snap_fsync_duration_seconds", 0.001, 14),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", 0.5, 14),
];

pub(super) fn register(registry: &mut Registry) {
    const HELP: &str = "Stays at zero: there is no such thing in this server";
    for name in COUNTERS {
        registry.register(*name, HELP, Counter::<u64>::default());
    }
    for name in GAUGES {
        registry.register(*name, HELP, Gauge::<i64>::default());
    }
    for (name, first, count) in HISTOGRAMS {
        registry.register(*name, HELP, Histogram::doubling(*first, *count));
    }
}
