//! Availability and latency as Cosmos DB's service level agreement computes them.
//!
//! Of each hour: error rate = failed / total requests, 0 where there were none; requests that were
//! refused for what they asked do not count. Availability is 100 % less the mean of the error rates
//! of all hours. Latency: an hour whose P99 (nearest rank, of the requests that succeeded) is not
//! below the objective is excessive; attainment is the share of the others. An hour is too coarse
//! for a drill, so the same is computed for minutes, and said to be of minutes.

use serde::Serialize;

use super::probe::{Outcome, Probe};

pub(crate) const NANOS: u64 = 1_000_000_000;

/// Counts of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) excluded: u64,
}

impl Tally {
    pub(crate) fn of<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Tally {
        let mut tally = Tally::default();
        probes.into_iter().for_each(|probe| tally.add(probe));
        tally
    }

    fn add(&mut self, probe: &Probe) {
        match probe.outcome {
            Outcome::Done => self.done += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Excluded => self.excluded += 1,
        }
    }

    /// The requests that count.
    pub(crate) fn total(&self) -> u64 {
        self.done + self.failed
    }

    /// From 0 to 1.
    pub(crate) fn error_rate(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            total => self.failed as f64 / total as f64,
        }
    }
}

/// The requests of one window of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Window {
    /// Seconds since the run began.
    pub(crate) from: f64,
    pub(crate) tally: Tally,
    /// Of those that succeeded, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<u64>,
}

/// All windows of `seconds` each from the beginning to `end` (nanoseconds), empty ones among them.
/// A request belongs to the window in which it was due.
pub(crate) fn windows<'a>(
    probes: impl IntoIterator<Item = &'a Probe>,
    seconds: u64,
    end: u64,
) -> Vec<Window> {
    let length = seconds.max(1) * NANOS;
    let mut windows = vec![(Tally::default(), Vec::new()); end.div_ceil(length).max(1) as usize];
    for probe in probes {
        let place = (probe.due / length) as usize;
        let Some((tally, took)) = windows.get_mut(place) else { continue };
        tally.add(probe);
        if probe.is_done() {
            took.push(probe.took());
        }
    }
    let seconds = |place: usize| place as f64 * length as f64 / NANOS as f64;
    let finish = |(place, (tally, mut took)): (usize, (Tally, Vec<u64>))| {
        took.sort_unstable();
        let (p50, p99) = (nearest_rank(&took, 0.50), nearest_rank(&took, 0.99));
        Window { from: seconds(place), tally, p50, p99 }
    };
    windows.into_iter().enumerate().map(finish).collect()
}

/// The value whose ordinal rank is `share` of how many there are.
pub(crate) fn nearest_rank(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Per cent: 100 less the mean error rate of the windows.
pub(crate) fn availability(windows: &[Window]) -> f64 {
    let rates: f64 = windows.iter().map(|window| window.tally.error_rate()).sum();
    100.0 * (1.0 - rates / windows.len().max(1) as f64)
}

/// Per cent of the windows whose P99 is below `objective` (nanoseconds); one in which nothing
/// succeeded has none, and does not count.
pub(crate) fn attainment(windows: &[Window], objective: u64) -> Option<f64> {
    let measured: Vec<u64> = windows.iter().filter_map(|window| window.p99).collect();
    let kept = measured.iter().filter(|p99| **p99 < objective).count();
    (!measured.is_empty()).then(|| 100.0 * kept as f64 / measured.len() as f64)
}

/// The greatest rate of failure (0 to 1) that leaves `failed` or fewer of `total` requests a chance
/// of one in twenty: 3/n when none failed. Failures are taken for independent, as Poisson has them.
pub(crate) fn failure_rate_bound(failed: u64, total: u64) -> Option<f64> {
    const CHANCE: f64 = 0.05;
    if total == 0 {
        return None;
    }
    let (mut low, mut high) = (0.0, failed as f64 + 10.0 + 4.0 * (failed as f64).sqrt());
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if poisson_at_most(failed, middle) > CHANCE { low = middle } else { high = middle }
    }
    Some((high / total as f64).min(1.0))
}

/// The chance that `count` or fewer happen where `mean` are expected.
fn poisson_at_most(count: u64, mean: f64) -> f64 {
    // In logarithms, since e^-mean alone would be 0 for many failures.
    let (mut logarithm, mut sum) = (-mean, (-mean).exp());
    for happened in 1..=count {
        logarithm += (mean / happened as f64).ln();
        sum += logarithm.exp();
    }
    sum
}

/// The longest time without a success that touches the time from `from` to `until`: from the
/// success before it (or the beginning) to the one after (or `end`). `done` are the times at which
/// requests succeeded, in order; all in nanoseconds.
pub(crate) fn longest_gap(done: &[u64], (from, until): (u64, u64), end: u64) -> u64 {
    let first = done.partition_point(|at| *at < from);
    let last = done.partition_point(|at| *at <= until);
    let before = first.checked_sub(1).map_or(0, |place| done[place]);
    let after = done.get(last).copied().unwrap_or(end.max(until));
    let inside = done[first..last.max(first)].iter().copied();
    let times: Vec<u64> = [before].into_iter().chain(inside).chain([after]).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sla::probe::Act;

    fn probe(due: u64, took: u64, outcome: Outcome) -> Probe {
        Probe {
            region: 0,
            act: Act::Write,
            key: 0,
            due,
            sent: due,
            ended: due + took,
            outcome,
            counter: None,
            revision: None,
            token: None,
            error: None,
        }
    }

    #[test]
    fn an_hour_without_requests_has_no_errors() {
        let minute = 60 * NANOS;
        let probes = [probe(0, 5, Outcome::Done), probe(1, 5, Outcome::Failed)];
        let windows = windows(&probes, 60, 2 * minute);
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].tally.error_rate(), 0.5);
        assert_eq!(windows[1].tally.error_rate(), 0.0);
        assert_eq!(availability(&windows), 75.0);
    }

    #[test]
    fn what_was_refused_for_what_it_asked_does_not_count() {
        let probes = [probe(0, 5, Outcome::Done), probe(1, 5, Outcome::Excluded)];
        let windows = windows(&probes, 60, NANOS);
        assert_eq!(windows[0].tally, Tally { done: 1, failed: 0, excluded: 1 });
        assert_eq!(availability(&windows), 100.0);
    }

    #[test]
    fn the_rank_is_the_nearest_one_above() {
        let hundred: Vec<u64> = (1..=100).collect();
        for (values, share, wanted) in [
            (&hundred[..], 0.99, Some(99)),
            (&hundred[..], 0.5, Some(50)),
            (&hundred[..10], 0.99, Some(10)),
            (&hundred[..1], 0.5, Some(1)),
            (&hundred[..0], 0.99, None),
        ] {
            assert_eq!(nearest_rank(values, share), wanted, "{share} of {}", values.len());
        }
    }

    #[test]
    fn a_window_with_a_slow_tail_is_excessive() {
        let minute = 60 * NANOS;
        let mut probes: Vec<Probe> = (0..100).map(|at| probe(at, 5, Outcome::Done)).collect();
        probes.extend((0..50).map(|at| probe(minute + at, 50, Outcome::Done)));
        let windows = windows(&probes, 60, 3 * minute);
        assert_eq!(attainment(&windows, 10), Some(50.0));
        assert_eq!(attainment(&windows[2..], 10), None);
    }

    #[test]
    fn no_failure_in_n_bounds_the_rate_at_three_in_n() {
        let bound = failure_rate_bound(0, 300_000).expect("there were requests");
        assert!((bound * 300_000.0 - 2.9957).abs() < 1e-3, "{bound}");
        // The upper 95 % bounds of a Poisson mean, from tables.
        for (failed, mean) in [(1, 4.744), (5, 10.513), (100, 118.08)] {
            let bound = failure_rate_bound(failed, 1_000_000).expect("there were requests");
            assert!((bound * 1e6 - mean).abs() < 0.01, "{failed}: {}", bound * 1e6);
        }
        assert_eq!(failure_rate_bound(0, 0), None);
        assert_eq!(failure_rate_bound(2, 2), Some(1.0));
    }

    #[test]
    fn a_gap_lies_between_the_successes_around_it() {
        for (done, fault, wanted) in [
            (&[10, 20, 30, 90, 100][..], (25, 60), 60),
            // The fault ends while nothing works yet.
            (&[10, 20, 90], (15, 30), 70),
            // It never came back, or never worked.
            (&[10], (5, 50), 190),
            (&[], (5, 50), 200),
            // Nothing happened.
            (&[10, 11, 12, 13], (11, 12), 1),
        ] {
            assert_eq!(longest_gap(done, fault, 200), wanted, "{done:?} {fault:?}");
        }
    }
}
