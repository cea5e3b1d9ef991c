//! Is there an order of the operations in which each has the answer that it got, and in which none
//! comes before one that was over when it began? The search of Wing and Gong with Lowe's memory of
//! configurations; it trusts no revision.
//!
//! Three things keep the search small. A read that fits is put next at once: whatever order there
//! is, it may as well stand here. An operation of unknown outcome is only put where it makes a
//! difference to the one after it, since it may also have had no effect. And a configuration is
//! given up when one with the same operations done, the same state, and fewer unknown ones used up
//! was tried already.

mod search;

use std::{fmt::Debug, hash::Hash, time::Duration};

use search::Search;

use crate::history::Nanos;

/// What operations do to one object, alone.
pub trait Model {
    /// What was asked together with what was answered.
    type Operation: Clone + Debug + PartialEq;
    type State: Clone + Debug + Eq + Hash;

    fn initial(&self) -> Self::State;

    /// The state after it; `None` if it can't have been answered so in this state. Of an operation
    /// of unknown outcome: the state after its effect, `None` if it has none in this state.
    fn apply(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether it leaves every state in which it fits as it was.
    fn is_read(&self, operation: &Self::Operation) -> bool;
}

/// An operation and when it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed<Operation> {
    pub operation: Operation,
    pub began: Nanos,
    /// `None` where nobody knows what became of it: it may take effect at any time or never.
    pub ended: Option<Nanos>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// Neither could be shown within the limits; with the reason.
    Unknown(String),
    Violated(Proof),
}

/// Why there is no such order. The numbers are places among the operations that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The longest order that was found.
    pub longest: Vec<usize>,
    /// The state after it.
    pub state: String,
    /// The operation that had to come in next, being the first to be over.
    pub stuck: usize,
    /// All operations of known outcome that could have come next by their times: none fits, or
    /// what fits leads no further.
    pub next: Vec<usize>,
}

/// Looks for such an order for as long as `limit`.
pub fn linearize<M: Model>(
    model: &M,
    operations: &[Timed<M::Operation>],
    limit: Duration,
) -> Answer {
    Search::new(model, operations).run(limit)
}

#[cfg(test)]
mod tests;
