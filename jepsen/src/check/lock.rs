//! Locks: what was added under a lock is there in the end, once; and where a guard names the lock,
//! adds come in the order in which the lock was taken.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Step};

/// What whoever has the lock was told: its key in the store, and the revision that made it.
#[derive(Deserialize)]
struct Acquired {
    key: String,
    revision: i64,
}

/// What a guarded add answers: under which lock (the revision above), and its own revision.
#[derive(Clone, Copy, Deserialize)]
struct Guarded {
    lock: i64,
    revision: i64,
}

/// Adds that are guarded by the existence of the lock's key: nothing may be lost.
pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("lock");
    adds(history, &mut findings);
    order(history, &mut findings);
    acquisitions(history, &mut findings);
    findings.finish()
}

/// Adds that read and then write under a lock alone. A lock with a lease can't keep two from doing
/// so at once, so under pauses a violation is what is expected here.
pub fn check_unfenced(history: &History) -> Checked {
    let mut findings = Findings::new("lock, unfenced");
    adds(history, &mut findings);
    acquisitions(history, &mut findings);
    findings.finish()
}

/// Every acknowledged add is in each final read, none twice, and none that failed or never was.
fn adds(history: &History, findings: &mut Findings) {
    let mut added: BTreeMap<i64, &Step> = BTreeMap::new();
    for step in history.steps.iter().filter(|step| step.f == "add") {
        let Some(value) = findings.value(step) else { continue };
        if let Some(other) = added.insert(value, step) {
            findings.unknown(format!("two adds of {value}: {}, {}", show(other), show(step)));
        }
    }
    let is_last = |step: &&Step| step.f == "final-read" && step.kind == Kind::Ok;
    let mut last = history.steps.iter().filter(is_last).peekable();
    if last.peek().is_none() {
        findings.unknown("there is no final read".into());
    }
    for read in last {
        let Some(elements) = findings.result::<Vec<i64>>(read) else { continue };
        let mut seen = HashSet::new();
        for element in elements {
            findings.demand(seen.insert(element), || format!("{element} is there twice"));
            let is_possible = added.get(&element).is_some_and(|add| add.kind != Kind::Fail);
            findings.demand(is_possible, || match added.get(&element) {
                Some(add) => format!("{element} is there: {}", show(add)),
                None => format!("{element} is there, and nobody added it"),
            });
        }
        let acknowledged = |add: &Step| add.kind == Kind::Ok && add.ended < read.began;
        for (value, add) in added.iter().filter(|(_, add)| acknowledged(add)) {
            findings.looked_at(1);
            findings.demand(seen.contains(value), || format!("{value} is lost: {}", show(add)));
        }
    }
    let count = |kind| added.values().filter(|add| add.kind == kind).count();
    findings.note(format!(
        "{} adds acknowledged, {} refused, {} unknown",
        count(Kind::Ok),
        count(Kind::Fail),
        count(Kind::Info)
    ));
}

/// In the order of their own revisions, adds are under ever later locks: nobody adds any more when
/// somebody else has had the lock.
fn order(history: &History, findings: &mut Findings) {
    let mut guarded: Vec<(Guarded, &Step)> = Vec::new();
    for step in history.steps.iter().filter(|step| step.f == "add" && step.kind == Kind::Ok) {
        guarded.extend(findings.result::<Guarded>(step).map(|result| (result, step)));
    }
    guarded.sort_by_key(|(add, _)| add.revision);
    for pair in guarded.windows(2) {
        let ((before, first), (after, second)) = (pair[0], pair[1]);
        findings.demand(before.revision != after.revision, || {
            format!("two adds at one revision:\n  {}\n  {}", show(first), show(second))
        });
        findings.demand(before.lock <= after.lock, || {
            format!("an add under an older lock:\n  {}\n  {}", show(first), show(second))
        });
    }
    for (add, step) in guarded {
        findings.demand(add.lock < add.revision, || {
            format!("an add before its lock was taken: {}", show(step))
        });
    }
}

/// Locks that are different have different revisions, and whoever asked when another had the lock
/// already gets it under a later one.
fn acquisitions(history: &History, findings: &mut Findings) {
    let mut keys: HashMap<i64, (String, &Step)> = HashMap::new();
    let mut taken = Vec::new();
    for step in by_beginning(&history.steps) {
        if step.f != "acquire" || step.kind != Kind::Ok {
            continue;
        }
        let Some(acquired) = findings.result::<Acquired>(step) else { continue };
        let (key, by) =
            keys.entry(acquired.revision).or_insert_with(|| (acquired.key.clone(), step));
        findings.demand(*key == acquired.key, || {
            format!("two locks of one revision:\n  {}\n  {}", show(by), show(step))
        });
        taken.push((step, acquired.revision));
    }
    let mut by_end = taken.clone();
    by_end.sort_by_key(|(step, _)| step.ended);
    for (step, revision) in &taken {
        let known = by_end.partition_point(|(earlier, _)| earlier.ended < step.began);
        let greatest = by_end[..known].iter().max_by_key(|(_, revision)| revision);
        if let Some((earlier, _)) = greatest.filter(|(_, greatest)| greatest > revision) {
            let (earlier, step) = (show(earlier), show(step));
            findings
                .violated(format!("a lock older than one that was taken:\n  {earlier}\n  {step}"));
        }
    }
    findings.note(format!("the lock was taken {} times", taken.len()));
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::sketch::{
        fail, info, mutated, ok, sequence, simulate, unknown, valid, violated,
    };

    fn acquire(revision: i64) -> Step {
        let key = format!("lock/{revision}");
        ok("acquire", json!(null), json!({"key": key, "revision": revision}))
    }

    fn add(value: i64, lock: i64, revision: i64) -> Step {
        ok("add", json!(value), json!({"lock": lock, "revision": revision}))
    }

    fn release() -> Step {
        ok("release", json!(null), json!(null))
    }

    fn last(elements: Value) -> Step {
        ok("final-read", json!(null), elements)
    }

    fn some_history() -> Vec<Step> {
        vec![
            acquire(5),
            add(1, 5, 6),
            info("add", json!(2)),
            release(),
            acquire(8).by(1),
            add(3, 8, 10).by(1),
            fail("add", json!(4)),
            last(json!([3, 1])),
        ]
    }

    #[test]
    fn what_a_fenced_lock_does_is_valid() {
        valid(check(&sequence(some_history())));
        valid(check_unfenced(&sequence(some_history())));
        let mut steps = some_history();
        steps[7] = last(json!([1, 2, 3]));
        valid(check(&sequence(steps)));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |at: usize, step: Step, words: &str| {
            violated(check(&mutated(some_history(), at, step)), words);
        };
        check(7, last(json!([3])), "1 is lost");
        check(7, last(json!([3, 1, 3])), "3 is there twice");
        check(7, last(json!([3, 1, 4])), "4 is there: process 0");
        check(7, last(json!([3, 1, 9])), "nobody added it");
        check(1, add(1, 5, 11), "an add under an older lock");
        check(1, add(1, 5, 10), "two adds at one revision");
        check(5, add(3, 8, 7), "an add before its lock was taken");
        check(4, acquire(4), "a lock older than one that was taken");
        let two = ok("acquire", json!(null), json!({"key": "lock/other", "revision": 5}));
        check(4, two, "two locks of one revision");
    }

    #[test]
    fn random_guarded_adds_are_valid() {
        for seed in 0..50 {
            let asks = |random: &mut rand::rngs::StdRng, at: usize| match at {
                0..270 if random.random_bool(0.2) => ("acquire", None, json!(null)),
                0..270 => ("add", None, json!(at)),
                _ => ("final-read", None, json!(null)),
            };
            // The lock goes to whoever asks, and who had it finds its adds refused.
            let history = simulate::<(i64, Vec<i64>)>(seed, asks, |state, step, revision| {
                let (lock, elements) = state;
                match step.f.as_str() {
                    "acquire" => {
                        *lock = revision;
                        Some(json!({"key": format!("lock/{lock}"), "revision": lock}))
                    }
                    "add" if step.process % 3 > 0 && *lock > 0 => {
                        elements.extend(step.value.as_i64());
                        Some(json!({"lock": lock, "revision": revision}))
                    }
                    "add" => None,
                    _ => Some(json!(elements)),
                }
            });
            valid(check(&history));
        }
    }

    #[test]
    fn whoever_waited_for_the_lock_may_have_an_older_one() {
        let mut steps = some_history();
        steps[0] = acquire(9).at(1, 6);
        steps[1] = add(1, 9, 11);
        steps[4] = acquire(8).by(1).at(2, 5);
        let steps = [&steps[..1], &steps[4..6], &steps[1..2], &[last(json!([1, 3]))]].concat();
        valid(check(&sequence(steps)));
    }

    #[test]
    fn a_lost_update_without_a_fence_is_found() {
        let add = |value: i64| ok("add", json!(value), json!(null));
        let steps = vec![acquire(5), acquire(7).by(1), add(1), add(2).by(1), last(json!([2]))];
        violated(check_unfenced(&sequence(steps)), "1 is lost");
    }

    #[test]
    fn without_a_final_read_nothing_is_known() {
        let mut steps = some_history();
        steps.pop();
        unknown(check(&sequence(steps)), "no final read");
        unknown(check(&sequence(vec![last(json!([]))])), "nothing");
        let bare = vec![ok("add", json!(1), json!(null)), last(json!([1]))];
        unknown(check(&sequence(bare)), "result");
    }
}
