//! Log lines in the shape of etcd's: one JSON object a line, or one line of a console; traces; and
//! what the process counts, under the names of etcd's metrics.

mod export;
mod histogram;
mod journal;
mod line;
mod meters;
mod rotate;
mod sinks;
pub mod traces;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt, panic,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::format::JsonFields, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use export::{Destination, ExportError, Exporter};
pub use histogram::Histogram;
use line::LineFormat;
pub(crate) use line::now;
pub use meters::{METERS, Meters, Operation, Peer as PeerMeter, Watched};
pub use sinks::OpenError;
use sinks::{Shared, Sinks};

/// What is logged, how and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub level: Level,
    pub format: Format,
    /// Each once; none for silence.
    pub outputs: Vec<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Console,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    /// systemd's journal.
    Journal,
    /// Appended to.
    File(PathBuf),
    Rotated(PathBuf, Rotation),
}

/// When a log file is replaced, and what becomes of the replaced ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub max_bytes: u64,
    /// `None` keeps them for ever.
    pub max_days: Option<u64>,
    /// `None` keeps all of them.
    pub max_backups: Option<usize>,
    /// Name them by the local time, not by UTC.
    pub local_time: bool,
    pub compress: bool,
}

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
    pub fn parse(name: &str) -> Option<Level> {
        match name.to_ascii_lowercase().as_str() {
            "debug" => Some(Level::Debug),
            // zap reads an empty level as its default.
            "info" | "" => Some(Level::Info),
            "warn" | "warning" => Some(Level::Warn),
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

/// The process's own, for lines that no subscriber writes.
static LINES: OnceLock<(Arc<Sinks>, Format)> = OnceLock::new();

/// Starts logging, and recording traces if there is somebody to send them to; makes a panic
/// anywhere end the process. Once per process.
///
/// Reads no environment. What libraries tell below `warn` is theirs and is left out.
///
/// # Errors
/// Names the output that cannot be opened.
pub fn start(options: &Options, traces: Option<&Exporter>) -> Result<(), OpenError> {
    let sinks = Arc::new(Sinks::open(options)?);
    let _ = LINES.set((sinks.clone(), options.format));
    let lines = subscriber(options.level, options.format, Shared(sinks));
    lines.with(traces.map(Exporter::layer)).init();
    panic::set_hook(Box::new(|info| {
        let caller = info.location().map_or_else(
            || "unknown".to_owned(),
            |location| line::caller(location.file(), location.line()),
        );
        last_line(&caller, &format!("panic: {}", text(info.payload())), Map::new());
        // Tasks and threads that wait for the one that is gone would wait for ever, and what it was
        // doing is half done. The log is made for sudden ends.
        std::process::abort();
    }));
    Ok(())
}

/// The time that long ago, as log lines have it.
pub fn time_before(ago: std::time::Duration) -> String {
    line::written(std::time::SystemTime::now().checked_sub(ago))
}

/// Writes a line of level `fatal`; the caller ends the process.
#[track_caller]
pub fn fatal(message: &str, fields: Map<String, Value>) {
    last_line(&here(), message, fields);
}

/// Writes a line past all filters: to the outputs, or to standard error before they are known.
#[track_caller]
pub fn say(level: &str, message: &str, fields: &Map<String, Value>) {
    write(level, &here(), message, fields);
}

#[track_caller]
fn here() -> String {
    let location = panic::Location::caller();
    line::caller(location.file(), location.line())
}

fn last_line(caller: &str, message: &str, mut fields: Map<String, Value>) {
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        fields.insert("stacktrace".to_owned(), Value::String(trace.to_string()));
    }
    write("fatal", caller, message, &fields);
}

fn write(level: &str, caller: &str, message: &str, fields: &Map<String, Value>) {
    let stderr;
    let (sinks, format) = match LINES.get() {
        Some((sinks, format)) => (sinks.as_ref(), *format),
        None => {
            stderr = Sinks::stderr();
            (&stderr, Format::Json)
        }
    };
    let line = line::line(format, level, &now(), caller, message, fields);
    sinks.write(level, line.as_bytes());
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
    format: Format,
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
        .event_format(LineFormat(format));
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
