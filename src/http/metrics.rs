//! `/metrics`: all counters of the process, with what the node knows of itself.

use std::{collections::HashSet, sync::Arc};

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
    http::{pages, process::Process},
    node::{Freshness, Identity, Node, Status},
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
        let (content_type, page) = if accept.contains("application/openmetrics-text") {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", page)
        } else {
            ("text/plain; version=0.0.4; charset=utf-8", classic(&page))
        };
        ([(header::CONTENT_TYPE, content_type)], page).into_response()
    }
}

pub(super) fn page(node: &Node, metrics: Arc<Metrics>) -> Router {
    let state = (node.clone(), metrics);
    pages(Router::new().route("/metrics", any(scrape)).with_state(state))
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
    auth_revision: Option<u64>,
}

impl Facts {
    async fn of(node: &Node) -> Facts {
        let status = node.status.now();
        let is_leader = status.leader == Some(node.identity.member);
        let view = node.reader.view(Freshness::Any).await.ok();
        let revision = view.as_ref().map(|view| view.keys().revision());
        let floor = view.as_ref().and_then(|view| view.keys().floor());
        let auth_revision = view.and_then(|view| view.auth().ok()).map(|auth| auth.revision);
        Facts { status, is_leader, revision, floor, auth_revision }
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
    auth_revision: Gauge,
}

impl Gauges {
    fn register(registry: &mut Registry, identity: Identity) -> Gauges {
        let member = identity.member.to_string();
        for (name, help, label, value) in [
            ("etcd_server_version", "The version that runs", "server_version", version::SERVER),
            ("etcd_cluster_version", "Everybody's version", "cluster_version", version::CLUSTER),
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
            auth_revision: gauge("etcd_debugging_auth_revision", "The auth revision"),
        }
    }

    fn set(&self, facts: &Facts) {
        let Facts { status, is_leader, revision, floor, auth_revision } = facts;
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
        if let Some(revision) = auth_revision {
            self.auth_revision.set(revision.cast_signed());
        }
    }
}

/// Prometheus's older text format, in which a counter's description bears its whole name.
fn classic(openmetrics: &str) -> String {
    let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
    let counters: HashSet<&str> = openmetrics
        .lines()
        .filter(|line| is_counter(line))
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let mut page = String::with_capacity(openmetrics.len() + counters.len() * 2 * "_total".len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                page += &format!("# {what} {name}_total {rest}\n");
            }
            _ => {
                page += line;
                page.push('\n');
            }
        }
    }
    page
}

#[cfg(test)]
mod tests;
