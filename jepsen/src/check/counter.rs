//! Counters: each read is between what must have been counted by then and what can have been.

use super::{
    Checked, Findings,
    findings::{by_beginning, show},
};
use crate::history::{History, Kind, Nanos, Step};

struct Add {
    amount: i64,
    began: Nanos,
    /// `None` where it may never take effect.
    acknowledged: Option<Nanos>,
}

impl Add {
    /// Certainly counted before this moment.
    fn must_count(&self, at: Nanos) -> bool {
        self.acknowledged.is_some_and(|acknowledged| acknowledged < at)
    }

    fn may_count(&self, at: Nanos) -> bool {
        self.began <= at
    }
}

pub fn check(history: &History) -> Checked {
    let mut findings = Findings::new("counter");
    let mut adds = Vec::new();
    let mut reads = Vec::new();
    for step in by_beginning(&history.steps) {
        match (step.f.as_str(), step.kind) {
            ("add", Kind::Ok | Kind::Info) => {
                let acknowledged = (step.kind == Kind::Ok).then_some(step.ended);
                let amount = findings.value(step);
                adds.extend(amount.map(|amount| Add { amount, began: step.began, acknowledged }));
            }
            ("read" | "final-read", Kind::Ok) => {
                reads.extend(findings.result::<i64>(step).map(|count| (step, count)));
            }
            ("add" | "read" | "final-read", Kind::Fail | Kind::Info) => {}
            _ => findings.stranger(step),
        }
    }
    for (step, count) in &reads {
        bounds(step, *count, &adds, &mut findings);
    }
    if adds.iter().all(|add| add.amount >= 0) {
        never_back(&reads, &mut findings);
    }
    let unknown = adds.iter().filter(|add| add.acknowledged.is_none()).count();
    findings.note(format!("{} adds, {unknown} of them of unknown outcome", adds.len()));
    findings.finish()
}

fn bounds(step: &Step, count: i64, adds: &[Add], findings: &mut Findings) {
    findings.looked_at(1);
    let (mut least, mut most) = (0, 0);
    for add in adds.iter().filter(|add| add.may_count(step.ended)) {
        let is_certain = add.must_count(step.began);
        if is_certain || add.amount < 0 {
            least += add.amount;
        }
        if is_certain || add.amount > 0 {
            most += add.amount;
        }
    }
    findings.demand((least..=most).contains(&count), || {
        format!("{count} is not within {least} and {most}: {}", show(step))
    });
}

/// Where all that is added is positive, what was read once stays.
fn never_back(reads: &[(&Step, i64)], findings: &mut Findings) {
    let mut by_end: Vec<&(&Step, i64)> = reads.iter().collect();
    by_end.sort_by_key(|(step, _)| step.ended);
    let mut over = by_end.into_iter().peekable();
    let mut greatest: Option<&(&Step, i64)> = None;
    for (step, count) in reads {
        while let Some(read) = over.next_if(|(earlier, _)| earlier.ended < step.began) {
            greatest = greatest.filter(|greatest| greatest.1 >= read.1).or(Some(read));
        }
        if let Some((earlier, before)) = greatest.filter(|(_, before)| before > count) {
            let (earlier, step) = (show(earlier), show(step));
            findings.violated(format!("{before} had been read already:\n  {earlier}\n  {step}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use serde_json::json;

    use super::*;
    use crate::check::sketch::{fail, info, ok, sequence, simulate, unknown, valid, violated};

    fn add(amount: i64) -> Step {
        ok("add", json!(amount), json!(null))
    }

    fn read(count: i64) -> Step {
        ok("read", json!(null), json!(count))
    }

    #[track_caller]
    fn within(steps: Vec<Step>, possible: std::ops::RangeInclusive<i64>) {
        let check = |count| {
            let mut steps = steps.clone();
            steps.push(ok("final-read", json!(null), json!(count)));
            check(&sequence(steps))
        };
        let (least, most) = (*possible.start(), *possible.end());
        possible.for_each(|count| valid(check(count)));
        violated(check(least - 1), "is not within");
        violated(check(most + 1), "is not within");
    }

    #[test]
    fn what_is_acknowledged_counts_and_what_failed_does_not() {
        within(vec![add(3), add(4), fail("add", json!(9))], 7..=7);
        within(vec![add(3), add(-5)], -2..=-2);
    }

    #[test]
    fn what_is_unknown_may_count_whatever_its_sign() {
        within(vec![add(3), info("add", json!(2))], 3..=5);
        within(vec![add(3), info("add", json!(-2)), info("add", json!(1))], 1..=4);
    }

    #[test]
    fn what_is_under_way_may_count_and_what_is_to_come_may_not() {
        let read = |began, ended, count| {
            check(&sequence(vec![
                add(2).at(10, 20),
                add(-4).at(30, 40),
                read(count).at(began, ended),
            ]))
        };
        valid(read(5, 15, 0));
        valid(read(5, 15, 2));
        violated(read(21, 25, 0), "is not within 2 and 2");
        violated(read(1, 5, 2), "is not within 0 and 0");
        violated(read(41, 50, 2), "is not within -2 and -2");
        valid(read(35, 50, 2));
        valid(read(1, 50, -4));
    }

    #[test]
    fn random_counters_are_valid() {
        for seed in 0..100 {
            let history = simulate::<i64>(
                seed,
                |random, _| match random.random_bool(0.5) {
                    true => {
                        let least = if seed % 2 == 0 { 0 } else { -5 };
                        ("add", None, json!(random.random_range(least..6)))
                    }
                    false => ("read", None, json!(null)),
                },
                |count, step, _| {
                    *count += step.value.as_i64().unwrap_or(0);
                    Some(json!(count))
                },
            );
            valid(check(&history));
        }
    }

    #[test]
    fn a_count_that_was_read_stays() {
        let mut steps = vec![add(2).at(1, 100), read(2).at(10, 20), read(0).at(30, 40)];
        violated(check(&sequence(steps.clone())), "had been read already");
        steps[2] = read(0).at(15, 40);
        valid(check(&sequence(steps)));
    }

    #[test]
    fn what_is_no_counter_is_unknown() {
        unknown(check(&sequence(vec![add(1)])), "nothing");
        unknown(check(&sequence(vec![ok("read", json!(null), json!([1]))])), "result");
    }
}
