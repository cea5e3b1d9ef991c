//! The figures of a run: what the terminal, the page and programs are told.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    check::{Registers, Violation, violations},
    figures::{
        NANOS, Tally, attainment, availability, failure_rate_bound, longest_gap, nearest_rank,
        windows,
    },
    probe::{Act, Probe},
    run::{Fault, History, Run},
};
use crate::types::Level;

/// Seconds of the windows that a drill can fill.
pub(crate) const MINUTE: u64 = 60;
/// Seconds of the windows that agreements speak of.
pub(crate) const HOUR: u64 = 3600;

/// Below this P99, in nanoseconds, Cosmos DB's agreement keeps reads and writes in a region.
pub(crate) const OBJECTIVE: u64 = 10_000_000;

/// Violations that are told one by one; all are counted.
const TOLD: usize = 100;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) run: Run,
    /// A row for each region and act, and for each act one of all regions that survived.
    pub(crate) rows: Vec<Row>,
    pub(crate) faults: Vec<Effect>,
    /// A row for each kind of fault and each act.
    pub(crate) gaps: Vec<Gaps>,
    /// Of all reads of a level.
    pub(crate) consistency: Vec<Attained>,
    /// The first of them.
    pub(crate) violations: Vec<Violation>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// `None` for all of them, without those that were lost while they were.
    pub(crate) region: Option<String>,
    pub(crate) act: Act,
    pub(crate) tally: Tally,
    /// Per cent, of minutes and of hours.
    pub(crate) availability_minutes: f64,
    pub(crate) availability_hours: f64,
    /// The rate of failure, in per cent, that these requests leave possible at 95 % confidence.
    pub(crate) failures_at_most: Option<f64>,
    /// In nanoseconds, of what succeeded.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) max: Option<u64>,
    /// Per cent of minutes whose P99 was below [`OBJECTIVE`].
    pub(crate) latency_attainment: Option<f64>,
}

/// What a fault did to those who were not in a lost region.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Effect {
    pub(crate) fault: Fault,
    /// The longest time without a success of any client, in seconds, for each act.
    pub(crate) longest_gap: Vec<(Act, f64)>,
}

/// The longest times without a success of all faults of a kind, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gaps {
    pub(crate) what: String,
    pub(crate) act: Act,
    pub(crate) faults: usize,
    pub(crate) p50: f64,
    pub(crate) max: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attained {
    pub(crate) level: Level,
    pub(crate) reads: u64,
    pub(crate) violations: u64,
}

impl Attained {
    /// Per cent of the reads that kept their promise.
    pub(crate) fn per_cent(&self) -> f64 {
        match self.reads {
            0 => 100.0,
            reads => 100.0 * (1.0 - self.violations as f64 / reads as f64),
        }
    }
}

impl Summary {
    pub(crate) fn of(history: &History) -> Summary {
        let History { run, probes } = history;
        let registers = Registers::of(probes, run.keys);
        let bound = Duration::from_millis(run.max_staleness_ms);
        let mut violations = violations(probes, &registers, bound);
        let consistency = consistency(probes, &violations);
        violations.truncate(TOLD);
        let faults: Vec<Effect> = run.faults.iter().map(|fault| effect(fault, history)).collect();
        let (rows, gaps) = (rows(history), gaps(&faults));
        Summary { run: run.clone(), rows, faults, gaps, consistency, violations }
    }

    /// Whether every read kept its promise, and every acknowledged write is known to be there.
    pub(crate) fn is_kept(&self) -> bool {
        let violated = self.consistency.iter().any(|level| level.violations > 0);
        !violated && self.run.lost == 0 && self.run.unread == 0
    }
}

fn rows(history: &History) -> Vec<Row> {
    let run = &history.run;
    let mut rows = Vec::new();
    for act in &run.acts {
        let those: Vec<&Probe> = history.surviving().filter(|it| it.act == *act).collect();
        rows.push(row(None, *act, &those, run));
    }
    for (place, region) in run.regions.iter().enumerate() {
        for act in &run.acts {
            let is_its = |probe: &&Probe| probe.region == place && probe.act == *act;
            let those: Vec<&Probe> = history.probes.iter().filter(is_its).collect();
            rows.push(row(Some(region.name.clone()), *act, &those, run));
        }
    }
    rows
}

fn row(region: Option<String>, act: Act, probes: &[&Probe], run: &Run) -> Row {
    let all = || probes.iter().copied();
    let end = (run.seconds * NANOS as f64) as u64;
    let tally = Tally::of(all());
    let minutes = windows(all(), MINUTE, end);
    let mut took: Vec<u64> = all().filter(|probe| probe.is_done()).map(Probe::took).collect();
    took.sort_unstable();
    let bound = failure_rate_bound(tally.failed, tally.total());
    Row {
        region,
        act,
        tally,
        availability_minutes: availability(&minutes),
        availability_hours: availability(&windows(all(), HOUR, end)),
        failures_at_most: bound.map(|rate| rate * 100.0),
        p50: nearest_rank(&took, 0.50),
        p99: nearest_rank(&took, 0.99),
        max: took.last().copied(),
        latency_attainment: attainment(&minutes, OBJECTIVE),
    }
}

fn effect(fault: &Fault, history: &History) -> Effect {
    let nanos = |seconds: f64| (seconds * NANOS as f64) as u64;
    let end = nanos(history.run.seconds);
    let of_act = |act: &Act| {
        let mut done: Vec<u64> = history
            .surviving()
            .filter(|probe| probe.act == *act && probe.is_done())
            .map(|probe| probe.ended)
            .collect();
        done.sort_unstable();
        let gap = longest_gap(&done, (nanos(fault.from), nanos(fault.until)), end);
        (*act, gap as f64 / NANOS as f64)
    };
    let longest_gap = history.run.acts.iter().map(of_act).collect();
    Effect { fault: fault.clone(), longest_gap }
}

fn gaps(faults: &[Effect]) -> Vec<Gaps> {
    let mut kinds: BTreeMap<(&str, Act), Vec<f64>> = BTreeMap::new();
    for effect in faults {
        for (act, gap) in &effect.longest_gap {
            kinds.entry((&effect.fault.what, *act)).or_default().push(*gap);
        }
    }
    let row = |((what, act), mut gaps): ((&str, Act), Vec<f64>)| {
        gaps.sort_by(f64::total_cmp);
        // The nearest rank, as everywhere; there is a gap at least.
        let p50 = gaps[(gaps.len() - 1) / 2];
        let max = gaps[gaps.len() - 1];
        Gaps { what: what.to_owned(), act, faults: gaps.len(), p50, max }
    };
    kinds.into_iter().map(row).collect()
}

fn consistency(probes: &[Probe], violations: &[Violation]) -> Vec<Attained> {
    let attained = |level: Level| {
        let reads = probes.iter().filter(|it| it.act == Act::Read(level) && it.is_done()).count();
        let violations = violations.iter().filter(|it| it.level == level).count();
        Attained { level, reads: reads as u64, violations: violations as u64 }
    };
    let all = Level::ALL.into_iter().map(attained);
    all.filter(|level| level.reads > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_kind_are_one_row() {
        let effect = |what: &str, gap| Effect {
            fault: Fault {
                what: what.to_owned(),
                target: "eastus".to_owned(),
                from: 0.0,
                until: 1.0,
                lost_regions: Vec::new(),
            },
            longest_gap: vec![(Act::Write, gap)],
        };
        let faults = [("kill", 0.3), ("kill", 0.1), ("slow", 2.0), ("kill", 0.2), ("kill", 0.4)];
        let found = gaps(&faults.map(|(what, gap)| effect(what, gap)));
        let row = |what: &str, faults, p50, max| Gaps {
            what: what.to_owned(),
            act: Act::Write,
            faults,
            p50,
            max,
        };
        assert_eq!(found, [row("kill", 4, 0.2, 0.4), row("slow", 1, 2.0, 2.0)]);
    }
}
