//! One running member: the handles that services hold, and the one place where all parts meet.

mod announce;
mod answer;
mod ask;
pub mod auto_compaction;
mod background;
mod compaction;
mod consistency;
mod corruption;
pub mod credentials;
pub mod data_dir;
mod error;
mod freshness;
mod hashes;
mod introduce;
mod keeper;
mod leases;
mod membership;
mod metered_files;
mod operation;
mod peers;
mod placement;
mod propose;
mod read;
mod reconcile;
mod regions;
mod replies;
mod rounds;
mod saver;
pub mod space;
pub(crate) mod spans;
mod start;
mod status;
mod told;
mod tuning;
mod versions;

pub use consistency::Consistency;
pub use corruption::{CorruptionRules, Inconsistent};
pub use credentials::{Credentials, Standing, Who};
pub use error::Error;
pub use freshness::Bound;
pub use leases::{Leases, TimeToLive};
pub use membership::{Membership, MembershipRules};
pub use operation::Operation;
pub use propose::{Limits, Proposer};
pub use read::{Fresh, Freshness, Reader};
pub use regions::Regions;
pub use saver::{Chunk, Saved, Saver};
pub use space::{Space, SpaceRules};
pub use start::{Ended, Options, Running};
pub use status::{Status, StatusHandle};
pub use tuning::Tuning;
pub use versions::{Downgrades, VersionPage};

pub use crate::cluster::Labels;
use crate::types::{ClusterId, MemberId};
pub use crate::watch::{Counts as WatchCounts, Session as WatchSession, WatchHub};

/// Who asks; without authentication everybody is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Empty for nobody.
    pub user: String,
    /// Auth revision that the caller's credentials were checked at.
    pub auth_revision: u64,
}

/// Which member of which cluster this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub member: MemberId,
}

/// The handles of a running member. Clones share them.
#[derive(Clone)]
pub struct Node {
    pub identity: Identity,
    /// Where this member stands, as its flags say.
    pub labels: Labels,
    pub proposer: Proposer,
    pub reader: Reader,
    pub watch: WatchHub,
    pub leases: Leases,
    pub membership: Membership,
    pub regions: Regions,
    pub downgrades: Downgrades,
    pub saver: Saver,
    pub status: StatusHandle,
    pub space: Space,
    pub credentials: Credentials,
}
