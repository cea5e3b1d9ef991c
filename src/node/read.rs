//! Reading, as fresh as asked.

use crate::{node::Error, state_machine::View, types::Revision};

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Sees every write acknowledged before the request began. Costs a round to a quorum.
    Linearizable,
    /// Whatever this member has applied.
    Any,
}

/// Opens views of the state.
#[derive(Clone)]
pub struct Reader {}

impl Reader {
    pub async fn view(&self, freshness: Freshness) -> Result<View, Error> {
        let _ = freshness;
        unimplemented!()
    }

    /// Returns when this member no longer holds versions that a compaction at `floor` drops.
    pub async fn compacted(&self, floor: Revision) -> Result<(), Error> {
        let _ = floor;
        unimplemented!()
    }
}
