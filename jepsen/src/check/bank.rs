//! Banks: money moves and is never made; no account is overdrawn; and whoever reads one revision
//! reads one state.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Step};

type Balances = BTreeMap<String, i64>;

/// What `read-old` is asked for.
#[derive(Deserialize)]
struct Old {
    revision: i64,
}

#[derive(Default)]
struct Bank<'a> {
    /// What there was in the beginning, and who said so.
    initial: Option<(Balances, &'a Step)>,
    /// The state at each revision that somebody read.
    states: BTreeMap<i64, (Balances, &'a Step)>,
    reads_of_old: usize,
}

pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("bank");
    let mut bank = Bank::default();
    let steps = by_beginning(&history.steps);
    // The total is the one that the accounts began with, even if a read began first.
    let (first, rest): (Vec<&Step>, Vec<&Step>) = steps.into_iter().partition(|it| it.f == "init");
    for step in first.into_iter().chain(rest) {
        match (step.f.as_str(), step.kind) {
            ("init" | "read", Kind::Ok) => bank.read(step, step.revision, &mut findings),
            ("read-old", Kind::Ok) => {
                bank.reads_of_old += 1;
                if let Some(old) = findings.value::<Old>(step) {
                    bank.read(step, old.revision, &mut findings);
                }
            }
            ("init" | "read" | "read-old", Kind::Fail | Kind::Info) | ("transfer", _) => {}
            _ => findings.stranger(step),
        }
    }
    let transfers = history.steps.iter().filter(|it| it.f == "transfer" && it.kind == Kind::Ok);
    findings.note(format!(
        "{} transfers acknowledged, {} revisions read, {} reads of old revisions",
        transfers.count(),
        bank.states.len(),
        bank.reads_of_old
    ));
    findings.finish()
}

impl<'a> Bank<'a> {
    fn read(&mut self, step: &'a Step, revision: i64, findings: &mut Findings) {
        let Some(balances) = findings.result::<Balances>(step) else { return };
        findings.looked_at(1);
        findings.demand(balances.values().all(|balance| *balance >= 0), || {
            format!("an account is overdrawn: {}", show(step))
        });
        let (initial, by) = self.initial.get_or_insert_with(|| (balances.clone(), step));
        findings.demand(balances.keys().eq(initial.keys()), || {
            format!("there are other accounts than in {}:\n  {}", show(by), show(step))
        });
        let (before, total) = (total(initial), total(&balances));
        findings.demand(before == total, || {
            format!("the total is {total}, and {before} in {}:\n  {}", show(by), show(step))
        });
        if revision > 0 {
            let (same, by) =
                self.states.entry(revision).or_insert_with(|| (balances.clone(), step));
            findings.demand(*same == balances, || {
                format!("two states at revision {revision}:\n  {}\n  {}", show(by), show(step))
            });
        }
    }
}

fn total(balances: &Balances) -> i128 {
    balances.values().map(|balance| i128::from(*balance)).sum()
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::sketch::{fail, info, ok, sequence, simulate, unknown, valid, violated};

    fn read(balances: Value) -> Step {
        ok("read", json!(null), balances)
    }

    fn read_old(revision: i64, balances: Value) -> Step {
        ok("read-old", json!({"revision": revision}), balances)
    }

    fn some_history() -> Vec<Step> {
        let transfer = json!({"from": "a1", "to": "a2", "amount": 3});
        vec![
            ok("init", json!(null), json!({"a1": 10, "a2": 10})).revision(5),
            ok("transfer", transfer.clone(), json!(null)),
            read(json!({"a1": 7, "a2": 13})).revision(6),
            info("transfer", transfer.clone()),
            fail("transfer", transfer),
            read(json!({"a1": 4, "a2": 16})).revision(7),
            read_old(6, json!({"a1": 7, "a2": 13})),
        ]
    }

    #[test]
    fn what_a_bank_does_is_valid() {
        valid(check(&sequence(some_history())));
        valid(check(&sequence(some_history().split_off(2))));
    }

    #[test]
    fn every_mutation_is_found() {
        let check = |step: Step, words: &str| {
            let mut steps = some_history();
            steps.push(step);
            violated(check(&sequence(steps)), words);
        };
        check(read(json!({"a1": 7, "a2": 16})).revision(8), "the total is 23"); // half a transfer
        check(read(json!({"a1": 4, "a2": 13})).revision(8), "the total is 17");
        check(read(json!({"a1": -1, "a2": 21})).revision(8), "overdrawn");
        check(read(json!({"a1": 20})).revision(8), "other accounts");
        check(read(json!({"a1": 4, "a2": 16, "a3": 0})).revision(8), "other accounts");
        check(read(json!({"a1": 7, "a2": 13})).revision(7), "two states at revision 7");
        check(read_old(5, json!({"a1": 7, "a2": 13})), "two states at revision 5");
        check(read_old(4, json!({"a1": 7, "a2": 0})), "the total is 7");
    }

    #[test]
    fn random_banks_are_valid_and_any_coin_that_is_lost_is_missed() {
        for seed in 0..50 {
            let asks = |random: &mut rand::rngs::StdRng, _| match random.random_bool(0.5) {
                true => {
                    let mut account = || format!("a{}", random.random_range(1..4));
                    let (from, to) = (account(), account());
                    let amount = random.random_range(1..6);
                    ("transfer", None, json!({"from": from, "to": to, "amount": amount}))
                }
                false => ("read", None, json!(null)),
            };
            let mut history = simulate::<Balances>(seed, asks, |balances, step, _| {
                for account in ["a1", "a2", "a3"] {
                    balances.entry(account.into()).or_insert(10);
                }
                if step.f == "read" {
                    return Some(json!(balances));
                }
                let amount = step.value["amount"].as_i64()?;
                let (from, to) = (step.value["from"].as_str()?, step.value["to"].as_str()?);
                *balances.get_mut(from).filter(|balance| **balance >= amount)? -= amount;
                *balances.get_mut(to)? += amount;
                Some(json!(null))
            });
            valid(check(&history));
            let read = history.steps.iter_mut().rev().find(|step| step.f == "read").unwrap();
            read.result["a2"] = json!(read.result["a2"].as_i64().unwrap() + 1);
            violated(check(&history), "the total is 31");
        }
    }

    #[test]
    fn a_wrong_first_read_is_measured_by_the_beginning() {
        let mut steps = some_history();
        steps.insert(0, read(json!({"a1": 1, "a2": 1})));
        violated(check(&sequence(steps)), "the total is 2, and 20");
    }

    #[test]
    fn what_is_no_bank_is_unknown() {
        unknown(check(&sequence(vec![fail("read", json!(null))])), "nothing");
        unknown(check(&sequence(vec![read(json!([1, 2]))])), "result");
    }
}
