//! What was broken while a run lasted, as those who broke it wrote down.

use std::{fs, io, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::run::Fault;
use crate::cli::output::Output;

/// In the directory of `orrery up`; a line for each fault, written when it is over.
pub(crate) const JOURNAL: &str = "faults.jsonl";

/// A fault by this machine's wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) what: String,
    pub(crate) target: String,
    pub(crate) from_unix_ms: u64,
    pub(crate) until_unix_ms: u64,
    #[serde(default)]
    pub(crate) lost_regions: Vec<String>,
}

/// The faults that touched a run that began at `began` and lasted so many seconds.
pub(crate) fn during(output: &Output, began: Duration, seconds: f64) -> anyhow::Result<Vec<Fault>> {
    let path = output.path(JOURNAL);
    let about = || path.display().to_string();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(about),
    };
    let entries: Vec<Entry> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(about)?;
    Ok(faults(entries, began.as_secs_f64(), seconds))
}

fn faults(entries: Vec<Entry>, began: f64, seconds: f64) -> Vec<Fault> {
    let since = |unix_ms: u64| unix_ms as f64 / 1000.0 - began;
    let faults = entries.into_iter().map(|entry| Fault {
        what: entry.what,
        target: entry.target,
        from: since(entry.from_unix_ms),
        until: since(entry.until_unix_ms),
        lost_regions: entry.lost_regions,
    });
    let mut faults: Vec<Fault> =
        faults.filter(|fault| fault.until > 0.0 && fault.from < seconds).collect();
    faults.sort_by(|one, other| one.from.total_cmp(&other.from));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_during_the_run_is_its() {
        let entry = |from_unix_ms, until_unix_ms| Entry {
            what: "kill member".to_owned(),
            target: "eastus-0".to_owned(),
            from_unix_ms,
            until_unix_ms,
            lost_regions: Vec::new(),
        };
        let entries = vec![entry(104_000, 106_000), entry(90_000, 99_000), entry(101_000, 102_000)];
        let entries = [entries, vec![entry(110_000, 111_000)]].concat();
        let faults = faults(entries, 100.0, 10.0);
        let times: Vec<(f64, f64)> = faults.iter().map(|it| (it.from, it.until)).collect();
        assert_eq!(times, [(1.0, 2.0), (4.0, 6.0)]);
    }
}
