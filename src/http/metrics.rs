//! `/metrics`: all counters of the process, with what the node knows of itself.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::any,
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::watch;

use crate::{
    grpc::version,
    http::{exposition::Format, process::Process, unmoved},
    node::{Freshness, Identity, Node, Status, WatchCounts},
    telemetry::METERS,
    types::{MemberId, Revision},
};

/// The registry of the process, and gauges that are set at each scrape.
pub struct Metrics {
    registry: Registry,
    gauges: Gauges,
    leader_changes: Counter,
}

impl Metrics {
    /// Takes a registry in which all other parts have registered what they count.
    pub fn new(identity: Identity, mut registry: Registry) -> Metrics {
        let gauges = Gauges::register(&mut registry, identity);
        let leader_changes = Counter::default();
        registry.register(
            "etcd_server_leader_changes_seen",
            "Leader changes seen",
            leader_changes.clone(),
        );
        registry.register_collector(Box::new(Process));
        METERS.register(&mut registry);
        // Here the write is all that a commit is.
        registry.register(
            "etcd_debugging_disk_backend_commit_write_duration_seconds",
            "Writing what a batch of entries changed",
            METERS.disk.commit.clone(),
        );
        unmoved::register(&mut registry);
        Metrics { registry, gauges, leader_changes }
    }

    /// Counts until the node is gone; to be run beside it.
    pub async fn count_leader_changes(&self, mut leader: watch::Receiver<Option<MemberId>>) {
        let mut last = None;
        loop {
            let now = *leader.borrow_and_update();
            // As in etcd, to lose a leader and find it again is a change.
            if now.is_some() && now != last {
                self.leader_changes.inc();
            }
            last = now;
            if leader.changed().await.is_err() {
                return;
            }
        }
    }

    /// As the scraper understands it: OpenMetrics when it asks for that.
    fn render(&self, facts: &Facts, accept: Option<&HeaderValue>) -> Response {
        self.gauges.set(facts);
        let mut page = String::new();
        // Writing to a string fails only if a metric's own encoding does.
        if let Err(error) = text::encode(&mut page, &self.registry) {
            tracing::error!(%error, "metrics do not encode");
        }
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accepted(accept);
        ([(header::CONTENT_TYPE, format.content_type())], format.page(&page)).into_response()
    }
}

pub(super) fn page(node: &Node, metrics: Arc<Metrics>) -> Router {
    let state = (node.clone(), metrics);
    // By any method, as etcd has it.
    Router::new().route("/metrics", any(scrape)).with_state(state)
}

async fn scrape(
    State((node, metrics)): State<(Node, Arc<Metrics>)>,
    headers: HeaderMap,
) -> Response {
    metrics.render(&Facts::of(&node).await, headers.get(header::ACCEPT))
}

/// What the gauges show.
struct Facts {
    status: Status,
    is_leader: bool,
    /// `None` when the store cannot be read.
    revision: Option<Revision>,
    floor: Option<Revision>,
    watched: WatchCounts,
    open_views: u64,
}

impl Facts {
    async fn of(node: &Node) -> Facts {
        let status = node.status.now();
        let is_leader = status.leader == Some(node.identity.member);
        let view = node.reader.view(Freshness::Any).await.ok();
        let revision = view.as_ref().map(|view| view.keys().revision());
        let floor = view.as_ref().and_then(|view| view.keys().floor());
        drop(view);
        let (watched, open_views) = (node.watch.counts(), node.status.open_views());
        Facts { status, is_leader, revision, floor, watched, open_views }
    }
}

struct Gauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge,
    applied: Gauge,
    quota_bytes: Gauge,
    size_bytes: Gauge,
    used_bytes: Gauge,
    revision: Gauge,
    floor: Gauge,
    watch_streams: Gauge,
    watchers: Gauge,
    slow_watchers: Gauge,
    open_views: Gauge,
}

impl Gauges {
    fn register(registry: &mut Registry, identity: Identity) -> Gauges {
        let member = identity.member.to_string();
        // Major and minor: patches of one minor version make one cluster.
        let cluster = version::CLUSTER.rsplit_once('.').map_or(version::CLUSTER, |it| it.0);
        for (name, help, label, value) in [
            ("etcd_server_version", "The version that runs", "server_version", version::SERVER),
            ("etcd_cluster_version", "Everybody's version", "cluster_version", cluster),
            ("etcd_server_id", "This member's id in hexadecimal", "server_id", &member),
        ] {
            let family = Family::<[(&'static str, String); 1], Gauge>::default();
            family.get_or_create_owned(&[(label, value.to_owned())]).set(1);
            registry.register(name, help, family);
        }
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Gauges {
            has_leader: gauge("etcd_server_has_leader", "1 when there is a leader, 0 when not"),
            is_leader: gauge("etcd_server_is_leader", "1 when this member leads, 0 when not"),
            is_learner: gauge("etcd_server_is_learner", "1 when this member learns, 0 when not"),
            // Gauges in etcd too, in spite of their names.
            committed: gauge(
                "etcd_server_proposals_committed_total",
                "Index of the newest committed entry",
            ),
            applied: gauge(
                "etcd_server_proposals_applied_total",
                "Index of the newest applied entry",
            ),
            quota_bytes: gauge(
                "etcd_server_quota_backend_bytes",
                "Bytes that the store may take on disk",
            ),
            size_bytes: gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes that the store takes on disk",
            ),
            used_bytes: gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the store that hold live data",
            ),
            revision: gauge("etcd_debugging_mvcc_current_revision", "The newest revision"),
            floor: gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction, -1 before the first",
            ),
            watch_streams: gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watchers"),
            watchers: gauge("etcd_debugging_mvcc_watcher_total", "Watchers"),
            slow_watchers: gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that are behind and read the store",
            ),
            open_views: gauge("etcd_mvcc_db_open_read_transactions", "Open views of the store"),
        }
    }

    fn set(&self, facts: &Facts) {
        let Facts { status, is_leader, revision, floor, watched, open_views } = facts;
        let wire = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.watch_streams.set(wire(watched.streams));
        self.watchers.set(wire(watched.watchers));
        self.slow_watchers.set(wire(watched.catching_up));
        self.open_views.set(open_views.cast_signed());
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.is_leader.set(i64::from(*is_leader));
        self.is_learner.set(i64::from(status.is_learner));
        self.committed.set(status.committed_index.cast_signed());
        self.applied.set(status.applied_index.cast_signed());
        self.quota_bytes.set(status.quota_bytes);
        self.size_bytes.set(status.sizes.on_disk.cast_signed());
        self.used_bytes.set(status.sizes.in_use.cast_signed());
        if let Some(revision) = revision {
            self.revision.set(revision.get());
            self.floor.set(floor.map_or(-1, Revision::get));
        }
    }
}

#[cfg(test)]
mod tests;
