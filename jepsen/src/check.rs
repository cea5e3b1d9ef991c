//! Checkers: each reads a history and says what it found, with the proof in words.

pub mod always;
pub mod bank;
pub mod counter;
pub mod election;
mod findings;
pub mod lease;
pub mod lock;
pub mod register;
pub mod replay;
pub mod session;
pub mod set;
#[cfg(test)]
mod sketch;
pub mod transactions;
pub mod watch;
pub mod wgl;

use serde::{Deserialize, Serialize};

use crate::{history::History, workload::Workload};

pub(crate) use findings::Findings;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The checker: "replay", "linearizable".
    pub name: String,
    pub verdict: Verdict,
    /// Operations, reads, events or whatever else it looked at: a check of nothing is no check.
    pub checked: u64,
    /// What it measured, a line each.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Valid,
    /// Could not be decided, or nothing happened that could have shown a fault; with the reason.
    /// No pass.
    Unknown(String),
    /// A promise was broken; with the proof.
    Violated(String),
}

impl Verdict {
    /// The graver of two.
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (violated @ Verdict::Violated(_), _) | (_, violated @ Verdict::Violated(_)) => violated,
            (unknown @ Verdict::Unknown(_), _) | (_, unknown @ Verdict::Unknown(_)) => unknown,
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
        }
    }
}

/// Everything that must be true of a run: what always must, and what its workload is about.
pub fn all(history: &History, workload: Workload) -> Vec<Checked> {
    let mut checked = vec![replay::check(history), watch::check(history)];
    match workload {
        Workload::Register => checked.push(register::check(history)),
        Workload::Set => checked.push(set::check(history)),
        Workload::Counter => checked.push(counter::check(history)),
        Workload::Append => checked.push(transactions::check_append(history)),
        Workload::Wr => checked.push(transactions::check_wr(history)),
        Workload::Bank => checked.push(bank::check(history)),
        Workload::Lease => checked.push(lease::check(history)),
        Workload::LockFenced => checked.push(lock::check(history)),
        // What it is run for is that this one is violated.
        Workload::LockUnfenced => checked.push(lock::check_unfenced(history)),
        Workload::Session => checked.push(session::check(history)),
        Workload::Serializable => checked.push(session::check_serializable(history)),
        Workload::Election => checked.push(election::check(history)),
        // Replay and watch are what checks these.
        Workload::Mix | Workload::Watch => {}
    }
    checked.extend(always::check(history));
    checked
}
