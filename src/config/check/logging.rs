//! Where log lines go, which, and how they look.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    config::{Error, raw::RawConfig},
    telemetry::{Format, Level, Options, Output, Rotation},
};

/// What lumberjack takes no size for.
const ROTATION_MEGABYTES_DEFAULT: u64 = 100;

const JOURNAL: &str = "systemd/journal";

pub(crate) fn options(raw: &RawConfig) -> Result<Options, Error> {
    match raw.text("logger") {
        "zap" => {}
        "capnslog" => return Err(Error::Capnslog),
        other => return Err(Error::UnknownLogger(other.to_owned())),
    }
    let mut names = raw.words("log-outputs");
    names.sort();
    names.dedup();
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        return Err(Error::DefaultAndOthers);
    }
    let rotation = raw.bool("enable-log-rotation").then(|| rotation(raw, &names)).transpose()?;
    if names.len() > 1 && names.iter().any(|name| name == JOURNAL) {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        return Err(Error::JournalAndOthers(format!("[{}]", names.join(" "))));
    }
    let level = raw.text("log-level");
    let format = raw.text("log-format");
    Ok(Options {
        level: Level::parse(level).ok_or_else(|| Error::UnknownLevel(level.to_owned()))?,
        format: match format {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            _ => return Err(Error::UnknownLogFormat(format.to_owned())),
        },
        outputs: outputs(&names, rotation),
    })
}

/// As with zap, `/dev/null` among the outputs is the end of all of them.
fn outputs(names: &[String], rotation: Option<Rotation>) -> Vec<Output> {
    if names.iter().any(|name| name == "/dev/null") {
        return Vec::new();
    }
    let output = |name: &String| match name.as_str() {
        "default" | "stderr" => Output::Stderr,
        "stdout" => Output::Stdout,
        JOURNAL => Output::Journal,
        path => match rotation {
            None => Output::File(PathBuf::from(path)),
            Some(rotation) => Output::Rotated(PathBuf::from(path), rotation),
        },
    };
    if names.is_empty() { vec![Output::Stderr] } else { names.iter().map(output).collect() }
}

/// lumberjack's settings, for the one file among the outputs.
fn rotation(raw: &RawConfig, outputs: &[String]) -> Result<Rotation, Error> {
    let is_file = |name: &&String| !matches!(name.as_str(), "default" | "stderr" | "stdout");
    let files = outputs.iter().filter(is_file).count();
    if files > 1 || files == 0 && outputs.len() <= 1 {
        return Err(Error::RotationWithoutOneFile);
    }
    let parsed = serde_json::from_str::<Value>(raw.text("log-rotation-config-json"));
    let value = parsed.map_err(|error| {
        let words = if error.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            error.to_string()
        };
        Error::RotationNotJson(words)
    })?;
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => {
            let what = format!("{} into Go value of type embed.logRotationConfig", name_of(&other));
            return Err(Error::RotationType(what));
        }
    };
    let megabytes = match whole(&fields, "maxsize")? {
        0 => ROTATION_MEGABYTES_DEFAULT,
        megabytes => megabytes,
    };
    let backups = whole(&fields, "maxbackups")?;
    Ok(Rotation {
        max_bytes: megabytes.saturating_mul(1 << 20),
        max_days: Some(whole(&fields, "maxage")?).filter(|days| *days > 0),
        max_backups: usize::try_from(backups).ok().filter(|backups| *backups > 0),
        local_time: yes_or_no(&fields, "localtime")?,
        compress: yes_or_no(&fields, "compress")?,
    })
}

/// Go finds fields by their names in whatever case.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

/// A negative number is no limit.
fn whole(fields: &Map<String, Value>, name: &str) -> Result<u64, Error> {
    match field(fields, name) {
        None => Ok(0),
        Some(value) => match value.as_i64() {
            Some(number) => Ok(u64::try_from(number).unwrap_or(0)),
            None => Err(wrong_type(value, name, "int")),
        },
    }
}

fn yes_or_no(fields: &Map<String, Value>, name: &str) -> Result<bool, Error> {
    match field(fields, name) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong_type(value, name, "bool")),
    }
}

fn wrong_type(value: &Value, name: &str, wanted: &str) -> Error {
    let there = match value {
        Value::Number(number) if wanted == "int" => format!("number {number}"),
        other => name_of(other).to_owned(),
    };
    Error::RotationType(format!(
        "{there} into Go struct field logRotationConfig.Logger.{name} of type {wanted}"
    ))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
