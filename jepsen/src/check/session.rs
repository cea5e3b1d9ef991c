//! Sessions: what one client sees, one thing after the other. It reads its own writes and never
//! goes back; and a member that it reads from without a quorum never goes back either.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, MemberIndex, Nanos, Process, Step};

/// Faults in which a member may come back with less applied than it had: what it had answered
/// without a quorum is no promise. A name has one of these words.
const RESTARTS: &[&str] = &["kill", "power", "stop", "disk", "corrupt", "rolling", "member"];

/// One client's view of one key.
#[derive(Default)]
struct View<'a> {
    /// What it may not read less than, and which step says so.
    floor: Option<(i64, &'a Step)>,
}

/// Steps "write" and "read" of keys whose values only grow in the store: a write of unknown outcome
/// must not come late over a greater value.
pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("session");
    let mut views: HashMap<(Process, &str), View<'_>> = HashMap::new();
    let mut written: HashMap<(&str, i64), Nanos> = HashMap::new();
    let steps = by_beginning(&history.steps);
    for step in steps.iter().filter(|step| step.f == "write" && step.kind != Kind::Fail) {
        if let (Some(key), Some(value)) = (findings.key(step), findings.value(step)) {
            written.entry((key, value)).or_insert(step.began);
        }
    }
    for step in steps {
        let Some(key) = findings.key(step) else { continue };
        let view = views.entry((step.process, key)).or_default();
        match (step.f.as_str(), step.kind) {
            ("write", Kind::Ok) => view.write(step, &mut findings),
            ("read", Kind::Ok) => {
                let Some(value) = findings.result::<Option<i64>>(step) else { continue };
                view.read(value, step, &mut findings);
                let is_real = value.is_none_or(|value| {
                    written.get(&(key, value)).is_some_and(|began| *began <= step.ended)
                });
                findings.demand(is_real, || {
                    format!("nobody had begun to write what was read: {}", show(step))
                });
            }
            ("read" | "write", Kind::Fail | Kind::Info) => {}
            _ => findings.stranger(step),
        }
    }
    findings.note(format!("{} views of a key by a process", views.len()));
    findings.finish()
}

impl<'a> View<'a> {
    fn write(&mut self, step: &'a Step, findings: &mut Findings) {
        let Some(value) = findings.value(step) else { return };
        if let Some((floor, by)) = self.floor
            && floor > value
        {
            let by = show(by);
            findings.unknown(format!("values don't grow: {by}, then {}", show(step)));
        }
        self.floor = Some((value, step));
    }

    fn read(&mut self, value: Option<i64>, step: &'a Step, findings: &mut Findings) {
        findings.looked_at(1);
        match (self.floor, value) {
            (Some((floor, by)), value) if value.is_none_or(|value| value < floor) => {
                let word =
                    if by.f == "write" { "its own write is not read" } else { "back in time" };
                findings.violated(format!("{word}:\n  {}\n  {}", show(by), show(step)));
            }
            (_, Some(value)) => self.floor = Some((value, step)),
            (_, None) => {}
        }
    }
}

/// What a read without a quorum answers.
#[derive(Clone, Copy, Deserialize)]
struct Local {
    #[serde(rename = "mod")]
    modified: i64,
    revision: i64,
}

/// Serializable reads: by one connection to one member, the revision never decreases. Values are
/// compared with the whole history elsewhere.
pub fn check_serializable(history: &History) -> Checked {
    let mut findings = Findings::new("serializable");
    let mut last: BTreeMap<(Process, MemberIndex), (Local, &Step)> = BTreeMap::new();
    let mut restarts = 0;
    for step in by_beginning(&history.steps) {
        let connection = (step.process, step.member);
        if step.kind != Kind::Ok {
            last.remove(&connection); // it may be another connection from here on
            continue;
        }
        if step.f != "read" {
            continue;
        }
        let Some(read) = findings.result::<Local>(step) else { continue };
        findings.looked_at(1);
        findings.demand(read.modified <= read.revision, || {
            format!("a value from the future of its own answer: {}", show(step))
        });
        if let Some((before, earlier)) = last.insert(connection, (read, step))
            && before.revision > read.revision
        {
            if may_have_restarted(history, earlier, step) {
                restarts += 1;
            } else {
                let (earlier, step) = (show(earlier), show(step));
                findings.violated(format!("a member went back in time:\n  {earlier}\n  {step}"));
            }
        }
    }
    findings.note(format!("{restarts} times a member had less after it came back"));
    findings.finish()
}

fn may_have_restarted(history: &History, earlier: &Step, later: &Step) -> bool {
    history.faults.iter().any(|fault| {
        let is_hit = fault.members.is_empty() || fault.members.contains(&later.member);
        let is_between = fault.began <= later.ended && fault.ended >= earlier.began;
        is_hit && is_between && RESTARTS.iter().any(|word| fault.name.contains(word))
    })
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use serde_json::json;

    use super::*;
    use crate::check::{
        Verdict,
        sketch::{fail, fault, info, mutated, ok, sequence, simulate, unknown, valid, violated},
    };

    fn write(value: i64) -> Step {
        ok("write", json!(value), json!(null)).of("s1")
    }

    fn read(value: i64) -> Step {
        ok("read", json!(null), json!(value)).of("s1")
    }

    fn local(modified: i64, revision: i64) -> Step {
        let result = json!({"value": 1, "mod": modified, "revision": revision});
        ok("read", json!(null), result).of("s1")
    }

    fn some_history() -> Vec<Step> {
        vec![
            ok("read", json!(null), json!(null)).of("s1"),
            write(1),
            read(1),
            write(2).by(1),
            read(1).by(2),
            read(2),
            info("write", json!(3)).of("s1").by(1),
            read(2),
            read(3),
            fail("write", json!(4)).of("s1"),
            read(3),
        ]
    }

    #[test]
    fn what_a_session_sees_is_valid() {
        valid(check(&sequence(some_history())));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |at: usize, step: Step, words: &str| {
            violated(check(&mutated(some_history(), at, step)), words);
        };
        check(2, ok("read", json!(null), json!(null)).of("s1"), "its own write is not read");
        check(7, read(1), "back in time");
        check(10, read(2), "back in time");
        check(10, read(4), "nobody had begun");
        check(10, read(99), "nobody had begun");
        check(0, read(1), "nobody had begun");
        check(3, read(1).by(1), "nobody had begun"); // 2 is written by nobody then
    }

    #[test]
    fn random_sessions_are_valid_and_a_member_behind_is_found() {
        let mut found = 0;
        for seed in 0..50 {
            let run = |lag: usize| {
                let asks = |random: &mut rand::rngs::StdRng, at| match random.random_bool(0.4) {
                    true => ("write", Some("s1".into()), json!(at)),
                    false => ("read", Some("s1".into()), json!(null)),
                };
                // Writes of less than there is are refused, so that late ones do no harm. Some
                // members read from further back than others.
                simulate::<Vec<i64>>(seed, asks, |values, step, at| match step.value.as_i64() {
                    Some(value) if values.last().is_some_and(|last| *last > value) => None,
                    Some(value) => {
                        values.push(value);
                        Some(json!(null))
                    }
                    None => Some(json!(values.iter().rev().nth(at as usize % 2 * lag))),
                })
            };
            valid(check(&run(0)));
            found += usize::from(matches!(check(&run(9)).verdict, Verdict::Violated(_)));
        }
        assert_eq!(found, 50);
    }

    #[test]
    fn values_that_do_not_grow_decide_nothing() {
        unknown(check(&sequence(vec![write(2), write(1), read(1)])), "values don't grow");
        unknown(check(&sequence(vec![ok("read", json!(null), json!(1))])), "no key");
        unknown(check(&sequence(vec![write(2)])), "nothing");
    }

    #[test]
    fn a_member_never_goes_back_for_one_who_stays_connected() {
        valid(check_serializable(&sequence(vec![local(3, 5), local(3, 5), local(6, 7)])));
        valid(check_serializable(&sequence(vec![local(3, 5), local(3, 4).by(1)])));
        violated(check_serializable(&sequence(vec![local(3, 5), local(3, 4)])), "went back");
        violated(check_serializable(&sequence(vec![local(6, 5)])), "future");
        unknown(check_serializable(&sequence(vec![])), "nothing");
    }

    #[test]
    fn a_member_may_have_less_after_a_restart_but_not_after_a_pause() {
        let broken = vec![local(3, 5), fail("read", json!(null)).of("s1"), local(3, 4)];
        valid(check_serializable(&sequence(broken)));
        let mut history = sequence(vec![local(3, 5), local(3, 4)]);
        history.faults = vec![fault("kill", &[0], 7, 10)];
        valid(check_serializable(&history));
        history.faults = vec![fault("kill", &[1], 7, 10), fault("pause", &[0], 7, 10)];
        violated(check_serializable(&history), "went back");
        history.faults = vec![fault("kill", &[0], 17, 20)];
        violated(check_serializable(&history), "went back");
    }
}
