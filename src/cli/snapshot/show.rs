//! Results in the formats of etcdutl.

use serde::Serialize;

use crate::{
    cli::failure::{Exit, Failure},
    exchange::Status,
    mvcc::HashKv,
    types::Revision,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson<'a> {
    hash: u32,
    revision: i64,
    total_key: usize,
    total_size: u64,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashKvJson {
    hash: u32,
    hash_revision: i64,
    compact_revision: i64,
}

impl Format {
    pub(super) fn parse(name: &str) -> Result<Format, Failure> {
        match name {
            "simple" => Ok(Format::Simple),
            "fields" => Ok(Format::Fields),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            "table" => Ok(Format::Table),
            _ => Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        }
    }

    pub(super) fn status(self, status: &Status) -> Result<String, Failure> {
        let Status { hash, revision, total_keys, total_bytes, version } = status;
        let row = || {
            let (hash, size) = (format!("{hash:x}"), human(*total_bytes));
            [hash, revision.to_string(), total_keys.to_string(), size, version.clone()]
        };
        match self {
            Format::Simple => Ok(row().join(", ") + "\n"),
            Format::Fields => Ok(format!(
                "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\
                 \"Size\" : {total_bytes}\n\"Version\" : {version}\n"
            )),
            Format::Json => json(&StatusJson {
                hash: *hash,
                revision: *revision,
                total_key: *total_keys,
                total_size: *total_bytes,
                version,
            }),
            Format::Protobuf => Err(no_message()),
            Format::Table => {
                Ok(table(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"], row()))
            }
        }
    }

    pub(super) fn hash_kv(self, found: &HashKv) -> Result<String, Failure> {
        let HashKv { hash, compact_revision, hash_revision } = *found;
        // As in etcd, where the floor starts below every revision.
        let compact_revision = compact_revision.map_or(-1, Revision::get);
        let row = || [hash.to_string(), hash_revision.to_string(), compact_revision.to_string()];
        match self {
            Format::Simple => Ok(row().join(", ") + "\n"),
            Format::Fields => Ok(format!(
                "\"Hash\" : {hash}\n\"Hash revision\" : {hash_revision}\n\
                 \"Compact revision\" : {compact_revision}\n"
            )),
            Format::Json => json(&HashKvJson { hash, hash_revision, compact_revision }),
            Format::Protobuf => Err(no_message()),
            Format::Table => Ok(table(["HASH", "HASH REVISION", "COMPACT REVISION"], row())),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n").map_err(|error| Failure::new(Exit::Error, error))
}

/// etcd has no message for it either.
fn no_message() -> Failure {
    Failure::new(Exit::BadFeature, "protobuf not supported as output format")
}

/// Headings in the middle of their columns, values at the right.
fn table<const COLUMNS: usize>(headings: [&str; COLUMNS], values: [String; COLUMNS]) -> String {
    let widths: Vec<usize> =
        headings.iter().zip(&values).map(|(one, other)| one.len().max(other.len())).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let centred = |(heading, width): (&&str, &usize)| format!("{heading:^width$}");
    let right = |(value, width): (&String, &usize)| format!("{value:>width$}");
    [
        rule("┌", "┬", "┐"),
        line(headings.iter().zip(&widths).map(centred).collect()),
        rule("├", "┼", "┤"),
        line(values.iter().zip(&widths).map(right).collect()),
        rule("└", "┴", "┘"),
    ]
    .concat()
}

/// Bytes as etcd's tools show them: in powers of 1000, a decimal below ten.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >= 1000_u64.pow(unit as u32 + 1) {
        unit += 1;
    }
    let value = bytes as f64 / 1000_f64.powi(unit as i32);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    match value < 10.0 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}
