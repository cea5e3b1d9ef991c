//! Transactions over several keys are strictly serializable: appends to lists, which show the order
//! of all that came before in each read, and writes of registers. The search for cycles of
//! dependencies is `adya`'s; here are its input and what its answer means.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use adya::{Anomaly, Opts, Report, Valid, Workload};
use serde_json::{Value, json};

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Nanos, Step};

/// For the cycles of one group of transactions that depend on each other.
const LIMIT: Duration = Duration::from_secs(20);

/// Kinds of anomalies of which a proof shows the first; a cycle often shows as several kinds.
const SHOWN: usize = 3;

/// Bytes of a proof's text for one anomaly. Lists that are read may have thousands of elements.
const EXPLANATION_BYTES_MAX: usize = 8 * 1024;

/// Transactions `[["append", "k1", 5], ["r", "k2", [1, 2]]]`.
pub fn check_append(history: &History) -> Checked {
    check(history, Findings::new("append"), Workload::ListAppend)
}

/// Transactions `[["w", "k1", 5], ["r", "k2", 7]]`.
pub fn check_wr(history: &History) -> Checked {
    check(history, Findings::new("wr"), Workload::RwRegister)
}

fn check(history: &History, mut findings: Findings, workload: Workload) -> Checked {
    let steps = &history.steps;
    let (own, others): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|step| is_transaction(step, workload));
    others.iter().for_each(|step| findings.stranger(step));
    let count = |kind| own.iter().filter(|step| step.kind == kind).count();
    findings.looked_at(count(Kind::Ok));
    findings.note(format!(
        "{} transactions acknowledged, {} failed, {} unknown",
        count(Kind::Ok),
        count(Kind::Fail),
        count(Kind::Info)
    ));
    if others.is_empty() {
        cycles(steps, workload, &mut findings);
        let writes = writes(steps);
        for step in steps.iter().filter(|step| step.kind == Kind::Ok) {
            phantoms(step, &writes, &mut findings);
            if workload == Workload::ListAppend {
                lost(step, &writes, &mut findings);
            }
        }
    }
    findings.finish()
}

fn cycles(steps: &[Step], workload: Workload, findings: &mut Findings) {
    match adya::History::from_json(&lines(steps)) {
        Err(error) => findings.unknown(format!("this is no history of transactions: {error}")),
        Ok(parsed) => {
            let options = Opts {
                models: vec!["strict-serializable".into()],
                timeout: LIMIT,
                // That is what is claimed: who reads a key before writing it writes what comes
                // next, and each key's order is that of time.
                wfr_keys: true,
                linearizable_keys: true,
                ..Opts::default()
            };
            judge(&adya::check(&parsed, workload, &options), steps, findings);
        }
    }
}

/// Whether a step is one of this workload: what asks and what answers have the same shape.
fn is_transaction(step: &Step, workload: Workload) -> bool {
    let writes = match workload {
        Workload::ListAppend => "append",
        Workload::RwRegister => "w",
    };
    let fits = |part: &Value| {
        let operation = part.as_array().map(Vec::as_slice);
        let Some([f, Value::String(_), value]) = operation else { return false };
        match f.as_str() {
            Some("r") => value.is_null() || value.is_array() == (writes == "append"),
            Some(f) => f == writes && value.is_i64(),
            None => false,
        }
    };
    let all_fit = |parts: &Value| parts.as_array().is_some_and(|parts| parts.iter().all(fits));
    let answers = step.kind != Kind::Ok || (all_fit(&step.result) && same(step));
    step.f == "txn" && all_fit(&step.value) && answers
}

/// Whether the result is of what was asked.
fn same(step: &Step) -> bool {
    let (Some(asked), Some(told)) = (step.value.as_array(), step.result.as_array()) else {
        return false;
    };
    let same_part = |(asked, told): (&Value, &Value)| {
        asked[0] == told[0] && asked[1] == told[1] && (asked[0] == "r" || asked[2] == told[2])
    };
    asked.len() == told.len() && asked.iter().zip(told).all(same_part)
}

/// The history as lines of beginnings and ends in the order of time. What ends when another begins
/// is under way with it. Step n has the numbers 2n and 2n + 1, and is a process of its own: the
/// order within a process is that of time anyway.
fn lines(steps: &[Step]) -> String {
    let mut events: Vec<(Nanos, bool, usize)> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        events.push((step.began, false, at));
        events.push((step.ended, true, at));
    }
    events.sort_unstable();
    let line = |(time, is_end, at): (Nanos, bool, usize)| {
        let step = &steps[at];
        let (kind, value) = match (is_end, step.kind) {
            (false, _) => ("invoke", &step.value),
            (true, Kind::Ok) => ("ok", &step.result),
            (true, Kind::Fail) => ("fail", &step.value),
            (true, Kind::Info) => ("info", &step.value),
        };
        let index = 2 * at + usize::from(is_end);
        let event = json!({
            "index": index, "time": time, "type": kind, "process": at, "f": step.f, "value": value,
        });
        event.to_string()
    };
    events.into_iter().map(line).collect::<Vec<String>>().join("\n")
}

/// All that was to be written to each key, whatever came of it: the values, and who began first
/// to write each.
type Writes<'a> = HashMap<&'a str, HashMap<&'a Value, &'a Step>>;

fn writes(steps: &[Step]) -> Writes<'_> {
    let mut writes = Writes::new();
    for step in by_beginning(steps) {
        for (_, key, value) in parts(&step.value).filter(|(f, ..)| *f != "r") {
            writes.entry(key).or_default().entry(value).or_insert(step);
        }
    }
    writes
}

fn parts(transaction: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let parts = transaction.as_array().into_iter().flatten();
    parts.filter_map(|part| Some((part[0].as_str()?, part[1].as_str()?, part.get(2)?)))
}

/// The values that a transaction read of a key.
fn reads(step: &Step) -> impl Iterator<Item = (&str, &[Value])> {
    let reads = parts(&step.result).filter(|(f, ..)| *f == "r");
    reads.map(|(_, key, told)| match told {
        Value::Array(elements) => (key, elements.as_slice()),
        Value::Null => (key, &[][..]),
        single => (key, std::slice::from_ref(single)),
    })
}

/// What is read was being written by then.
fn phantoms(step: &Step, writes: &Writes<'_>, findings: &mut Findings) {
    for (key, values) in reads(step) {
        for value in values {
            let by = writes.get(key).and_then(|values| values.get(value));
            findings.demand(by.is_some_and(|by| by.began <= step.ended), || {
                format!("nobody had begun to write {value} to {key}: {}", show(step))
            });
        }
    }
}

/// What was acknowledged before a transaction began is in the lists that it reads.
fn lost(step: &Step, writes: &Writes<'_>, findings: &mut Findings) {
    for (key, values) in reads(step) {
        let values: HashSet<&Value> = values.iter().collect();
        for (value, by) in writes.get(key).into_iter().flatten() {
            let is_due = by.kind == Kind::Ok && by.ended < step.began;
            findings.demand(!is_due || values.contains(value), || {
                let (by, step) = (show(by), show(step));
                format!("the acknowledged {value} is not in {key}:\n  {by}\n  {step}")
            });
        }
    }
}

fn judge(report: &Report, steps: &[Step], findings: &mut Findings) {
    let kinds = report.anomaly_types.join(", ");
    match report.valid {
        Valid::True => {}
        Valid::Unknown => {
            let reasons = report.anomalies.values().flatten().map(|it| it.explanation.as_str());
            let reasons: Vec<&str> = reasons.take(SHOWN).collect();
            findings.unknown(format!("{kinds}: {}", reasons.join("\n")));
        }
        Valid::False => {
            let not = report.not.join(", ");
            let mut proof = vec![format!("not strictly serializable, not even {not}: {kinds}")];
            let first =
                report.anomalies.iter().filter_map(|(kind, all)| Some((kind, all.first()?)));
            proof.extend(first.take(SHOWN).map(|(kind, anomaly)| say(kind, anomaly, steps)));
            findings.violated(proof.join("\n"));
        }
    }
}

/// One anomaly: its explanation, and the steps that it is made of as they are in the history.
fn say(kind: &str, anomaly: &Anomaly, steps: &[Step]) -> String {
    let involved = anomaly.ops.iter().filter_map(|index| steps.get(*index as usize / 2));
    let involved: Vec<String> = involved.map(|step| format!("  {}", show(step))).collect();
    let text = format!("{kind}: {}\n{}", anomaly.explanation, involved.join("\n"));
    let end = text.floor_char_boundary(EXPLANATION_BYTES_MAX);
    let more = if end < text.len() { "..." } else { "" };
    format!("{}{more}", &text[..end])
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::check::sketch::{fail, info, ok, sequence, simulate, unknown, valid, violated};

    /// A transaction as told; what it asked for is the same without what was read.
    fn txn(told: Value) -> Step {
        let mut asked = told.clone();
        for part in asked.as_array_mut().unwrap().iter_mut().filter(|part| part[0] == "r") {
            part[2] = Value::Null;
        }
        ok("txn", asked, told)
    }

    fn appends() -> Vec<Step> {
        vec![
            txn(json!([["append", "a", 1], ["r", "b", []]])),
            txn(json!([["r", "a", [1]], ["append", "a", 2], ["append", "b", 1]])),
            info("txn", json!([["append", "a", 3]])).by(1),
            fail("txn", json!([["append", "a", 4]])),
            txn(json!([["r", "a", [1, 2]], ["r", "b", [1]]])),
            txn(json!([["append", "a", 5], ["append", "b", 2]])),
            txn(json!([["r", "a", [1, 2, 3, 5]], ["r", "b", [1, 2]]])),
        ]
    }

    fn writes() -> Vec<Step> {
        vec![
            txn(json!([["w", "a", 1], ["r", "b", null]])),
            txn(json!([["r", "a", 1], ["w", "a", 2], ["w", "b", 1]])),
            info("txn", json!([["w", "a", 3]])).by(1),
            fail("txn", json!([["w", "a", 4]])),
            txn(json!([["r", "a", 2], ["r", "b", 1]])),
            txn(json!([["r", "a", 3], ["w", "b", 2]])),
            txn(json!([["r", "a", 3], ["r", "b", 2]])),
        ]
    }

    #[test]
    fn what_transactions_do_is_valid() {
        valid(check_append(&sequence(appends())));
        valid(check_wr(&sequence(writes())));
    }

    #[test]
    fn every_mutation_of_appends_is_found() {
        let check = |at: usize, told: Value, words: &str| {
            let mut steps = appends();
            steps[at] = txn(told);
            violated(check_append(&sequence(steps)), words);
        };
        // Half a transaction.
        check(6, json!([["r", "a", [1, 2, 3]], ["r", "b", [1, 2]]]), "G-single");
        // Half a transaction.
        check(4, json!([["r", "a", [1]], ["r", "b", [1]]]), "G-single");
        // Stale.
        check(4, json!([["r", "a", [1]], ["r", "b", []]]), "realtime");
        // Of what failed.
        check(4, json!([["r", "a", [1, 2, 4]], ["r", "b", [1]]]), "G1a");
        check(4, json!([["r", "a", [2, 1]], ["r", "b", [1]]]), "incompatible-order");
        check(6, json!([["r", "a", [1, 2, 3, 5, 5]], ["r", "b", [1, 2]]]), "duplicate-elements");
        // Too early.
        check(4, json!([["r", "a", [1, 2, 5]], ["r", "b", [1]]]), "incompatible-order");
        check(4, json!([["r", "a", [1, 2, 99]], ["r", "b", [1]]]), "incompatible-order");
        check(1, json!([["append", "a", 2], ["r", "a", [1]], ["append", "b", 1]]), "internal");
    }

    #[test]
    fn what_nobody_appended_is_found() {
        let phantom = vec![txn(json!([["append", "a", 1]])), txn(json!([["r", "a", [1, 99]]]))];
        violated(check_append(&sequence(phantom)), "nobody had begun to write 99");
        let early = vec![
            txn(json!([["r", "a", [1]]])),
            info("txn", json!([["append", "a", 1]])),
            txn(json!([["r", "a", [1]]])),
        ];
        violated(check_append(&sequence(early)), "nobody had begun to write 1");
    }

    #[test]
    fn a_lost_append_is_found() {
        let check = |last| {
            let first = [txn(json!([["append", "a", 1]])), txn(json!([["append", "a", 2]]))];
            check_append(&sequence([&first[..], &[txn(json!([["r", "a", last]]))]].concat()))
        };
        valid(check(json!([1, 2])));
        violated(check(json!([1])), "the acknowledged 2 is not in a");
        violated(check(json!([2])), "the acknowledged 1 is not in a");
        violated(check(json!([])), "is not in a");
        violated(check(json!(null)), "is not in a");
    }

    type Store = HashMap<String, Value>;

    /// Random transactions, one at a time. Written values are unique.
    fn random_transactions(seed: u64, writes: &'static str) -> History {
        let asks = |random: &mut rand::rngs::StdRng, at: usize| {
            let parts = (0..random.random_range(1..5)).map(|part| {
                let key = format!("k{}", random.random_range(0..3) + at / 100);
                match random.random_bool(0.5) {
                    true => json!([writes, key, at * 10 + part]),
                    false => json!(["r", key, null]),
                }
            });
            ("txn", None, Value::Array(parts.collect()))
        };
        simulate::<Store>(seed, asks, |store, step, _| {
            let mut told = step.value.clone();
            for part in told.as_array_mut().unwrap() {
                let held = store.entry(part[1].as_str().unwrap().into()).or_default();
                match part[0].as_str() {
                    Some("append") => {
                        let elements = held.as_array().cloned().unwrap_or_default();
                        *held = [elements, vec![part[2].clone()]].concat().into();
                    }
                    Some("w") => *held = part[2].clone(),
                    _ => part[2] = held.clone(),
                }
            }
            Some(told)
        })
    }

    #[test]
    fn random_transactions_are_valid() {
        for seed in 0..60 {
            valid(check_append(&random_transactions(seed, "append")));
            valid(check_wr(&random_transactions(seed, "w")));
        }
    }

    #[test]
    fn an_append_that_is_taken_out_of_a_random_read_is_missed() {
        for seed in 0..60 {
            let mut history = random_transactions(seed, "append");
            let long = history.steps.iter_mut().rev().find_map(|step| {
                let parts = step.result.as_array_mut()?.iter_mut();
                let mut reads = parts.filter(|part| part[0] == "r");
                reads.find_map(|part| part[2].as_array_mut().filter(|list| list.len() > 9))
            });
            long.unwrap().remove(seed as usize % 9);
            violated(check_append(&history), "");
        }
    }

    #[test]
    fn write_skew_is_found_and_the_steps_are_named() {
        let steps = vec![
            txn(json!([["r", "a", []], ["append", "b", 1]])).at(1, 20),
            txn(json!([["r", "b", []], ["append", "a", 1]])).by(1).at(2, 19),
            txn(json!([["r", "a", [1]], ["r", "b", [1]]])).by(2).at(30, 40),
        ];
        violated(check_append(&sequence(steps.clone())), "G2-item");
        violated(check_append(&sequence(steps)), "process 1 at member 0: txn");
    }

    #[test]
    fn every_mutation_of_writes_is_found() {
        let check = |at: usize, told: Value, words: &str| {
            let mut steps = writes();
            steps[at] = txn(told);
            violated(check_wr(&sequence(steps)), words);
        };
        check(4, json!([["r", "a", 1], ["r", "b", 1]]), "G-single"); // half a transaction
        check(4, json!([["r", "a", 1], ["r", "b", null]]), "cyclic-versions"); // stale
        check(4, json!([["r", "a", 4], ["r", "b", 1]]), "G1a"); // of what failed
        check(6, json!([["r", "a", 2], ["r", "b", 2]]), "cyclic-versions"); // back again
        check(6, json!([["r", "a", 3], ["r", "b", 1]]), "cyclic-versions"); // a lost write
        check(1, json!([["w", "a", 2], ["r", "a", 1], ["w", "b", 1]]), "internal");
        check(6, json!([["r", "a", 99], ["r", "b", 2]]), "99");
    }

    #[test]
    fn a_lost_update_is_found() {
        let steps = vec![
            txn(json!([["w", "a", 1]])),
            txn(json!([["r", "a", 1], ["w", "a", 2]])).at(20, 30),
            txn(json!([["r", "a", 1], ["w", "a", 3]])).by(1).at(21, 29),
        ];
        violated(check_wr(&sequence(steps)), "lost-update");
    }

    #[test]
    fn what_is_no_history_of_transactions_is_unknown() {
        unknown(check_append(&sequence(vec![])), "");
        unknown(check_append(&sequence(writes())), "another workload");
        unknown(check_wr(&sequence(appends())), "another workload");
        let other = ok("txn", json!([["r", "a", null]]), json!([["r", "b", [1]]]));
        unknown(check_append(&sequence(vec![other])), "another workload");
    }
}
