//! What a prober asked and how it ended.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::types::Level;

/// A request that has taken longer has failed, whatever it is told later: Cosmos DB's rule.
pub(crate) const FAILED_AFTER: Duration = Duration::from_secs(5);

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Act {
    Write,
    Read(Level),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Write => f.write_str("write"),
            Act::Read(level) => write!(f, "{} read", level.name()),
        }
    }
}

/// How a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Within [`FAILED_AFTER`].
    Done,
    /// An error, or too late.
    Failed,
    /// Refused for what was asked: it says nothing of the service, and does not count.
    Excluded,
}

/// One request. Times are nanoseconds since the run began, by the prober's monotonic clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Where it was asked, as a place in the run's list of regions.
    pub(crate) region: usize,
    pub(crate) act: Act,
    /// The key, as a place in the run's list of keys.
    pub(crate) key: usize,
    /// When it was to be sent; latency counts from here.
    pub(crate) due: u64,
    pub(crate) sent: u64,
    pub(crate) ended: u64,
    pub(crate) outcome: Outcome,
    /// The counter that was written or read; 0 for a key that is not there. `None` where a read
    /// has told nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) counter: Option<u64>,
    /// Of the answer's header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) revision: Option<i64>,
    /// The least revision that a session read asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) token: Option<i64>,
    /// Code and text of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) error: Option<String>,
}

impl Probe {
    /// From when it was due, so that a prober that is held up hides nothing.
    pub(crate) fn took(&self) -> u64 {
        self.ended.saturating_sub(self.due)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outcome == Outcome::Done
    }
}
