//! Sets: every acknowledged add is in every read that began after the acknowledgement, once; and
//! nothing is in a read that nobody had begun to add, or whose add failed.

use std::collections::{BTreeMap, HashSet};

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Nanos, Step};

/// What became of one element.
struct Element<'a> {
    add: &'a Step,
    /// From when on it is certainly in the set: its acknowledgement, or the end of the first read
    /// that had it.
    known_from: Option<Nanos>,
    /// Where the acknowledgement, or that read, is.
    known_by: Option<&'a Step>,
    /// The last read that lacks it although it began later than that.
    lacking: Option<&'a Step>,
    /// The beginning of the last read that has it.
    last_seen: Option<Nanos>,
}

struct Read<'a> {
    step: &'a Step,
    elements: HashSet<i64>,
}

pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("set");
    let mut elements = BTreeMap::new();
    let mut reads = Vec::new();
    for step in by_beginning(&history.steps) {
        match (step.f.as_str(), step.kind) {
            ("add", _) => add(step, &mut elements, &mut findings),
            ("read" | "final-read", Kind::Ok) => reads.extend(read(step, &mut findings)),
            ("read" | "final-read", Kind::Fail | Kind::Info) => {}
            _ => findings.stranger(step),
        }
    }
    for read in &reads {
        see(read, &mut elements, &mut findings);
    }
    for read in &reads {
        miss(read, &mut elements);
    }
    judge(&elements, &reads, &mut findings);
    findings.finish()
}

fn add<'a>(step: &'a Step, elements: &mut BTreeMap<i64, Element<'a>>, findings: &mut Findings) {
    let Some(value) = findings.value::<i64>(step) else { return };
    let is_known = step.kind == Kind::Ok;
    let element = Element {
        add: step,
        known_from: is_known.then_some(step.ended),
        known_by: is_known.then_some(step),
        lacking: None,
        last_seen: None,
    };
    if let Some(other) = elements.insert(value, element) {
        let other = show(other.add);
        findings.unknown(format!("two adds of {value}: {other}, {}", show(step)));
    }
}

/// The elements that were read; twice the same is a violation already.
fn read<'a>(step: &'a Step, findings: &mut Findings) -> Option<Read<'a>> {
    let listed: Vec<i64> = findings.result(step)?;
    findings.looked_at(1);
    let mut elements = HashSet::new();
    for element in listed {
        findings.demand(elements.insert(element), || {
            format!("duplicated: {element} is twice in a read: {}", head(step))
        });
    }
    Some(Read { step, elements })
}

/// Learns from a read what is in the set, and finds what can't be.
fn see<'a>(read: &Read<'a>, elements: &mut BTreeMap<i64, Element<'a>>, findings: &mut Findings) {
    for value in &read.elements {
        let Some(element) = elements.get_mut(value) else {
            findings.violated(format!("unexpected: nobody added {value}: {}", head(read.step)));
            continue;
        };
        let could_be = element.add.kind != Kind::Fail && element.add.began <= read.step.ended;
        findings.demand(could_be, || {
            let add = show(element.add);
            format!("unexpected: {value} was read in\n  {}\nbut {add}", head(read.step))
        });
        element.last_seen = element.last_seen.max(Some(read.step.began));
        if element.known_from.is_none_or(|at| at > read.step.ended) {
            element.known_from = Some(read.step.ended);
            element.known_by = Some(read.step);
        }
    }
}

fn miss<'a>(read: &Read<'a>, elements: &mut BTreeMap<i64, Element<'a>>) {
    for (value, element) in elements {
        let is_due = element.known_from.is_some_and(|at| at < read.step.began);
        if is_due && !read.elements.contains(value) {
            element.lacking = Some(read.step);
        }
    }
}

fn judge(elements: &BTreeMap<i64, Element<'_>>, reads: &[Read<'_>], findings: &mut Findings) {
    let last_read = reads.iter().map(|read| read.step.began).max();
    let mut never_read = 0;
    for (value, element) in elements {
        if let (Some(lacking), Some(known_by)) = (element.lacking, element.known_by) {
            let came_back = element.last_seen.is_some_and(|at| at > lacking.began);
            let word = if came_back { "stale" } else { "lost" };
            let (known_by, lacking) = (head(known_by), head(lacking));
            findings.violated(format!(
                "{word}: {value} was there by\n  {known_by}\nbut not in\n  {lacking}"
            ));
        }
        let acknowledged = (element.add.kind == Kind::Ok).then_some(element.add.ended);
        if acknowledged.is_some_and(|at| last_read.is_none_or(|read| read <= at)) {
            never_read += 1;
        }
    }
    if never_read > 0 {
        findings.unknown(format!("nobody read after {never_read} acknowledged adds"));
    }
    let count = |kind| elements.values().filter(|element| element.add.kind == kind).count();
    let unknown = elements.values().filter(|element| element.add.kind == Kind::Info);
    let seen = unknown.filter(|element| element.last_seen.is_some()).count();
    findings.note(format!(
        "{} adds acknowledged, {} failed, {} unknown of which {seen} were read later",
        count(Kind::Ok),
        count(Kind::Fail),
        count(Kind::Info)
    ));
}

/// A step without the elements that it read, which may be thousands.
fn head(step: &Step) -> String {
    match step.result.as_array() {
        Some(elements) => {
            show(&Step { result: format!("{} elements", elements.len()).into(), ..step.clone() })
        }
        None => show(step),
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use serde_json::json;

    use super::*;
    use crate::check::sketch::{fail, info, ok, sequence, simulate, unknown, valid, violated};

    fn add(value: i64) -> Step {
        ok("add", json!(value), json!(null))
    }

    fn read(elements: &[i64]) -> Step {
        ok("read", json!(null), json!(elements))
    }

    fn some_history(last: &[i64]) -> History {
        sequence(vec![
            add(1),
            read(&[1]),
            info("add", json!(2)),
            fail("add", json!(3)),
            info("add", json!(4)),
            read(&[1, 2]),
            add(5),
            ok("final-read", json!(null), json!(last)),
        ])
    }

    #[test]
    fn adds_of_unknown_outcome_may_be_there_or_not() {
        valid(check(&some_history(&[5, 1, 2])));
        valid(check(&some_history(&[2, 1, 4, 5])));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |last: &[i64], words: &str| violated(check(&some_history(last)), words);
        check(&[1, 2], "lost: 5");
        check(&[1, 5], "lost: 2"); // of unknown outcome, but it had been read
        check(&[1, 2, 5, 3], "unexpected: 3");
        check(&[1, 2, 5, 99], "unexpected: nobody added 99");
        check(&[1, 2, 5, 5], "duplicated: 5");
    }

    #[test]
    fn random_sets_are_valid_and_any_element_that_is_taken_out_is_missed() {
        for seed in 0..100 {
            let mut history = simulate::<Vec<i64>>(
                seed,
                |random, at| match (random.random_bool(0.7), at) {
                    (true, 0..280) => ("add", None, json!(at)),
                    _ => ("read", None, json!(null)),
                },
                |set, step, _| {
                    set.extend(step.value.as_i64());
                    Some(json!(set))
                },
            );
            valid(check(&history));
            let last = history.steps.iter_mut().rfind(|step| step.f == "read").unwrap();
            let elements = last.result.as_array_mut().unwrap();
            elements.remove(seed as usize % 100);
            violated(check(&history), "but not in");
        }
    }

    #[test]
    fn a_stale_read_is_told_from_a_lost_add() {
        violated(check(&sequence(vec![add(1), read(&[]), read(&[1])])), "stale: 1");
        violated(check(&sequence(vec![add(1), read(&[1]), read(&[])])), "lost: 1");
    }

    #[test]
    fn a_read_that_was_under_way_may_lack_it() {
        valid(check(&sequence(vec![add(1).at(1, 5), read(&[]).at(3, 9), read(&[1]).at(6, 9)])));
        violated(
            check(&sequence(vec![add(1).at(1, 5), read(&[]).at(6, 9), read(&[1]).at(6, 9)])),
            "lost: 1",
        );
    }

    #[test]
    fn a_read_shows_nothing_from_the_future() {
        violated(check(&sequence(vec![read(&[1]), add(1), read(&[1])])), "unexpected: 1");
    }

    #[test]
    fn without_a_read_in_the_end_nothing_is_known() {
        unknown(check(&sequence(vec![read(&[]), add(1)])), "nobody read after 1");
        unknown(check(&sequence(vec![add(1), add(1), read(&[1])])), "two adds of 1");
        unknown(check(&sequence(vec![])), "nothing");
    }
}
