//! The list of members: who belongs to the cluster, where to reach them, who votes.

pub mod ids;
pub mod table;

mod rules;
mod versions;

use std::collections::BTreeMap;

use crate::{
    proto::etcdserverpb::Member,
    storage::{self, Rows},
    types::{ClusterId, MemberId, Version},
};

pub use crate::proto::command::Labels;
pub use versions::Versions;

/// The membership list at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// `None` before the cluster's first command was applied.
    pub cluster: Option<ClusterId>,
    /// Sorted by id.
    pub rows: Vec<Row>,
    /// Members whose ids may never come back, as they were when they were removed: Raft may need
    /// them until its own membership has followed. Sorted by id.
    pub removed: Vec<Row>,
    pub versions: Versions,
    /// Of the members that have any.
    pub labels: BTreeMap<MemberId, Labels>,
}

/// What a member that says nothing of it has.
static NO_LABELS: Labels = Labels { region: String::new(), zone: String::new() };

/// One member with what the cluster alone knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub member: Member,
    /// Made with the member's data directory; `None` until the member has published itself.
    pub incarnation: Option<u64>,
}

impl Members {
    pub fn read(rows: &dyn Rows) -> Result<Members, storage::Error> {
        table::read(rows)
    }

    pub fn get(&self, id: MemberId) -> Option<&Row> {
        self.rows.iter().find(|row| row.member.id == id.0)
    }

    pub fn removed(&self, id: MemberId) -> Option<&Row> {
        self.removed.iter().find(|row| row.member.id == id.0)
    }

    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed(id).is_some()
    }

    /// Where the member stands; empty where it has not said so.
    pub fn labels(&self, id: MemberId) -> &Labels {
        self.labels.get(&id).unwrap_or(&NO_LABELS)
    }

    /// The list as clients see it.
    pub fn list(&self) -> Vec<Member> {
        self.rows.iter().map(|row| row.member.clone()).collect()
    }
}

/// Why a change of the list was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// etcd: "member not found".
    NotFound(MemberId),
    /// etcd: "member ID already exist". Removed ids count.
    IdExists(MemberId),
    /// etcd: "Peer URLs already exists".
    PeerUrlExists,
    /// etcd: "re-configuration failed due to not enough started members".
    NotEnoughStarted,
    /// etcd: "too many learner members in cluster".
    TooManyLearners,
    /// etcd: "can only promote a learner member".
    NotLearner(MemberId),
    /// The member came back with another data directory: it may have forgotten votes that it gave.
    OtherIncarnation(MemberId),
    /// The cluster's version is not the one that a new one was to follow.
    VersionChanged,
    /// etcd: "cluster version not found during downgrade".
    VersionUnknown,
    /// etcd: "invalid downgrade target version".
    InvalidDowngradeTarget(Version),
    /// etcd: "cluster has a downgrade job in progress".
    DowngradeInProgress,
    /// etcd: "no inflight downgrade job".
    NoDowngrade,
}
