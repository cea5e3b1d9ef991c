//! What a run shows on a terminal: how far it is, and a table at the end.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::{
    figures::{NANOS, Tally},
    page,
    probe::Probe,
    summary::Summary,
};
use crate::cli::table::{self, Column};

/// How often what is shown changes.
const STEP: Duration = Duration::from_millis(500);

/// What was probed so far, while it lasts.
pub(super) struct Live {
    lasting: Duration,
    began: Instant,
    found: Arc<Mutex<Vec<Probe>>>,
}

impl Live {
    pub(super) fn new(lasting: Duration, began: Instant, found: Arc<Mutex<Vec<Probe>>>) -> Live {
        Live { lasting, began, found }
    }

    /// Never ends: whoever spawned it aborts it. Shows nothing where there is no terminal.
    pub(super) async fn show(self) {
        let bar = ProgressBar::new(self.lasting.as_secs());
        if let Ok(style) = ProgressStyle::with_template("probing [{bar:40}] {pos}/{len} s  {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let mut seen = 0;
        let mut tally = Tally::default();
        loop {
            sleep(STEP).await;
            {
                let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                let new = Tally::of(&found[seen.min(found.len())..]);
                seen = found.len();
                tally.done += new.done;
                tally.failed += new.failed;
            }
            bar.set_position(self.began.elapsed().as_secs().min(self.lasting.as_secs()));
            bar.set_message(format!("{} succeeded, {} failed", tally.done, tally.failed));
        }
    }
}

/// The figures of a run for people.
pub(super) fn table(summary: &Summary) -> String {
    let rows = summary.rows.iter().map(|row| {
        [
            row.region.clone().unwrap_or_else(|| "(surviving)".to_owned()),
            row.act.to_string(),
            row.tally.done.to_string(),
            row.tally.failed.to_string(),
            page::per_cent(row.availability_minutes),
            page::latency(row.p50),
            page::latency(row.p99),
            page::latency(row.max),
        ]
    });
    let columns = [
        Column::left("FROM"),
        Column::left("REQUEST"),
        Column::right("DONE"),
        Column::right("FAILED"),
        Column::right("AVAILABILITY"),
        Column::right("P50"),
        Column::right("P99"),
        Column::right("MAX"),
    ];
    let mut text = table::table(columns, rows);
    if !summary.gaps.is_empty() {
        text.push('\n');
        text.push_str(&gaps(summary));
        text.push('\n');
    }
    for level in &summary.consistency {
        let (name, reads, violations) = (level.level.name(), level.reads, level.violations);
        let _ = writeln!(text, "{name}: {violations} of {reads} reads broke its promise");
    }
    let run = &summary.run;
    let _ =
        writeln!(text, "acknowledged writes lost: {} (keys not read: {})", run.lost, run.unread);
    text
}

fn gaps(summary: &Summary) -> String {
    let latency = |seconds: f64| page::latency(Some((seconds * NANOS as f64) as u64));
    let rows = summary.gaps.iter().map(|gaps| {
        [
            gaps.what.clone(),
            gaps.act.to_string(),
            gaps.faults.to_string(),
            latency(gaps.p50),
            latency(gaps.max),
        ]
    });
    let columns = [
        Column::left("FAULT"),
        Column::left("LONGEST WITHOUT A"),
        Column::right("TIMES"),
        Column::right("P50"),
        Column::right("MAX"),
    ];
    table::table(columns, rows)
}
