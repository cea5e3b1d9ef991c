//! Positions in the Raft log and votes, in the form that the log files and the wire use.

/// Names one entry of the Raft log: who wrote it, in which term, and where it stands.
///
/// Ordered by term, then writer, then index; committed entries are ordered by index alone as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    pub term: u64,
    /// The leader that wrote the entry.
    pub node: u64,
    pub index: u64,
}

/// Whom this member follows: the leader or candidate of the highest term that it has seen.
///
/// A member must never forget a vote that it gave, or one term could have two leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    pub term: u64,
    pub node: u64,
    /// A quorum has granted this vote, so `node` is the leader of the term.
    pub committed: bool,
}
