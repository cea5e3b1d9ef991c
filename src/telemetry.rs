//! Log lines in the shape of etcd's: one JSON object a line, on standard error; traces; and what the
//! process counts, under the names of etcd's metrics.

mod export;
mod histogram;
mod line;
mod meters;
pub mod traces;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt, panic,
};

use serde_json::{Map, Value};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::format::JsonFields, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use export::{Destination, ExportError, Exporter};
pub use histogram::Histogram;
pub(crate) use line::now;
use line::{LineFormat, line};
pub use meters::{METERS, Meters, Operation, Peer as PeerMeter, Watched};

/// Of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is logged at all; each level holds those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    /// Only what ends the process.
    Fatal,
}

impl Level {
    /// The names that etcd takes.
    pub const NAMES: &'static str = "debug, info, warn, error, panic or fatal";

    pub fn parse(name: &str) -> Option<Level> {
        match name {
            "debug" => Some(Level::Debug),
            // etcd reads an empty level as its default.
            "info" | "" => Some(Level::Info),
            "warn" => Some(Level::Warn),
            "error" => Some(Level::Error),
            "dpanic" | "panic" | "fatal" => Some(Level::Fatal),
            _ => None,
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            Level::Fatal => LevelFilter::OFF,
        }
    }
}

/// Starts logging, and recording traces if there is somebody to send them to; makes a panic
/// anywhere end the process. Once per process.
///
/// Reads no environment. What libraries tell below `warn` is theirs and is left out.
pub fn start(level: Level, traces: Option<&Exporter>) {
    let lines = subscriber(level, std::io::stderr);
    lines.with(traces.map(Exporter::layer)).init();
    panic::set_hook(Box::new(|info| {
        let caller = info.location().map_or_else(
            || "unknown".to_owned(),
            |location| line::caller(location.file(), location.line()),
        );
        fatal(&caller, &format!("panic: {}", text(info.payload())));
        // Tasks and threads that wait for the one that is gone would wait for ever, and what it was
        // doing is half done. The log is made for sudden ends.
        std::process::abort();
    }));
}

/// Writes a line of level `fatal`; the caller ends the process.
pub fn fatal(caller: &str, message: &str) {
    let mut fields = Map::new();
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        fields.insert("stacktrace".to_owned(), Value::String(trace.to_string()));
    }
    eprint!("{}", line("fatal", &now(), caller, message, &fields));
}

fn text(payload: &dyn std::any::Any) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn subscriber<W>(
    level: Level,
    writer: W,
) -> impl Subscriber + for<'span> LookupSpan<'span> + Send + Sync
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let own = level.filter();
    // openraft warns at every attempt to reach a member that is down; the connections themselves
    // tell it once.
    let targets = Targets::new()
        .with_target("orrery", own)
        .with_target("openraft", own.min(LevelFilter::ERROR))
        .with_default(own.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(LineFormat);
    tracing_subscriber::registry().with(lines.with_filter(targets))
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        })
    }
}

#[cfg(test)]
mod tests;
