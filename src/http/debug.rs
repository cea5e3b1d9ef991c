//! `/debug/…`: what etcd's pages of this name can say of a server that is not written in Go.
//!
//! Variables are the ones that do not describe Go's memory. Under `/debug/pprof/` there is what the
//! kernel knows of the process; profiles are for `perf`, as the index says.

use std::{fs, os::unix::ffi::OsStrExt};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Map, Value, json};

use crate::{
    http::{pages, process, text},
    node::Node,
};

/// Which of the pages are served besides `/debug/vars`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    Off,
    /// `--enable-pprof`.
    Profiles,
    /// `--log-level=debug`, which brings the profiles with it.
    Everything,
}

pub(super) fn router(node: &Node, debug: Debug) -> Router {
    let variables = Router::new().route("/debug/vars", any(variables)).with_state(node.clone());
    let router = pages(variables);
    match debug {
        Debug::Off => router,
        Debug::Profiles => router.merge(profiles()),
        Debug::Everything => router.merge(profiles()).merge(traces()),
    }
}

/// etcd's variables in its order, without those of Go's memory.
async fn variables(State(node): State<Node>) -> Response {
    let status = node.status.now();
    let own = node.identity.member;
    let leader = status.leader.map(|leader| leader.to_string());
    let raft = json!({
        "id": own.to_string(),
        "term": status.term,
        "commit": status.committed_index,
        "lead": leader.unwrap_or_else(|| "0".to_owned()),
        "raftState": match status.leader {
            _ if status.is_learner => "StateLearner",
            Some(leader) if leader == own => "StateLeader",
            Some(_) | None => "StateFollower",
        },
        "applied": status.applied_index,
    });
    let mut variables = Map::new();
    variables.insert("cmdline".to_owned(), command_line().into());
    variables.insert("file_descriptor_limit".to_owned(), json!(process::open_files_max()));
    variables.insert("raft.status".to_owned(), raft);
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
    let page = format!("{{\n{}\n}}\n", lines.join(",\n"));
    ([(header::CONTENT_TYPE, content_type)], page).into_response()
}

/// What the process was started with, as the kernel remembers it.
fn command_line() -> Vec<Value> {
    let line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
    words.map(|word| Value::from(String::from_utf8_lossy(word))).collect()
}

const INDEX: &str = "/debug/pprof/

cmdline       the command line
threadcreate  the threads of this process and what each of them does

Profiles of CPU, heap and locks are Go's and are not served here. This server has symbols and line
tables, so that the kernel's profiler shows where it spends its time:

  perf record --call-graph dwarf -p PID -- sleep 30
";

fn profiles() -> Router {
    let refused = || async {
        text(StatusCode::NOT_IMPLEMENTED, "profiles of Go are not served here\n".to_owned())
    };
    ["profile", "symbol", "trace", "heap", "goroutine", "block", "mutex", "allocs"]
        .into_iter()
        .fold(Router::new(), |router, name| {
            router.route(&format!("/debug/pprof/{name}"), any(refused))
        })
        .route("/debug/pprof/", any(|| async { text(StatusCode::OK, INDEX.to_owned()) }))
        .route("/debug/pprof/cmdline", any(cmdline))
        .route("/debug/pprof/threadcreate", any(threads))
}

async fn cmdline() -> Response {
    let line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let line = String::from_utf8_lossy(line.strip_suffix(b"\0").unwrap_or(&line)).into_owned();
    text(StatusCode::OK, line)
}

/// The name and state of each thread, and where in the kernel it waits.
async fn threads() -> Response {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    let mut lines: Vec<String> = tasks
        .map(|task| {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let stat = read("stat");
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').next());
            let id = String::from_utf8_lossy(task.file_name().as_bytes()).into_owned();
            let (name, state) = (read("comm"), state.unwrap_or("?").to_owned());
            format!("{id} {} {state} {}\n", name.trim(), read("wchan"))
        })
        .collect();
    lines.sort();
    text(StatusCode::OK, format!("threads: total {}\n{}", lines.len(), lines.concat()))
}

/// Pages of Go's tracing, which etcd serves and never fills.
fn traces() -> Router {
    let page = || async {
        let content_type = HeaderValue::from_static("text/html; charset=utf-8");
        let page = "<html><body><p>No traces are kept here: see \
                    --enable-distributed-tracing.</p></body></html>\n";
        ([(header::CONTENT_TYPE, content_type)], page).into_response()
    };
    Router::new().route("/debug/requests", any(page)).route("/debug/events", any(page))
}
