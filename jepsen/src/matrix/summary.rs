//! What stays of every run of a matrix, and the summaries of all: `RESULTS.md` and an index page.

mod markdown;
mod page;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    check::{Checked, Verdict},
    figures::{self, Counts, Operation, Quantiles, operations, seconds},
    history::{Fault, History, Kind, Nanos},
};

pub use markdown::results_markdown;
pub use page::index_html;

/// A finished run. One JSON file each, named by [`Cell::file_name`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// "orrery" or "etcd", with the version that it gives.
    pub server: String,
    pub workload: String,
    pub nemesis: String,
    pub seed: u64,
    pub members: usize,
    pub duration_s: f64,
    pub verdict: Standing,
    pub checked: Vec<Checked>,
    /// Operations of the workload.
    pub steps: Counts,
    /// Requests on the wire.
    pub calls: u64,
    pub leaders_lost: u64,
    pub faults: Vec<CellFault>,
    /// Of what was ok; `None` when nothing was.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Operations per second that were ok.
    pub throughput: f64,
    /// Wall clock at the beginning, in RFC 3339.
    pub began_at: String,
    /// What was tested, as the version control names it.
    pub commit: String,
    /// Address of the run's report, relative to the index; empty where it was not kept.
    #[serde(default)]
    pub report: String,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Violated,
    Unknown,
    Valid,
}

/// What a fault did to availability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellFault {
    pub name: String,
    /// From its end to the next acknowledged write; `None` when there was none in time.
    pub recovery_s: Option<f64>,
    /// The longest time in which nobody anywhere was answered, in seconds.
    #[serde(default)]
    pub outage_s: f64,
    pub hit_leader: bool,
    /// Whether anything shows that it took effect.
    pub took_effect: bool,
}

impl Standing {
    /// One word for it, which is also its class in the style.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Violated => "violated",
            Standing::Unknown => "unknown",
            Standing::Valid => "valid",
        }
    }
}

impl From<&Verdict> for Standing {
    fn from(verdict: &Verdict) -> Standing {
        match verdict {
            Verdict::Valid => Standing::Valid,
            Verdict::Unknown(_) => Standing::Unknown,
            Verdict::Violated(_) => Standing::Violated,
        }
    }
}

impl From<&Fault> for CellFault {
    fn from(fault: &Fault) -> CellFault {
        CellFault {
            name: fault.name.clone(),
            recovery_s: figures::recovery(fault).map(seconds),
            outage_s: seconds(fault.outage),
            hit_leader: fault.hit_leader,
            took_effect: fault.evidence.is_some(),
        }
    }
}

impl Cell {
    /// What stays of a run of the server at `commit`.
    pub fn from(history: &History, checked: &[Checked], commit: &str) -> Cell {
        let run = &history.run;
        let operations = operations(history);
        let ok = || operations.iter().filter(|one| one.kind == Kind::Ok);
        let latency = Quantiles::of(ok().map(Operation::took));
        let milliseconds = |pick: fn(Quantiles) -> Nanos| {
            latency.map(|quantiles| (seconds(pick(quantiles)) * 1e6).round() / 1e3)
        };
        let rate = ok().count() as f64 / figures::working_seconds(history);
        Cell {
            server: run.server.clone(),
            workload: run.workload.clone(),
            nemesis: run.nemesis.clone(),
            seed: run.seed,
            members: run.members,
            duration_s: seconds(run.duration),
            verdict: Standing::from(&figures::overall(checked)),
            checked: checked.to_vec(),
            steps: Counts::of(&operations),
            calls: history.calls.len() as u64,
            leaders_lost: figures::leaders_lost(history),
            faults: history.faults.iter().map(CellFault::from).collect(),
            p50_ms: milliseconds(|it| it.p50),
            p99_ms: milliseconds(|it| it.p99),
            throughput: (rate * 10.0).round() / 10.0,
            began_at: run.began_at.clone(),
            commit: commit.to_owned(),
            report: String::new(),
        }
    }

    /// "orrery-register-kill-7-3.json": the same for a run that is done again.
    pub fn file_name(&self) -> String {
        let server = if self.is_etcd() { "etcd" } else { "orrery" };
        let plain = |text: &str| text.replace(|it: char| !it.is_ascii_alphanumeric(), "_");
        let (workload, nemesis) = (plain(&self.workload), plain(&self.nemesis));
        format!("{server}-{workload}-{nemesis}-{}-{}.json", self.seed, self.members)
    }

    /// Writes it into `directory`: all of it or nothing, also when this is killed meanwhile.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let path = directory.join(self.file_name());
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }

    /// Every cell in `directory`, by the names of their files; none where there is no directory.
    pub fn read_all(directory: &Path) -> io::Result<Vec<Cell>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let is_cell = |path: &&PathBuf| path.extension().is_some_and(|it| it == "json");
        let mut cells: Vec<_> = paths.iter().filter(is_cell).collect();
        cells.sort();
        let read = |path: &&PathBuf| {
            let cell = serde_json::from_slice(&fs::read(path)?);
            cell.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        cells.iter().map(read).collect()
    }

    /// Whether it is a reference: a run of etcd.
    pub fn is_etcd(&self) -> bool {
        self.server.starts_with("etcd")
    }

    /// The checkers that were not satisfied, with their reasons; the gravest first.
    fn reasons(&self) -> Vec<(&str, &'static str, &str)> {
        let mut reasons: Vec<_> = self
            .checked
            .iter()
            .filter_map(|one| match &one.verdict {
                Verdict::Valid => None,
                Verdict::Violated(reason) => Some((0, one.name.as_str(), "violated", reason)),
                Verdict::Unknown(reason) => Some((1, one.name.as_str(), "unknown", reason)),
            })
            .collect();
        reasons.sort_by_key(|(gravity, ..)| *gravity);
        reasons.into_iter().map(|(_, name, word, why)| (name, word, why.as_str())).collect()
    }
}

/// The gravest and then the rest, in the order of their names.
fn sorted(cells: &[Cell]) -> Vec<&Cell> {
    let mut cells: Vec<_> = cells.iter().collect();
    cells.sort_by(|one, other| {
        let key = |cell: &Cell| (cell.verdict, cell.is_etcd(), cell.members, cell.seed);
        let names = (&one.workload, &one.nemesis).cmp(&(&other.workload, &other.nemesis));
        key(one).0.cmp(&key(other).0).then(names).then(key(one).cmp(&key(other)))
    });
    cells
}

/// How many cells of ours there are of each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    valid: usize,
    unknown: usize,
    violated: usize,
}

impl Tally {
    fn of<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Tally {
        let mut tally = Tally::default();
        for cell in cells {
            match cell.verdict {
                Standing::Valid => tally.valid += 1,
                Standing::Unknown => tally.unknown += 1,
                Standing::Violated => tally.violated += 1,
            }
        }
        tally
    }

    fn all(self) -> usize {
        self.valid + self.unknown + self.violated
    }

    fn in_words(self) -> String {
        let Tally { valid, unknown, violated } = self;
        let (all, cells) = (self.all(), if self.all() == 1 { "cell" } else { "cells" });
        format!("{all} {cells}: {valid} valid, {violated} violated, {unknown} unknown")
    }

    fn gravest(self) -> Standing {
        match self {
            Tally { violated: 1.., .. } => Standing::Violated,
            Tally { unknown: 1.., .. } | Tally { valid: 0, .. } => Standing::Unknown,
            Tally { .. } => Standing::Valid,
        }
    }
}

/// How a cell recovered from the faults of one name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Recovery {
    times: usize,
    /// How often it did not in time.
    never: usize,
    /// Median and greatest of when it did, in seconds.
    p50: Option<f64>,
    max: Option<f64>,
    /// The longest time in which nobody was answered, in seconds.
    outage: f64,
}

impl Recovery {
    /// `None` when there was no such fault.
    fn of(cell: &Cell, fault: &str) -> Option<Recovery> {
        let those: Vec<_> = cell.faults.iter().filter(|one| one.name == fault).collect();
        let mut seconds: Vec<_> = those.iter().filter_map(|one| one.recovery_s).collect();
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len().saturating_sub(1) / 2;
        (!those.is_empty()).then(|| Recovery {
            times: those.len(),
            never: those.len() - seconds.len(),
            p50: seconds.get(middle).copied(),
            max: seconds.last().copied(),
            outage: those.iter().map(|one| one.outage_s).fold(0.0, f64::max),
        })
    }
}

/// Our recovery from one fault in one cell, beside etcd's in the cell that is like it.
struct Compared<'a> {
    cell: &'a Cell,
    fault: &'a str,
    ours: Option<Recovery>,
    etcd: Option<Recovery>,
}

/// One for every fault of every cell of ours; those with a reference first.
fn compared(cells: &[Cell]) -> Vec<Compared<'_>> {
    let mut compared = Vec::new();
    for cell in sorted(cells).into_iter().filter(|cell| !cell.is_etcd()) {
        let like =
            |cell: &Cell| (cell.workload.clone(), cell.nemesis.clone(), cell.seed, cell.members);
        let etcd = cells.iter().find(|other| other.is_etcd() && like(other) == like(cell));
        let faults: BTreeSet<_> = cell.faults.iter().map(|fault| fault.name.as_str()).collect();
        for fault in faults {
            let ours = Recovery::of(cell, fault);
            let etcd = etcd.and_then(|etcd| Recovery::of(etcd, fault));
            compared.push(Compared { cell, fault, ours, etcd });
        }
    }
    compared.sort_by_key(|one| one.etcd.is_none());
    compared
}

#[cfg(test)]
mod tests;
