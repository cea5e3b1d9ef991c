//! The report of a run: one HTML file that needs nothing else, also no script to be read.

mod errors;
mod faults;
mod header;
mod latency;
mod members;
mod throughput;
mod timeline;
mod verdicts;

use orrery_plot::page;

use crate::{check::Checked, figures, history::History};

/// What else a run left, as addresses relative to the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The history: "history.jsonl".
    pub history: Option<String>,
    /// A name and an address each: the members' logs, directories of data that were kept.
    pub others: Vec<(String, String)>,
}

/// The report of a run as an HTML page.
pub fn html(history: &History, checked: &[Checked], links: &Links) -> String {
    let backdrop = faults::backdrop(history);
    let run = &history.run;
    let overall = figures::overall(checked);
    let mut body = String::new();
    header::write(&mut body, history, checked, links);
    verdicts::write(&mut body, checked);
    latency::write(&mut body, history, &backdrop);
    throughput::write(&mut body, history, &backdrop);
    members::write(&mut body, history, &backdrop);
    faults::write(&mut body, history);
    errors::write(&mut body, history);
    timeline::write(&mut body, history);
    let title = format!(
        "{}: {} under {}, seed {}",
        verdicts::word(&overall),
        run.workload,
        run.nemesis,
        run.seed
    );
    page(&title, &body, timeline::SCRIPT)
}

#[cfg(test)]
mod tests;
