//! Histories in short, for the tests of checkers.

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
        recovered: Some(ended + 1),
        evidence: Some("requests failed".into()),
        quorum_lives: true,
        hit_leader: false,
    }
}
