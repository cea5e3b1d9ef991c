//! Registers: reads, writes and compare-and-swaps of single keys are linearizable, by the order of
//! their times alone; and the versions that reads show grow with each modification, as etcd's do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Checked, Findings,
    findings::show,
    wgl::{Answer, Model, Proof, Timed, linearize},
};
use crate::history::{History, Kind, Step};

/// For all keys of a run together. A key of 300 operations takes milliseconds.
const LIMIT: Duration = Duration::from_secs(120);

/// No single key may have more than this of it.
const LIMIT_PER_KEY: Duration = Duration::from_secs(30);

/// Steps of the longest order, counted from its end, that a proof shows.
const SHOWN: usize = 12;

/// One register, absent at first.
#[derive(Clone, Debug)]
pub struct Register;

#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Read(Option<i64>),
    Write(i64),
    /// The value that it had and the value that it has then.
    Swap(i64, i64),
}

impl Model for Register {
    type Operation = Operation;
    type State = Option<i64>;

    fn initial(&self) -> Option<i64> {
        None
    }

    fn apply(&self, state: &Option<i64>, operation: &Operation) -> Option<Option<i64>> {
        match operation {
            Operation::Read(value) => (value == state).then_some(*state),
            Operation::Write(value) => Some(Some(*value)),
            Operation::Swap(old, new) => (*state == Some(*old)).then_some(Some(*new)),
        }
    }

    fn is_read(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Read(_) => true,
            Operation::Write(_) => false,
            Operation::Swap(old, new) => old == new,
        }
    }
}

/// What a read answers.
#[derive(Debug, Deserialize)]
struct Read {
    value: Option<i64>,
    version: i64,
    #[serde(rename = "mod")]
    modified: i64,
}

#[derive(Default)]
struct Key<'a> {
    operations: Vec<Timed<Operation>>,
    /// The step of each operation.
    steps: Vec<&'a Step>,
    reads: Vec<(Read, &'a Step)>,
}

pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("register");
    let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
    for step in &history.steps {
        if let Some(key) = findings.key(step) {
            take(step, keys.entry(key).or_default(), &mut findings);
        }
    }
    let began = Instant::now();
    for (name, key) in &mut keys {
        versions(name, &mut key.reads, &mut findings);
        let limit = LIMIT.saturating_sub(began.elapsed()).min(LIMIT_PER_KEY);
        match linearize(&Register, &key.operations, limit) {
            Answer::Linearizable => {}
            Answer::Unknown(reason) => findings.unknown(format!("{name}: {reason}")),
            Answer::Violated(proof) => findings.violated(say(name, &proof, &key.steps)),
        }
        findings.looked_at(key.operations.len());
    }
    let largest = keys.values().map(|key| key.operations.len()).max().unwrap_or(0);
    findings.note(format!("{} keys, at most {largest} operations each", keys.len()));
    findings.finish()
}

/// Puts a step with its key, unless it had no effect and told nothing.
fn take<'a>(step: &'a Step, key: &mut Key<'a>, findings: &mut Findings) {
    let operation = match (step.f.as_str(), step.kind) {
        (_, Kind::Fail) | ("read", Kind::Info) => None,
        ("read", Kind::Ok) => findings.result::<Read>(step).map(|read| {
            let value = read.value;
            key.reads.push((read, step));
            Operation::Read(value)
        }),
        ("write", Kind::Ok | Kind::Info) => findings.value(step).map(Operation::Write),
        ("cas", Kind::Ok | Kind::Info) => {
            findings.value(step).map(|(old, new)| Operation::Swap(old, new))
        }
        _ => {
            findings.stranger(step);
            None
        }
    };
    if let Some(operation) = operation {
        let ended = (step.kind == Kind::Ok).then_some(step.ended);
        key.operations.push(Timed { operation, began: step.began, ended });
        key.steps.push(step);
    }
}

/// Reads of one modification are equal; a later modification has a greater version, by no more than
/// there were revisions between.
fn versions(name: &str, reads: &mut [(Read, &Step)], findings: &mut Findings) {
    reads.sort_by_key(|(read, step)| (read.modified, step.began));
    for pair in reads.windows(2) {
        let ((before, first), (after, second)) = (&pair[0], &pair[1]);
        let holds = if before.modified == after.modified {
            before.version == after.version && before.value == after.value
        } else {
            let grown = after.version - before.version;
            grown > 0 && grown <= after.modified - before.modified
        };
        findings.demand(holds, || {
            format!("{name}: versions don't fit:\n  {}\n  {}", show(first), show(second))
        });
    }
}

fn say(name: &str, proof: &Proof, steps: &[&Step]) -> String {
    let hidden = proof.longest.len().saturating_sub(SHOWN);
    let mut lines = vec![format!(
        "{name} is not linearizable: {} of {} operations can be put in order, the last of them",
        proof.longest.len(),
        steps.len()
    )];
    lines.extend(proof.longest[hidden..].iter().map(|at| format!("  {}", show(steps[*at]))));
    lines.push(format!("after which the register is {}, and there can't come", proof.state));
    lines.push(format!("  {}", show(steps[proof.stuck])));
    let others: Vec<&usize> = proof.next.iter().filter(|at| **at != proof.stuck).collect();
    if !others.is_empty() {
        lines.push("nor anything that was under way with it and leads further:".into());
        lines.extend(others.iter().map(|at| format!("  {}", show(steps[**at]))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check::sketch::{fail, info, mutated, ok, sequence, unknown, valid, violated};

    fn read(value: Value, version: i64, modified: i64) -> Step {
        let result = json!({"value": value, "version": version, "mod": modified});
        ok("read", json!(null), result).of("r1")
    }

    fn write(value: i64) -> Step {
        ok("write", json!(value), json!(null)).of("r1")
    }

    fn cas(old: i64, new: i64) -> Step {
        ok("cas", json!([old, new]), json!(null)).of("r1")
    }

    fn some_history() -> Vec<Step> {
        vec![
            read(json!(null), 0, 0),
            write(3),
            read(json!(3), 1, 2),
            cas(3, 4),
            fail("cas", json!([3, 1])).of("r1"),
            read(json!(4), 2, 7),
            write(3),
            read(json!(3), 3, 9),
        ]
    }

    #[test]
    fn what_a_register_does_is_valid() {
        valid(check(&sequence(some_history())));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |at: usize, step: Step, words: &str| {
            violated(super::check(&mutated(some_history(), at, step)), words);
        };
        check(5, read(json!(3), 1, 2), "there can't come"); // stale
        check(5, read(json!(1), 2, 7), "there can't come"); // a failed swap showed
        check(7, read(json!(0), 3, 9), "there can't come"); // never written
        check(7, read(json!(null), 0, 0), "there can't come"); // lost
        check(3, cas(2, 4), "there can't come"); // compared wrongly
        check(7, read(json!(3), 2, 9), "versions don't fit");
        check(7, read(json!(3), 5, 9), "versions don't fit");
        check(7, read(json!(3), 2, 7), "versions don't fit");
    }

    #[test]
    fn swapped_acknowledgements_are_found_and_named() {
        let mut steps = some_history();
        steps.swap(1, 3);
        violated(check(&sequence(steps)), "r1 is not linearizable: 1 of 7");
    }

    #[test]
    fn a_write_of_unknown_outcome_may_come_late_or_never_but_not_twice() {
        let late = |mut rest: Vec<Step>| {
            let mut steps = vec![write(1), info("write", json!(2)).of("r1").by(1)];
            steps.append(&mut rest);
            check(&sequence(steps))
        };
        valid(late(vec![read(json!(1), 1, 2), read(json!(2), 2, 3)]));
        valid(late(vec![read(json!(1), 1, 2), read(json!(1), 1, 2)]));
        let twice = vec![read(json!(2), 2, 3), write(1), read(json!(2), 4, 5)];
        violated(late(twice), "there can't come");
    }

    #[test]
    fn keys_are_apart_and_a_violation_names_its_key() {
        let mut steps = some_history();
        steps.push(Step { key: Some("r2".into()), ..read(json!(7), 1, 4) });
        violated(check(&sequence(steps)), "r2 is not linearizable: 0 of 1");
    }

    #[test]
    fn what_is_no_register_is_unknown() {
        unknown(check(&sequence(vec![ok("pop", json!(null), json!(1)).of("r1")])), "pop");
        unknown(check(&sequence(vec![ok("read", json!(null), json!(1)).of("r1")])), "result");
        unknown(check(&sequence(vec![fail("write", json!(1)).of("r1")])), "nothing");
    }
}
