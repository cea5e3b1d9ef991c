//! Elections: one leader at a time, and later leaders under later revisions.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Process, Step};

/// What whoever won was told: its key, and the revision that made it.
#[derive(Deserialize)]
struct Won {
    key: String,
    revision: i64,
}

/// Who led when somebody looked: the revision that made the leader's key, and what it proclaimed.
/// Null where nobody led.
#[derive(Deserialize)]
struct Observed {
    revision: i64,
    value: Value,
}

/// A campaign that was won.
#[derive(Clone, Copy)]
struct Win<'a> {
    step: &'a Step,
    revision: i64,
}

pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("election");
    let steps = by_beginning(&history.steps);
    let wins = wins(&steps, &mut findings);
    let mut by_end = wins.clone();
    by_end.sort_by_key(|win| win.step.ended);
    later_wins(&wins, &by_end, &mut findings);
    proclamations(&steps, &by_end, &mut findings);
    observations(&steps, &mut findings);
    let count = |f: &str| steps.iter().filter(|it| it.f == f && it.kind == Kind::Ok).count();
    findings.note(format!(
        "{} campaigns won, {} proclamations, {} observations, {} resignations",
        wins.len(),
        count("proclaim"),
        count("leader"),
        count("resign")
    ));
    findings.finish()
}

/// The campaigns that were won. No revision makes two leaders.
fn wins<'a>(steps: &[&'a Step], findings: &mut Findings) -> Vec<Win<'a>> {
    let mut keys: HashMap<i64, (String, &Step)> = HashMap::new();
    let mut wins = Vec::new();
    for step in steps {
        match (step.f.as_str(), step.kind) {
            ("campaign", Kind::Ok) => {
                let Some(won) = findings.result::<Won>(step) else { continue };
                findings.looked_at(1);
                wins.push(Win { step, revision: won.revision });
                let (key, by) = keys.entry(won.revision).or_insert_with(|| (won.key.clone(), step));
                findings.demand(*key == won.key, || {
                    format!("two leaders at one revision:\n  {}\n  {}", show(by), show(step))
                });
            }
            ("campaign", Kind::Fail | Kind::Info) | ("proclaim" | "leader" | "resign", _) => {}
            _ => findings.stranger(step),
        }
    }
    wins
}

/// Of the wins that were known before the step began, the one with the greatest revision.
fn greatest_before<'a>(step: &Step, by_end: &[Win<'a>]) -> Option<Win<'a>> {
    let known = by_end.partition_point(|win| win.step.ended < step.began);
    by_end[..known].iter().copied().max_by_key(|win| win.revision)
}

/// Whoever leads has the oldest key there is: who campaigns later has a later one, or has been
/// waiting, and led only when the older ones were gone.
fn later_wins(wins: &[Win<'_>], by_end: &[Win<'_>], findings: &mut Findings) {
    for win in wins {
        if let Some(earlier) = greatest_before(win.step, by_end)
            && earlier.revision > win.revision
        {
            let (earlier, later) = (show(earlier.step), show(win.step));
            findings.violated(format!("a later leader has an older key:\n  {earlier}\n  {later}"));
        }
    }
}

/// Nobody proclaims after somebody else was told that it leads under a later revision.
fn proclamations(steps: &[&Step], by_end: &[Win<'_>], findings: &mut Findings) {
    let mut leads: HashMap<Process, i64> = HashMap::new();
    for step in steps.iter().filter(|step| step.kind == Kind::Ok) {
        match step.f.as_str() {
            "campaign" => {
                let won = by_end.iter().find(|win| std::ptr::eq(win.step, *step));
                leads.extend(won.map(|win| (step.process, win.revision)));
            }
            "resign" => {
                leads.remove(&step.process);
            }
            "proclaim" => {
                let Some(revision) = leads.get(&step.process) else { continue };
                findings.looked_at(1);
                if let Some(other) = greatest_before(step, by_end)
                    && other.revision > *revision
                {
                    let (other, step) = (show(other.step), show(step));
                    findings.violated(format!("two leaders at once:\n  {other}\n  {step}"));
                }
            }
            _ => {}
        }
    }
}

/// Nobody sees leaders go back, nor a leader's words that nobody said.
fn observations(steps: &[&Step], findings: &mut Findings) {
    let said = said(steps);
    let mut seen: HashMap<Process, (i64, &Step)> = HashMap::new();
    for step in steps.iter().filter(|step| step.f == "leader" && step.kind == Kind::Ok) {
        let Some(observed) = findings.result::<Option<Observed>>(step) else { continue };
        findings.looked_at(1);
        let Some(observed) = observed else { continue };
        if let Some((before, earlier)) = seen.insert(step.process, (observed.revision, step)) {
            findings.demand(before <= observed.revision, || {
                format!("an older leader is seen again:\n  {}\n  {}", show(earlier), show(step))
            });
        }
        let is_said = said.as_ref().is_none_or(|said| said.contains(&observed.value));
        findings.demand(is_said, || format!("no leader said this: {}", show(step)));
    }
}

/// All that was proclaimed, perhaps; `None` if what campaigns say is not in the history.
fn said<'a>(steps: &[&'a Step]) -> Option<HashSet<&'a Value>> {
    let speaks = |step: &&&Step| matches!(step.f.as_str(), "campaign" | "proclaim");
    let said: HashSet<&Value> = steps
        .iter()
        .filter(speaks)
        .filter(|step| step.kind != Kind::Fail)
        .map(|step| &step.value)
        .collect();
    (!said.contains(&Value::Null)).then_some(said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::sketch::{fail, info, mutated, ok, sequence, unknown, valid, violated};

    fn campaign(value: &str, revision: i64) -> Step {
        let key = format!("election/{revision}");
        ok("campaign", json!(value), json!({"key": key, "revision": revision, "lease": 7}))
    }

    fn proclaim(value: &str) -> Step {
        ok("proclaim", json!(value), json!(null))
    }

    fn leader(revision: i64, value: &str) -> Step {
        ok("leader", json!(null), json!({"revision": revision, "value": value})).by(9)
    }

    fn resign() -> Step {
        ok("resign", json!(null), json!(null))
    }

    fn some_history() -> Vec<Step> {
        vec![
            campaign("a", 5),
            leader(5, "a"),
            proclaim("b"),
            leader(5, "b"),
            resign(),
            campaign("c", 8).by(1),
            leader(8, "c"),
            fail("proclaim", json!("d")),
            info("proclaim", json!("e")).by(1),
            leader(8, "e"),
        ]
    }

    #[test]
    fn what_an_election_does_is_valid() {
        valid(check(&sequence(some_history())));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |at: usize, step: Step, words: &str| {
            violated(check(&mutated(some_history(), at, step)), words);
        };
        let same = ok("campaign", json!("c"), json!({"key": "other", "revision": 5, "lease": 8}));
        check(5, same.by(1), "two leaders at one revision");
        check(5, campaign("c", 4).by(1), "a later leader has an older key");
        check(9, leader(5, "b"), "an older leader is seen again");
        check(9, leader(8, "d"), "no leader said this");
        check(9, leader(8, "z"), "no leader said this");
        let mut steps = some_history();
        steps.remove(4);
        steps.push(proclaim("late"));
        violated(super::check(&sequence(steps)), "two leaders at once");
    }

    #[test]
    fn nobody_may_lead() {
        let mut steps = some_history();
        steps.insert(5, ok("leader", json!(null), json!(null)).by(9));
        valid(check(&sequence(steps)));
    }

    #[test]
    fn whoever_waited_may_be_told_late() {
        let steps = vec![campaign("a", 5).at(1, 30), campaign("b", 4).by(1).at(2, 20)];
        valid(check(&sequence(steps)));
    }

    #[test]
    fn what_is_no_election_is_unknown() {
        unknown(check(&sequence(vec![fail("campaign", json!("a"))])), "nothing");
        unknown(check(&sequence(vec![ok("leader", json!(null), json!(5))])), "result");
        unknown(check(&sequence(vec![ok("vote", json!(null), json!(5))])), "vote");
    }
}
