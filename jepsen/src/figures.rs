//! What a history amounts to in numbers, for the reports.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    check::{Checked, Verdict},
    history::{Call, Fault, History, Kind, MemberIndex, Nanos, Outcome, Step},
};

/// The gravest of what was found. Nothing checked is nothing known.
pub fn overall(checked: &[Checked]) -> Verdict {
    if checked.is_empty() {
        return Verdict::Unknown("nothing was checked".to_owned());
    }
    checked.iter().map(|one| one.verdict.clone()).fold(Verdict::Valid, Verdict::and)
}

/// One operation as the plots see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Operation<'a> {
    pub(crate) f: &'a str,
    pub(crate) kind: Kind,
    pub(crate) began: Nanos,
    pub(crate) ended: Nanos,
    pub(crate) member: MemberIndex,
    pub(crate) error: &'a str,
}

impl Operation<'_> {
    pub(crate) fn took(&self) -> Nanos {
        self.ended.saturating_sub(self.began)
    }
}

/// The steps; where a workload has none, the calls.
pub(crate) fn operations<'a>(history: &'a History) -> Vec<Operation<'a>> {
    if history.steps.is_empty() {
        return history.calls.iter().map(of_call).collect();
    }
    let of_step = |step: &'a Step| {
        let Step { member, f, began, ended, kind, error, .. } = step;
        let (began, ended, kind, member) = (*began, *ended, *kind, *member);
        Operation { f, kind, began, ended, member, error }
    };
    history.steps.iter().map(of_step).collect()
}

fn of_call(call: &Call) -> Operation<'_> {
    let (kind, error) = match &call.outcome {
        Outcome::Ok(_) => (Kind::Ok, ""),
        Outcome::Fail(failure) => (Kind::Fail, failure.message.as_str()),
        Outcome::Info(failure) => (Kind::Info, failure.message.as_str()),
    };
    let (began, ended, member) = (call.began, call.ended, call.member);
    Operation { f: call.request.kind(), kind, began, ended, member, error }
}

/// How many of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
}

impl Counts {
    pub(crate) fn of<'a>(operations: impl IntoIterator<Item = &'a Operation<'a>>) -> Counts {
        let mut counts = Counts::default();
        for operation in operations {
            match operation.kind {
                Kind::Ok => counts.ok += 1,
                Kind::Fail => counts.fail += 1,
                Kind::Info => counts.info += 1,
            }
        }
        counts
    }

    pub fn all(self) -> u64 {
        self.ok + self.fail + self.info
    }
}

/// How long things took. Each value is one that occurred (nearest rank).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: Nanos,
    pub(crate) p95: Nanos,
    pub(crate) p99: Nanos,
    pub(crate) max: Nanos,
}

impl Quantiles {
    /// `None` of nothing.
    pub(crate) fn of(times: impl IntoIterator<Item = Nanos>) -> Option<Quantiles> {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        let max = *times.last()?;
        let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Some(Quantiles { p50: rank(50), p95: rank(95), p99: rank(99), max })
    }
}

/// Who led in which term, as the ending and the samples know it.
pub(crate) fn leaders(history: &History) -> BTreeMap<u64, BTreeSet<MemberIndex>> {
    let mut leaders: BTreeMap<u64, BTreeSet<MemberIndex>> = BTreeMap::new();
    for (term, member) in &history.ending.leaders {
        leaders.entry(*term).or_default().insert(*member);
    }
    for sample in &history.samples {
        if let Some(state) = sample.state.as_ref().filter(|state| state.leads) {
            leaders.entry(state.term).or_default().insert(sample.member);
        }
    }
    leaders
}

/// Terms that had a leader, without the first.
pub(crate) fn leaders_lost(history: &History) -> u64 {
    leaders(history).len().saturating_sub(1) as u64
}

/// How long after its end the cluster took a write again; `None` when it did not in time.
pub(crate) fn recovery(fault: &Fault) -> Option<Nanos> {
    fault.recovered.map(|at| at.saturating_sub(fault.ended))
}

pub(crate) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// The last moment that the history knows of, or the run's length where that is later.
pub(crate) fn end(history: &History) -> Nanos {
    let steps = history.steps.iter().map(|step| step.ended);
    let calls = history.calls.iter().map(|call| call.ended);
    let faults = history.faults.iter().flat_map(|fault| [Some(fault.ended), fault.recovered]);
    let samples = history.samples.iter().map(|sample| sample.at);
    let all = steps.chain(calls).chain(faults.flatten()).chain(samples);
    all.chain([history.run.duration]).max().unwrap_or_default()
}

/// How long clients were at work, in seconds; never 0.
pub(crate) fn working_seconds(history: &History) -> f64 {
    let duration = match history.run.duration {
        0 => end(history),
        duration => duration,
    };
    seconds(duration.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(Quantiles::of([]), None);
        let one = Quantiles { p50: 7, p95: 7, p99: 7, max: 7 };
        assert_eq!(Quantiles::of([7]), Some(one));
        let hundred = Quantiles { p50: 50, p95: 95, p99: 99, max: 100 };
        assert_eq!(Quantiles::of((1..=100).rev()), Some(hundred));
    }

    #[test]
    fn the_gravest_verdict_is_that_of_the_run_and_no_check_is_no_pass() {
        let checked = |verdict| Checked { name: String::new(), verdict, checked: 1, notes: vec![] };
        let open = Verdict::Unknown("late".to_owned());
        let broken = Verdict::Violated("lost 3".to_owned());
        assert!(matches!(overall(&[]), Verdict::Unknown(_)));
        assert_eq!(overall(&[checked(Verdict::Valid)]), Verdict::Valid);
        assert_eq!(overall(&[checked(Verdict::Valid), checked(open.clone())]), open);
        let all = [checked(Verdict::Valid), checked(broken.clone()), checked(open)];
        assert_eq!(overall(&all), broken);
    }
}
