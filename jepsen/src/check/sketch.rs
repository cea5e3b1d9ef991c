//! Histories in short, for the tests of checkers.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::{Checked, Verdict};
use crate::history::{Fault, History, Kind, MemberIndex, Nanos, Step};

/// A step that is ok, by process 0 and without a time; the methods below change that.
pub(crate) fn ok(f: &str, value: Value, result: Value) -> Step {
    Step {
        process: 0,
        member: 0,
        f: f.into(),
        key: None,
        value,
        began: 0,
        ended: 0,
        kind: Kind::Ok,
        result,
        revision: 0,
        error: String::new(),
    }
}

pub(crate) fn fail(f: &str, value: Value) -> Step {
    Step { kind: Kind::Fail, error: "refused".into(), ..ok(f, value, Value::Null) }
}

pub(crate) fn info(f: &str, value: Value) -> Step {
    Step { kind: Kind::Info, error: "timed out".into(), ..ok(f, value, Value::Null) }
}

impl Step {
    pub(crate) fn by(self, process: u64) -> Step {
        Step { process, ..self }
    }

    pub(crate) fn of(self, key: &str) -> Step {
        Step { key: Some(key.into()), ..self }
    }

    pub(crate) fn at(self, began: Nanos, ended: Nanos) -> Step {
        Step { began, ended, ..self }
    }

    pub(crate) fn revision(self, revision: i64) -> Step {
        Step { revision, ..self }
    }
}

/// The steps one after the other: the first from 1 to 6, the second from 11 to 16 and so on. One
/// that has a time keeps it.
pub(crate) fn sequence(steps: Vec<Step>) -> History {
    let place = |(at, step): (usize, Step)| match (step.began, step.ended) {
        (0, 0) => step.at(at as u64 * 10 + 1, at as u64 * 10 + 6),
        _ => step,
    };
    let steps = steps.into_iter().enumerate().map(place).collect();
    History { steps, ..History::default() }
}

#[track_caller]
pub(crate) fn valid(checked: Checked) {
    assert_eq!(checked.verdict, Verdict::Valid);
    assert!(checked.checked > 0);
}

/// Violated, with the words in the proof.
#[track_caller]
pub(crate) fn violated(checked: Checked, words: &str) {
    match checked.verdict {
        Verdict::Violated(proof) => assert!(proof.contains(words), "{proof}"),
        Verdict::Valid | Verdict::Unknown(_) => panic!("{checked:?}"),
    }
}

/// Unknown, with the words in the reason.
#[track_caller]
pub(crate) fn unknown(checked: Checked, words: &str) {
    match checked.verdict {
        Verdict::Unknown(reason) => assert!(reason.contains(words), "{reason}"),
        Verdict::Valid | Verdict::Violated(_) => panic!("{checked:?}"),
    }
}

/// A fault that took effect, with a quorum left, after which the cluster recovered at once.
pub(crate) fn fault(name: &str, members: &[MemberIndex], began: Nanos, ended: Nanos) -> Fault {
    Fault {
        name: name.into(),
        members: members.to_vec(),
        detail: String::new(),
        began,
        ended,
        outage: 0,
        recovered: Some(ended + 1),
        evidence: Some("requests failed".into()),
        quorum_lives: true,
        hit_leader: false,
    }
}

/// What a simulated store is asked: f, key and value of a step.
pub(crate) type Asked = (&'static str, Option<String>, Value);

/// A store at work for eight processes, each step taking effect at one moment between its beginning
/// and its end: linearizable, whatever `asks` and `answers` are. One in twelve that are no reads
/// gets no answer, and has its effect at any later time or never; one in twelve fails.
/// `answers` gives the result, and `None` if the store refuses. A step's revision counts effects.
pub(crate) fn simulate<State: Default>(
    seed: u64,
    asks: impl Fn(&mut StdRng, usize) -> Asked,
    answers: impl Fn(&mut State, &Step, i64) -> Option<Value>,
) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut free_at: Vec<(Nanos, u64)> = (0..8).map(|process| (0, process)).collect();
    let mut planned = Vec::new();
    for at in 0..300 {
        let (f, key, value) = asks(&mut random, at);
        let place = random.random_range(0..free_at.len());
        let (free, process) = free_at[place];
        let began = free.max(at as Nanos * 10) + random.random_range(1..10);
        let ended = began + random.random_range(2..80);
        let mut step = Step { key, ..ok(f, value, Value::Null) }.by(process).at(began, ended);
        let mut effect = random.random_range(began..=ended);
        if !f.contains("read") {
            (step.kind, effect) = match random.random_range(0..24) {
                0 => (Kind::Info, Nanos::MAX),
                1 => (Kind::Info, began + random.random_range(1..1000)),
                2 | 3 => (Kind::Fail, Nanos::MAX),
                _ => (Kind::Ok, effect),
            };
        }
        free_at[place] = (ended, process + if step.kind == Kind::Info { 8 } else { 0 });
        planned.push((effect, step));
    }
    planned.sort_by_key(|(effect, _)| *effect);
    let mut state = State::default();
    for (at, (effect, step)) in planned.iter_mut().enumerate() {
        if *effect == Nanos::MAX {
            continue;
        }
        match answers(&mut state, step, at as i64 + 2) {
            Some(result) if step.kind == Kind::Ok => {
                step.result = result;
                step.revision = at as i64 + 2;
            }
            None if step.kind == Kind::Ok => step.kind = Kind::Fail,
            Some(_) | None => {}
        }
    }
    let mut steps: Vec<Step> = planned.into_iter().map(|(_, step)| step).collect();
    steps.sort_by_key(|step| step.ended);
    History { steps, ..History::default() }
}

/// The history of some steps one after the other, one of them exchanged for another.
pub(super) fn mutated(mut steps: Vec<Step>, at: usize, step: Step) -> History {
    steps[at] = step;
    sequence(steps)
}
