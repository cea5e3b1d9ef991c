//! Three members under faults, from many seeds.
//!
//! `ORRERY_SIM_SEED=7` runs one seed and prints all that happens; `ORRERY_SIM_SEEDS=2000` runs so
//! many, from `ORRERY_SIM_FROM` on. `ORRERY_SIM_LOG=orrery=debug` prints the members' logs with the
//! one seed.

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    coverage::Coverage,
    lies::Lie,
    machine::Broken,
    world::{Finding, run},
};

const SEEDS: u64 = 200;

/// Lines of a run that failed that are shown; the seed shows them all.
const LINES_SHOWN: usize = 30;

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// Runs seeds on every core until one is wrong; coverage of all, and what was found.
fn run_all(from: u64, count: u64) -> (Vec<Coverage>, Vec<(u64, Finding)>) {
    let (next, covered, findings) =
        (AtomicU64::new(from), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while findings.lock().unwrap().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    match run(seed, Broken::Not) {
                        Ok(report) => covered.lock().unwrap().push(report.coverage),
                        Err(finding) => findings.lock().unwrap().push((seed, finding)),
                    }
                }
            });
        }
    });
    (covered.into_inner().unwrap(), findings.into_inner().unwrap())
}

fn show(seed: u64, finding: &Finding) {
    let skipped = finding.trace.len().saturating_sub(LINES_SHOWN);
    for line in &finding.trace[skipped..] {
        eprintln!("{line}");
    }
    eprintln!("seed {seed}: {}", finding.what);
    eprintln!("again, with all that happens: make simulate SEED={seed}");
}

#[test]
fn three_members_under_faults_keep_every_promise() {
    if let Some(seed) = number("ORRERY_SIM_SEED") {
        if let Ok(filter) = env::var("ORRERY_SIM_LOG") {
            let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
            log.with_ansi(false).init();
        }
        let (trace, end) = match run(seed, Broken::Not) {
            Ok(report) => (report.trace, Ok(report.coverage)),
            Err(finding) => (finding.trace, Err(finding.what)),
        };
        trace.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("{:?}", end.unwrap());
        return;
    }
    let count = number("ORRERY_SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("ORRERY_SIM_FROM").unwrap_or(1);
    let begin = Instant::now();
    let (covered, findings) = run_all(from, count);
    for (seed, finding) in &findings {
        show(*seed, finding);
    }
    let total = covered.iter().copied().reduce(Coverage::plus).unwrap_or_default();
    let effective = covered.iter().filter(|coverage| coverage.is_effective()).count();
    eprintln!(
        "{} seeds in {:?}, {effective} with effect: {total:?}",
        covered.len(),
        begin.elapsed()
    );
    let seeds: Vec<u64> = findings.iter().map(|(seed, _)| *seed).collect();
    assert!(seeds.is_empty(), "findings at seeds {seeds:?}");
    assert!(effective * 4 >= covered.len() * 3, "the faults did too little");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=20 {
        let (one, other) = (run(seed, Broken::Not), run(seed, Broken::Not));
        let (one, other) = (trace(&one), trace(&other));
        let differs = one.iter().zip(other).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!("seed {seed} differs: {} and {}", one[at], other[at]);
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

fn trace(outcome: &Result<super::world::Report, Finding>) -> &[String] {
    match outcome {
        Ok(report) => &report.trace,
        Err(finding) => &finding.trace,
    }
}

/// Whether one of the first seeds finds that the build is broken, and by what.
#[track_caller]
fn check_found(broken: Broken, seeds: u64) {
    check_found_by(broken, seeds, "");
}

/// The same, by what the words of a complaint begin with.
#[track_caller]
fn check_found_by(broken: Broken, seeds: u64, words: &str) {
    for seed in 1..=seeds {
        if let Err(finding) = run(seed, broken)
            && finding.what.starts_with(words)
        {
            eprintln!("{broken:?} is found by seed {seed}: {:.300}", finding.what);
            return;
        }
    }
    panic!("{broken:?} is not found by {seeds} seeds");
}

#[test]
fn a_member_that_forgets_its_vote_is_found() {
    check_found(Broken::VoteForgotten, 20);
}

#[test]
fn a_leader_that_asks_no_quorum_is_found() {
    check_found(Broken::Flattered(Lie::Stored), 20);
}

#[test]
fn a_successor_that_asks_nobody_is_found() {
    check_found(Broken::Flattered(Lie::Elected), 60);
}

#[test]
fn a_leader_that_reads_unconfirmed_is_found() {
    check_found(Broken::Flattered(Lie::Confirmed), 60);
}

#[test]
fn a_log_that_is_not_synced_is_found() {
    check_found(Broken::NoSync, 20);
}

#[test]
fn a_round_that_is_answered_with_what_was_true_before_it_is_found_by_bounded_reads() {
    check_found_by(Broken::Flattered(Lie::Echoed), 20, "too old:");
}

/// For all runs of the process, so it is run alone: `cargo test --release --features failpoints
/// --test simulation stamps_rounds_late`.
#[cfg(feature = "failpoints")]
#[test]
#[ignore = "breaks what the others test"]
fn a_beacon_that_stamps_rounds_late_is_found_by_bounded_reads() {
    fail::cfg("freshness-stamped-late", "return").unwrap();
    check_found_by(Broken::Not, 100, "too old:");
}
