//! Probes: `/health` as etcd always had it, `/livez` and `/readyz` as Kubernetes asks.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::future::BoxFuture;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tracing::warn;

use crate::{
    alarm::{Alarm, Kind},
    http::{self, text},
    node::{Error, Freshness, Node},
};

/// Something that a healthy member can say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// No alarm is active, but for these, by name.
    Alarms {
        overlooked: Vec<String>,
    },
    Leader,
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(&self) -> &'static str {
        match self {
            Check::Alarms { .. } => "alarms",
            Check::Leader => "leader",
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// The process need not be restarted.
const LIVE: &[Check] = &[Check::SerializableRead];

/// Clients may be sent here.
const READY: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// Makes a check; an error says in words what is wrong.
pub(super) type Checker =
    Arc<dyn Fn(Check) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

pub(super) fn checker(node: &Node) -> Checker {
    let node = node.clone();
    Arc::new(move |check| {
        let node = node.clone();
        Box::pin(async move { make(check, &node).await })
    })
}

async fn make(check: Check, node: &Node) -> Result<(), String> {
    match check {
        Check::Leader => {
            node.status.leader().borrow().map(drop).ok_or_else(|| "RAFT NO LEADER".to_owned())
        }
        Check::Alarms { overlooked } => {
            let alarms = node.status.alarms();
            let mut alarms = alarms.iter();
            match alarms.find(|alarm| !overlooked.contains(&alarm.kind.name())) {
                None => Ok(()),
                Some(alarm) => Err(reason(alarm)),
            }
        }
        Check::DataCorruption if node.status.alarms().has(Kind::CORRUPT) => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        Check::DataCorruption => Ok(()),
        Check::SerializableRead => read(node, Freshness::Any).await,
        Check::LinearizableRead => read(node, Freshness::Linearizable).await,
        Check::NonLearner if node.status.is_learner() => {
            Err("not supported for learner".to_owned())
        }
        Check::NonLearner => Ok(()),
    }
}

fn reason(alarm: Alarm) -> String {
    match alarm.kind {
        Kind::NO_SPACE | Kind::CORRUPT => format!("ALARM {}", alarm.kind.name()),
        _ => "ALARM UNKNOWN".to_owned(),
    }
}

async fn read(node: &Node, freshness: Freshness) -> Result<(), String> {
    node.reader.view(freshness).await.map(drop).map_err(in_etcds_words)
}

fn in_etcds_words(error: Error) -> String {
    tonic::Status::from(error).message().to_owned()
}

/// What came of checks, under the names that etcd's dashboards use; clones share it.
#[derive(Clone, Default)]
pub(super) struct Counts {
    success: Counter,
    failures: Counter,
    last: Family<[(&'static str, &'static str); 2], Gauge>,
    made: Family<[(&'static str, &'static str); 3], Counter>,
}

impl Counts {
    pub(super) fn register(registry: &mut Registry) -> Counts {
        let counts = Counts::default();
        let Counts { success, failures, last, made } = counts.clone();
        registry.register("etcd_server_health_success", "Times that /health was well", success);
        registry.register("etcd_server_health_failures", "Times that /health was not", failures);
        registry.register(
            "etcd_server_healthcheck",
            "What the last check of each kind found: 1 when all was well, 0 when not",
            last,
        );
        registry.register("etcd_server_healthchecks", "Checks made of each kind", made);
        counts
    }

    fn note(&self, page: &'static str, check: &Check, is_well: bool) {
        let (kind, name) = (("type", page), ("name", check.name()));
        let status = if is_well { "success" } else { "error" };
        self.last.get_or_create_owned(&[kind, name]).set(i64::from(is_well));
        self.made.get_or_create_owned(&[kind, name, ("status", status)]).inc();
    }
}

/// Who makes the checks, and what came of them.
#[derive(Clone)]
struct Probes {
    checker: Checker,
    counts: Counts,
}

/// The pages, whoever makes the checks.
pub(super) fn pages(checker: Checker, counts: Counts) -> Router {
    let router = Router::new()
        .route("/health", any(health))
        .merge(checks_at("livez", LIVE))
        .merge(checks_at("readyz", READY));
    http::pages(router.with_state(Probes { checker, counts }))
}

/// All checks of a page, and each at a path of its own below it.
fn checks_at(page: &'static str, checks: &'static [Check]) -> Router<Probes> {
    let all = move |State(probes): State<Probes>, Query(asked): Query<Asked>| async move {
        let excluded = |check: &&Check| asked.has("exclude", check.name());
        let wanted: Vec<&Check> = checks.iter().filter(|it| !excluded(it)).collect();
        asked.warn_about_strangers(checks);
        report(&probes, page, &wanted, asked.is_verbose()).await
    };
    let router = Router::new().route(&format!("/{page}"), any(all));
    checks.iter().fold(router, |router, check| {
        let one = move |State(probes): State<Probes>, Query(asked): Query<Asked>| async move {
            report(&probes, page, &[check], asked.is_verbose()).await
        };
        router.route(&format!("/{page}/{}", check.name()), any(one))
    })
}

/// What failed is always told, what is well only on request.
async fn report(
    probes: &Probes,
    page: &'static str,
    checks: &[&Check],
    is_verbose: bool,
) -> Response {
    let mut lines = String::new();
    let mut status = StatusCode::OK;
    for check in checks {
        let name = check.name();
        let found = (probes.checker)((*check).clone()).await;
        probes.counts.note(page, check, found.is_ok());
        match found {
            Ok(()) => lines += &format!("[+]{name} ok\n"),
            Err(reason) => {
                lines += &format!("[-]{name} failed: {reason}\n");
                status = StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    match (status, is_verbose) {
        (StatusCode::OK, true) => text(status, lines + "ok\n"),
        (StatusCode::OK, false) => text(status, "ok\n".to_owned()),
        // etcd ends the page with one more line end.
        _ => text(status, lines + "\n"),
    }
}

/// With `serializable=true` only this member's own health counts. `exclude` names alarms to
/// overlook.
async fn health(State(probes): State<Probes>, Query(asked): Query<Asked>) -> Response {
    match health_of(&probes.checker, &asked).await {
        Ok(()) => {
            probes.counts.success.inc();
            // etcd leaves it to Go to find out what this is.
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], health_line("true", "")).into_response()
        }
        Err(reason) => {
            probes.counts.failures.inc();
            warn!(reason, "serving /health false");
            text(StatusCode::SERVICE_UNAVAILABLE, health_line("false", &reason) + "\n")
        }
    }
}

async fn health_of(checker: &Checker, asked: &Asked) -> Result<(), String> {
    checker(Check::Alarms { overlooked: asked.all("exclude") }).await?;
    let is_local = asked.first("serializable") == Some("true");
    let read = if is_local { Check::SerializableRead } else { Check::LinearizableRead };
    if !is_local {
        checker(Check::Leader).await?;
    }
    checker(read).await.map_err(|reason| format!("RANGE ERROR:{reason}"))
}

fn health_line(health: &str, reason: &str) -> String {
    // A JSON string of a string cannot fail; the fallback keeps the page valid all the same.
    let reason = serde_json::to_string(reason).unwrap_or_else(|_| "\"\"".to_owned());
    format!("{{\"health\":\"{health}\",\"reason\":{reason}}}")
}

/// What stands behind the question mark; a name may come more than once.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Asked(Vec<(String, String)>);

impl Asked {
    fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(its_name, its_value)| its_name == name && its_value == value)
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(its_name, _)| its_name == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(its_name, _)| its_name == name);
        named.map(|(_, value)| value.clone()).collect()
    }

    /// Excluding what is not checked fails no probe: probes outlive versions.
    fn warn_about_strangers(&self, checks: &[Check]) {
        let is_known = |name: &String| checks.iter().any(|check| check.name() == name);
        let strangers: Vec<String> =
            self.all("exclude").into_iter().filter(|it| !it.is_empty() && !is_known(it)).collect();
        if !strangers.is_empty() {
            warn!(checks = ?strangers, "some health checks cannot be excluded");
        }
    }

    fn is_verbose(&self) -> bool {
        self.0.iter().any(|(name, _)| name == "verbose")
    }
}
