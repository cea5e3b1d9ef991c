//! Probes: `/health` as etcd always had it, `/livez` and `/readyz` as Kubernetes asks.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
    routing::any,
};
use futures::future::BoxFuture;

use crate::{
    http::{self, text},
    node::{Error, Freshness, Node},
};

/// Something that a healthy member can say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Leader,
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
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
        // No alarm can be raised yet.
        Check::DataCorruption => Ok(()),
        Check::SerializableRead => read(node, Freshness::Any).await,
        Check::LinearizableRead => read(node, Freshness::Linearizable).await,
        Check::NonLearner if node.status.is_learner() => {
            Err("not supported for learner".to_owned())
        }
        Check::NonLearner => Ok(()),
    }
}

async fn read(node: &Node, freshness: Freshness) -> Result<(), String> {
    node.reader.view(freshness).await.map(drop).map_err(in_etcds_words)
}

fn in_etcds_words(error: Error) -> String {
    tonic::Status::from(error).message().to_owned()
}

/// The pages, whoever makes the checks.
pub(super) fn pages(checker: Checker) -> Router {
    let router = Router::new()
        .route("/health", any(health))
        .merge(checks_at("/livez", LIVE))
        .merge(checks_at("/readyz", READY));
    http::pages(router.with_state(checker))
}

/// All checks at a path, and each at a path of its own below it.
fn checks_at(path: &str, checks: &'static [Check]) -> Router<Checker> {
    let all = move |State(checker): State<Checker>, Query(asked): Query<Asked>| async move {
        let excluded = |check: &&Check| asked.has("exclude", check.name());
        let wanted: Vec<Check> = checks.iter().filter(|it| !excluded(it)).copied().collect();
        report(&checker, &wanted, asked.is_verbose()).await
    };
    checks.iter().fold(Router::new().route(path, any(all)), |router, check| {
        let one = move |State(checker): State<Checker>, Query(asked): Query<Asked>| async move {
            report(&checker, &[*check], asked.is_verbose()).await
        };
        router.route(&format!("{path}/{}", check.name()), any(one))
    })
}

/// What failed is always told, what is well only on request.
async fn report(checker: &Checker, checks: &[Check], is_verbose: bool) -> Response {
    let mut lines = String::new();
    let mut status = StatusCode::OK;
    for check in checks {
        let name = check.name();
        match checker(*check).await {
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
/// overlook, of which there are none yet.
async fn health(State(checker): State<Checker>, Query(asked): Query<Asked>) -> Response {
    match health_of(&checker, asked.has("serializable", "true")).await {
        Ok(()) => text(StatusCode::OK, health_line("true", "")),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, health_line("false", &reason) + "\n"),
    }
}

async fn health_of(checker: &Checker, is_local: bool) -> Result<(), String> {
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

    fn is_verbose(&self) -> bool {
        self.0.iter().any(|(name, _)| name == "verbose")
    }
}
