//! One log line: `{"level":…,"ts":…,"caller":…,"msg":…, fields…}`, or the same for a console.

use std::{fmt, path::Path};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use super::Format;

pub(crate) struct LineFormat(pub(crate) Format);

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        // Outer spans first, so that the field nearest to the event wins.
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            let parsed = formatted.and_then(|text| serde_json::from_str(text).ok());
            if let Some(Value::Object(of_span)) = parsed {
                fields.others.extend(of_span);
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let caller = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => caller(file, line),
            _ => metadata.target().to_owned(),
        };
        let level = level_name(*metadata.level());
        writer.write_str(&line(self.0, level, &now(), &caller, &fields.message, &fields.others))
    }
}

/// The line with its line feed.
pub(crate) fn line(
    format: Format,
    level: &str,
    timestamp: &str,
    caller: &str,
    message: &str,
    fields: &Map<String, Value>,
) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut line = match format {
        Format::Json => format!(
            r#"{{"level":"{level}","ts":"{timestamp}","caller":{},"msg":{}"#,
            quoted(caller),
            quoted(message)
        ),
        Format::Console => format!("{timestamp}\t{level}\t{caller}\t{message}"),
    };
    for (position, (name, value)) in fields.iter().enumerate() {
        let name = quoted(name);
        line.push_str(&match (format, position) {
            (Format::Json, _) => format!(",{name}:{value}"),
            (Format::Console, 0) => format!("\t{{{name}: {value}"),
            (Format::Console, _) => format!(", {name}: {value}"),
        });
    }
    if format == Format::Json || !fields.is_empty() {
        line.push('}');
    }
    line.push('\n');
    line
}

/// The time of a line that is written now.
pub(crate) fn now() -> String {
    written(Some(std::time::SystemTime::now()))
}

/// In UTC with microseconds: `2026-01-02T15:04:05.999999Z`. `None` is a time before all clocks.
pub(crate) fn written(time: Option<std::time::SystemTime>) -> String {
    let time = time.unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    DateTime::<Utc>::from(time).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// File and line as zap has them: the last folder, the file, the line.
pub(crate) fn caller(file: &str, line: u32) -> String {
    let path = Path::new(file);
    let name =
        |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let folder = match name(path.parent().and_then(Path::file_name)) {
        root if root.is_empty() || root == "src" => "orrery".to_owned(),
        folder => folder,
    };
    format!("{folder}/{}:{line}", name(path.file_name()))
}

pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

/// Names that the line itself has; a field of that name gets an underscore.
const OWN: [&str; 4] = ["level", "ts", "caller", "msg"];

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => {
                self.message = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
            }
            name if OWN.contains(&name) => {
                self.others.insert(format!("{name}_"), value);
            }
            // zap's names have dashes where Rust's have underscores.
            name => {
                self.others.insert(name.replace('_', "-"), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}
