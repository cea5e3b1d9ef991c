//! What goes between this member and the others. Members are named by their ids, as etcd writes
//! them.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Histogram, Labels};

fn to(member: &impl Display) -> Labels {
    vec![("To", member.to_string())]
}

fn from(member: &impl Display) -> Labels {
    vec![("From", member.to_string())]
}

pub struct Peers {
    known: Family<Labels, Gauge>,
    active: Family<Labels, Gauge>,
    disconnected: Family<Labels, Counter>,
    sent_bytes: Family<Labels, Counter>,
    received_bytes: Family<Labels, Counter>,
    sent_failures: Family<Labels, Counter>,
    received_failures: Family<Labels, Counter>,
    round_trip: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            known: Family::default(),
            active: Family::default(),
            disconnected: Family::default(),
            sent_bytes: Family::default(),
            received_bytes: Family::default(),
            sent_failures: Family::default(),
            received_failures: Family::default(),
            round_trip: Family::new_with_constructor(|| Histogram::doubling(0.0001, 16)),
        }
    }
}

/// The counters of the connections with one member.
#[derive(Clone)]
pub struct Peer {
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub sent_failures: Counter,
    pub received_failures: Counter,
    pub round_trip: Histogram,
    active: Gauge,
    disconnected: Counter,
}

impl Peer {
    /// The connection by which the member is known to be there is up, until what is returned is
    /// dropped.
    #[must_use]
    pub fn connected(&self) -> Connected {
        self.active.inc();
        Connected { active: self.active.clone(), disconnected: self.disconnected.clone() }
    }
}

pub struct Connected {
    active: Gauge,
    disconnected: Counter,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.active.dec();
        self.disconnected.inc();
    }
}

impl Peers {
    /// To be looked up once for each connection.
    pub fn peer(&self, local: impl Display, remote: impl Display) -> Peer {
        let both = vec![("Local", local.to_string()), ("Remote", remote.to_string())];
        Peer {
            sent_bytes: self.sent_bytes.get_or_create_owned(&to(&remote)),
            received_bytes: self.received_bytes.get_or_create_owned(&from(&remote)),
            sent_failures: self.sent_failures.get_or_create_owned(&to(&remote)),
            received_failures: self.received_failures.get_or_create_owned(&from(&remote)),
            round_trip: self.round_trip.get_or_create_owned(&to(&remote)),
            active: self.active.get_or_create_owned(&both),
            disconnected: self.disconnected.get_or_create_owned(&both),
        }
    }

    /// Whether a member is one of the group, as this one knows it.
    pub fn known(&self, local: impl Display, remote: impl Display, is_known: bool) {
        let both = vec![("Local", local.to_string()), ("Remote", remote.to_string())];
        self.known.get_or_create_owned(&both).set(i64::from(is_known));
    }

    #[rustfmt::skip] // a table
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("etcd_network_known_peers", "Members that are known", self.known.clone());
        registry.register("etcd_network_active_peers",
            "Members with a connection", self.active.clone());
        registry.register("etcd_network_disconnected_peers",
            "Connections to members that ended", self.disconnected.clone());
        registry.register("etcd_network_peer_sent_bytes",
            "Bytes sent to members", self.sent_bytes.clone());
        registry.register("etcd_network_peer_received_bytes",
            "Bytes received from members", self.received_bytes.clone());
        registry.register("etcd_network_peer_sent_failures",
            "Requests to members that failed on the way", self.sent_failures.clone());
        registry.register("etcd_network_peer_received_failures",
            "Connections of members that ended in the middle", self.received_failures.clone());
        registry.register("etcd_network_peer_round_trip_time_seconds",
            "Round trips to members", self.round_trip.clone());
    }
}

/// Snapshots between members.
pub struct Snapshots {
    pub sent: SnapshotWay,
    pub received: SnapshotWay,
    /// Snapshots that are being put in force.
    pub applying: Gauge,
    /// From the first chunk until the snapshot is in force.
    pub saved: Histogram,
    /// Making a received snapshot durable.
    pub synced: Histogram,
}

/// Snapshots that go one way.
pub struct SnapshotWay {
    label: fn(&dyn Display) -> Labels,
    under_way: Family<Labels, Gauge>,
    successes: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    took: Family<Labels, Histogram, fn() -> Histogram>,
}

impl SnapshotWay {
    fn new(label: fn(&dyn Display) -> Labels) -> SnapshotWay {
        SnapshotWay {
            label,
            under_way: Family::default(),
            successes: Family::default(),
            failures: Family::default(),
            took: Family::new_with_constructor(tenths),
        }
    }

    /// One is under way until what is returned is dropped; it failed unless that was told
    /// otherwise.
    pub fn begin(&self, member: impl Display) -> SnapshotUnderWay<'_> {
        let labels = (self.label)(&member);
        self.under_way.get_or_create_owned(&labels).inc();
        SnapshotUnderWay { way: self, labels, begun: Instant::now(), succeeded: false }
    }
}

pub struct SnapshotUnderWay<'a> {
    way: &'a SnapshotWay,
    labels: Labels,
    begun: Instant,
    succeeded: bool,
}

impl SnapshotUnderWay<'_> {
    /// Tells how long it took.
    pub fn succeeded(mut self) -> Duration {
        self.succeeded = true;
        self.begun.elapsed()
    }
}

impl Drop for SnapshotUnderWay<'_> {
    fn drop(&mut self) {
        let SnapshotUnderWay { way, labels, begun, succeeded } = self;
        way.under_way.get_or_create_owned(labels).dec();
        if *succeeded {
            way.successes.get_or_create_owned(labels).inc();
            way.took.get_or_create_owned(labels).observe(begun.elapsed());
        } else {
            way.failures.get_or_create_owned(labels).inc();
        }
    }
}

fn tenths() -> Histogram {
    Histogram::doubling(0.1, 10)
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots {
            sent: SnapshotWay::new(|member| to(&member)),
            received: SnapshotWay::new(|member| from(&member)),
            applying: Gauge::default(),
            saved: tenths(),
            synced: super::from_1_ms(),
        }
    }
}

impl Snapshots {
    #[rustfmt::skip] // a table
    pub(super) fn register(&self, registry: &mut Registry) {
        let Snapshots { sent, received, applying, saved, synced } = self;
        registry.register("etcd_network_snapshot_send_inflights_total",
            "Snapshots being sent", sent.under_way.clone());
        registry.register("etcd_network_snapshot_send_success",
            "Snapshots sent", sent.successes.clone());
        registry.register("etcd_network_snapshot_send_failures",
            "Snapshots that could not be sent", sent.failures.clone());
        registry.register("etcd_network_snapshot_send_total_duration_seconds",
            "Sending snapshots", sent.took.clone());
        registry.register("etcd_network_snapshot_receive_inflights_total",
            "Snapshots being received", received.under_way.clone());
        registry.register("etcd_network_snapshot_receive_success",
            "Snapshots received", received.successes.clone());
        registry.register("etcd_network_snapshot_receive_failures",
            "Snapshots of which not all was received", received.failures.clone());
        registry.register("etcd_network_snapshot_receive_total_duration_seconds",
            "Receiving snapshots", received.took.clone());
        registry.register("etcd_server_snapshot_apply_in_progress_total",
            "Snapshots being put in force", applying.clone());
        registry.register("etcd_snap_db_save_total_duration_seconds",
            "Received snapshots until they are in force", saved.clone());
        registry.register("etcd_snap_db_fsync_duration_seconds",
            "Making received snapshots durable", synced.clone());
    }
}
