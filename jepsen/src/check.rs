//! Checkers: each reads a history and says what it found, with the proof in words.

pub mod always;
pub mod bank;
pub mod counter;
pub mod election;
mod findings;
pub mod lock;
pub mod register;
pub mod session;
pub mod set;
#[cfg(test)]
mod sketch;
pub mod transactions;
pub mod wgl;

use serde::{Deserialize, Serialize};

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
