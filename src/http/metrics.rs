//! `/metrics`: all counters of the process, with what the node knows of itself.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::any,
};
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tokio::sync::watch;

use crate::{
    alarm::{Alarm, Alarms},
    grpc::version,
    http::{health::Counts, pages, process::Process},
    node::{Freshness, Identity, Node, Space, Status},
    types::{MemberId, Revision, Version},
};

/// The registry of the process, and gauges that are set at each scrape.
pub struct Metrics {
    registry: Registry,
    gauges: Gauges,
    leader_changes: Counter,
    health: Counts,
    defragmentation_seconds: Histogram,
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
        let health = Counts::register(&mut registry);
        let defragmentation_seconds = Histogram::new(exponential_buckets(0.1, 2.0, 13));
        registry.register(
            "etcd_disk_backend_defrag_duration_seconds",
            "How long defragmentations took",
            defragmentation_seconds.clone(),
        );
        Metrics { registry, gauges, leader_changes, health, defragmentation_seconds }
    }

    pub(super) fn health(&self) -> Counts {
        self.health.clone()
    }

    /// Has defragmentations counted from now on.
    pub fn count_defragmentations(&self, space: &Space) {
        let seconds = self.defragmentation_seconds.clone();
        space.count_defragmentations(move |took| seconds.observe(took.as_secs_f64()));
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
    defragmentations: i64,
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
        let defragmentations = node.space.defragmentations();
        Facts { status, defragmentations, is_leader, revision, floor, auth_revision }
    }
}

/// 1 for the version in force, 0 for each that was.
type ClusterVersions = Family<[(&'static str, String); 1], Gauge>;

struct Gauges {
    cluster_version: ClusterVersions,
    shown_version: Mutex<Option<Version>>,
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
    defragmentations: Gauge,
    alarms: Family<[(&'static str, String); 2], Gauge>,
    /// All that were ever active: one that is not any more is shown as such.
    alarms_seen: Mutex<BTreeSet<Alarm>>,
    auth_revision: Gauge,
}

impl Gauges {
    fn register(registry: &mut Registry, identity: Identity) -> Gauges {
        let member = identity.member.to_string();
        for (name, help, label, value) in [
            ("etcd_server_version", "The version that runs", "server_version", version::SERVER),
            ("etcd_server_id", "This member's id in hexadecimal", "server_id", &member),
        ] {
            let family = Family::<[(&'static str, String); 1], Gauge>::default();
            family.get_or_create_owned(&[(label, value.to_owned())]).set(1);
            registry.register(name, help, family);
        }
        let cluster_version = ClusterVersions::default();
        registry.register("etcd_cluster_version", "Everybody's version", cluster_version.clone());
        let alarms = Family::default();
        registry.register(
            "etcd_debugging_server_alarms",
            "1 for each alarm that is active",
            alarms.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Gauges {
            cluster_version,
            shown_version: Mutex::default(),
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
            defragmentations: gauge(
                "etcd_disk_defrag_inflight",
                "1 while the store is being defragmented, 0 when not",
            ),
            alarms,
            alarms_seen: Mutex::default(),
            auth_revision: gauge("etcd_debugging_auth_revision", "The auth revision"),
        }
    }

    fn show_cluster_version(&self, version: Version) {
        let label = |version: Version| [("cluster_version", version.short())];
        let mut shown = self.shown_version.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = shown.replace(version) {
            self.cluster_version.get_or_create_owned(&label(before)).set(0);
        }
        self.cluster_version.get_or_create_owned(&label(version)).set(1);
    }

    fn set(&self, facts: &Facts) {
        let Facts { status, defragmentations, is_leader, revision, floor, auth_revision } = facts;
        if let Some(version) = status.versions.cluster {
            self.show_cluster_version(version);
        }
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.is_leader.set(i64::from(*is_leader));
        self.is_learner.set(i64::from(status.is_learner));
        self.committed.set(status.committed_index.cast_signed());
        self.applied.set(status.applied_index.cast_signed());
        self.quota_bytes.set(status.quota_bytes);
        self.size_bytes.set(status.sizes.on_disk.cast_signed());
        self.used_bytes.set(status.sizes.in_use.cast_signed());
        self.defragmentations.set((*defragmentations).min(1));
        self.set_alarms(&status.alarms);
        if let Some(revision) = revision {
            self.revision.set(revision.get());
            self.floor.set(floor.map_or(-1, Revision::get));
        }
        if let Some(revision) = auth_revision {
            self.auth_revision.set(revision.cast_signed());
        }
    }

    fn set_alarms(&self, alarms: &Alarms) {
        let mut seen = self.alarms_seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(alarms.iter());
        for alarm in seen.iter() {
            let labels =
                [("server_id", alarm.member.to_string()), ("alarm_type", alarm.kind.name())];
            self.alarms.get_or_create_owned(&labels).set(i64::from(alarms.contains(*alarm)));
        }
    }
}

/// Counters that have no `_total` in etcd's page.
const BARE: &[&str] = &["etcd_server_health_success", "etcd_server_health_failures"];

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
            (Some(name), ..)
                if BARE.iter().any(|bare| name.strip_suffix("_total") == Some(bare)) =>
            {
                page += &line.replacen("_total", "", 1);
                page.push('\n');
            }
            (Some("#"), Some(what), Some(name), Some(rest))
                if counters.contains(name) && !BARE.contains(&name) =>
            {
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
