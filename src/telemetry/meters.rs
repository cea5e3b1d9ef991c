//! What this process has done, counted where it is done, under the names of etcd's metrics.
//!
//! There is one for the process, as there is one log: whoever does something says so here, and
//! `/metrics` shows it. Counting is a few additions without a lock, and sets of labels are looked
//! up when a connection or a method comes into being, not when it is used.

mod operations;
mod peers;
mod reads;

use std::{sync::LazyLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub use self::{operations::Operation, peers::Peer};
use self::{
    operations::Operations,
    peers::{Peers, Snapshots},
    reads::Reads,
};
use super::Histogram;

/// The counters of this process.
pub static METERS: LazyLock<Meters> = LazyLock::new(Meters::default);

type Labels = Vec<(&'static str, String)>;

#[derive(Default)]
pub struct Meters {
    pub disk: Disk,
    pub keys: Keys,
    pub compaction: Compaction,
    pub leases: Leases,
    pub reads: Reads,
    pub watch: Watch,
    pub raft: Raft,
    pub operations: Operations,
    pub peers: Peers,
    pub snapshots: Snapshots,
}

impl Meters {
    pub fn register(&self, registry: &mut Registry) {
        let Meters {
            disk,
            keys,
            compaction,
            leases,
            reads,
            watch,
            raft,
            operations,
            peers,
            snapshots,
        } = self;
        disk.register(registry);
        keys.register(registry);
        compaction.register(registry);
        leases.register(registry);
        reads.register(registry);
        watch.register(registry);
        raft.register(registry);
        operations.register(registry);
        peers.register(registry);
        snapshots.register(registry);
    }
}

/// From one millisecond on.
fn from_1_ms() -> Histogram {
    Histogram::doubling(0.001, 14)
}

/// The log's files, and the one write that applying a batch ends with.
pub struct Disk {
    pub log_sync: Histogram,
    pub log_write: Histogram,
    /// A gauge in etcd, too.
    pub log_bytes: Gauge,
    pub commit: Histogram,
    /// Making a snapshot for a client.
    pub snapshot: Histogram,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk {
            log_sync: from_1_ms(),
            log_write: from_1_ms(),
            log_bytes: Gauge::default(),
            commit: from_1_ms(),
            snapshot: Histogram::doubling(0.01, 17),
        }
    }
}

impl Disk {
    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_disk_wal_fsync_duration_seconds",
            "Making log records durable", self.log_sync.clone());
        registry.register("etcd_disk_wal_write_duration_seconds",
            "Writing log records", self.log_write.clone());
        registry.register("etcd_disk_wal_write_bytes_total",
            "Bytes written to the log", self.log_bytes.clone());
        registry.register("etcd_disk_backend_commit_duration_seconds",
            "Writing what a batch of entries changed", self.commit.clone());
        registry.register("etcd_disk_backend_snapshot_duration_seconds",
            "Making snapshots for clients", self.snapshot.clone());
    }
}

/// What was done to keys by entries of the log, and read of them.
pub struct Keys {
    pub puts: Counter,
    pub deletes: Counter,
    pub ranges: Counter,
    /// Entries that did more than one thing.
    pub txns: Counter,
    /// Bytes of keys and values put; a gauge in etcd, too.
    pub put_bytes: Gauge,
    pub hash: Histogram,
    pub hash_kv: Histogram,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            puts: Counter::default(),
            deletes: Counter::default(),
            ranges: Counter::default(),
            txns: Counter::default(),
            put_bytes: Gauge::default(),
            hash: Histogram::doubling(0.01, 15),
            hash_kv: Histogram::doubling(0.01, 15),
        }
    }
}

impl Keys {
    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_mvcc_put", "Puts applied", self.puts.clone());
        registry.register("etcd_mvcc_delete", "Keys deleted", self.deletes.clone());
        registry.register("etcd_mvcc_range", "Ranges read", self.ranges.clone());
        registry.register("etcd_mvcc_txn", "Transactions applied", self.txns.clone());
        registry.register("etcd_debugging_mvcc_total_put_size_in_bytes",
            "Bytes of the keys and values put", self.put_bytes.clone());
        registry.register("etcd_mvcc_hash_duration_seconds",
            "Hashing the whole store", self.hash.clone());
        registry.register("etcd_mvcc_hash_rev_duration_seconds",
            "Hashing the key space at a revision", self.hash_kv.clone());
    }
}

/// Removing what was compacted.
pub struct Compaction {
    pub keys: Counter,
    /// Milliseconds.
    pub total: Histogram,
    /// Milliseconds of one step, during which nothing else waits here.
    pub step: Histogram,
    /// When the last one ended, in seconds since the epoch.
    pub last: Gauge,
}

impl Default for Compaction {
    fn default() -> Compaction {
        Compaction {
            keys: Counter::default(),
            total: Histogram::doubling(100.0, 14),
            step: Histogram::doubling(1.0, 13),
            last: Gauge::default(),
        }
    }
}

impl Compaction {
    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_debugging_mvcc_db_compaction_keys",
            "Versions removed by compaction", self.keys.clone());
        registry.register("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            "Compactions from their beginning to their end", self.total.clone());
        registry.register("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            "Steps of compactions", self.step.clone());
        registry.register("etcd_debugging_mvcc_db_compaction_last",
            "End of the last compaction in seconds since the epoch", self.last.clone());
    }
}

pub struct Leases {
    pub granted: Counter,
    pub revoked: Counter,
    pub renewed: Counter,
    pub expired: Counter,
    /// Granted seconds.
    pub ttl: Histogram,
}

impl Default for Leases {
    fn default() -> Leases {
        Leases {
            granted: Counter::default(),
            revoked: Counter::default(),
            renewed: Counter::default(),
            expired: Counter::default(),
            ttl: Histogram::doubling(1.0, 24),
        }
    }
}

impl Leases {
    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_debugging_lease_granted",
            "Leases granted", self.granted.clone());
        registry.register("etcd_debugging_lease_revoked",
            "Leases revoked", self.revoked.clone());
        registry.register("etcd_debugging_lease_renewed",
            "Leases renewed by this member while it led", self.renewed.clone());
        registry.register("etcd_debugging_server_lease_expired",
            "Leases that ran out while this member led", self.expired.clone());
        registry.register("etcd_debugging_lease_ttl_total",
            "Seconds that leases were granted for", self.ttl.clone());
    }
}

pub struct Watch {
    pub events: Counter,
    failures: Family<Labels, Counter>,
    sent: Histogram,
    sent_event: Histogram,
    sent_control: Histogram,
    sent_progress: Histogram,
}

/// What a response on a watch stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Events(u32),
    /// A watcher was created or canceled.
    Control,
    Progress,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            events: Counter::default(),
            failures: Family::default(),
            sent: from_1_ms(),
            sent_event: from_1_ms(),
            sent_control: from_1_ms(),
            sent_progress: from_1_ms(),
        }
    }
}

impl Watch {
    /// A stream that ended because the client's side of it did; seldom enough to look it up.
    pub fn stream_failed(&self, api: &str) {
        let labels = vec![("Type", "receive".to_owned()), ("API", api.to_owned())];
        self.failures.get_or_create_owned(&labels).inc();
    }

    /// A connection took so long to take a response.
    pub fn sent(&self, what: Watched, took: Duration) {
        match what {
            Watched::Events(events) => {
                self.sent.observe(took);
                self.sent_event.observe(took / events.max(1));
            }
            Watched::Control => self.sent_control.observe(took),
            Watched::Progress => self.sent_progress.observe(took),
        }
    }

    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_debugging_mvcc_events",
            "Events sent to watchers", self.events.clone());
        registry.register("etcd_network_server_stream_failures",
            "Streams that failed", self.failures.clone());
        registry.register("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "Handing responses with events to connections", self.sent.clone());
        registry.register(
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "The same, for each event of a response", self.sent_event.clone());
        registry.register("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "Handing over that watchers are created or canceled", self.sent_control.clone());
        registry.register("etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "Handing over how far watchers are", self.sent_progress.clone());
    }
}

/// The member as one of a group.
#[derive(Default)]
pub struct Raft {
    pub heartbeat_failures: Counter,
    pub promotions: Counter,
    promotion_failures: Family<Labels, Counter>,
}

impl Raft {
    pub fn promotion_failed(&self, reason: &str) {
        self.promotion_failures.get_or_create_owned(&vec![("Reason", reason.to_owned())]).inc();
    }

    #[rustfmt::skip] // a table
    fn register(&self, registry: &mut Registry) {
        registry.register("etcd_server_heartbeat_send_failures",
            "Heartbeats that could not be sent", self.heartbeat_failures.clone());
        registry.register("etcd_server_learner_promote_successes",
            "Learners promoted", self.promotions.clone());
        registry.register("etcd_server_learner_promote_failures",
            "Promotions that failed", self.promotion_failures.clone());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    /// The members of a running cluster show the rest, which a test of its own compares.
    #[test]
    fn what_happens_seldom_is_counted_under_etcds_names() {
        let meters = Meters::default();
        let mut registry = Registry::default();
        meters.register(&mut registry);
        meters.watch.stream_failed("watch");
        meters.raft.promotion_failed("refused");
        drop(meters.snapshots.sent.begin("a"));
        meters.snapshots.received.begin("b").succeeded();
        let under_way = meters.snapshots.received.begin("b");
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        drop(under_way);
        for line in [
            r#"etcd_network_server_stream_failures_total{Type="receive",API="watch"} 1"#,
            r#"etcd_server_learner_promote_failures_total{Reason="refused"} 1"#,
            r#"etcd_network_snapshot_send_inflights_total{To="a"} 0"#,
            r#"etcd_network_snapshot_send_failures_total{To="a"} 1"#,
            r#"etcd_network_snapshot_receive_inflights_total{From="b"} 1"#,
            r#"etcd_network_snapshot_receive_success_total{From="b"} 1"#,
            r#"etcd_network_snapshot_receive_total_duration_seconds_count{From="b"} 1"#,
            r#"etcd_network_snapshot_receive_total_duration_seconds_bucket{le="51.2",From="b"} 1"#,
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
    }
}
