//! What a member knows of itself, for Status, health and metrics.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    alarm::Alarms,
    cluster::{Labels, Members, Versions},
    node::Identity,
    raft::{Leadership, Raft},
    storage::{Sizes, Storage},
    types::MemberId,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `None` while leaderless; a leader without a quorum for one election timeout counts as none.
    pub leader: Option<MemberId>,
    pub term: u64,
    /// Index of the newest committed entry that this member knows of.
    pub committed_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
    pub sizes: Sizes,
    /// `quota-backend-bytes` in force.
    pub quota_bytes: i64,
    pub versions: Versions,
    pub alarms: Arc<Alarms>,
}

/// Tells the status of a running member. Clones share it.
#[derive(Clone)]
pub struct StatusHandle {
    raft: Raft,
    storage: Storage,
    identity: Identity,
    members: watch::Receiver<Arc<Members>>,
    alarms: watch::Receiver<Arc<Alarms>>,
    quota_bytes: i64,
}

impl StatusHandle {
    pub(crate) fn new(
        raft: Raft,
        storage: Storage,
        identity: Identity,
        (members, alarms): (watch::Receiver<Arc<Members>>, watch::Receiver<Arc<Alarms>>),
        quota_bytes: i64,
    ) -> StatusHandle {
        StatusHandle { raft, storage, identity, members, alarms, quota_bytes }
    }

    pub fn now(&self) -> Status {
        let Leadership { leader, term } = *self.raft.leadership().borrow();
        Status {
            leader,
            term,
            committed_index: self.raft.committed_index(),
            applied_index: self.raft.applied().index(),
            is_learner: self.is_learner(),
            sizes: self.storage.sizes(),
            quota_bytes: self.quota_bytes,
            versions: self.versions(),
            alarms: self.alarms(),
        }
    }

    /// Views of the store that are open now.
    pub fn open_views(&self) -> u64 {
        self.storage.open_snapshots()
    }

    /// Which history of the cluster this is: revisions of another one mean nothing here. There is
    /// one so far, as no recovery gives up what was acknowledged.
    pub fn epoch(&self) -> u64 {
        0
    }

    /// What the members have agreed on, as far as this one has applied it.
    pub fn versions(&self) -> Versions {
        self.members.borrow().versions
    }

    /// Where a member stands, as far as this one has applied what it said.
    pub fn labels(&self, of: MemberId) -> Labels {
        self.members.borrow().labels(of).clone()
    }

    /// The alarms that are active as far as this member knows.
    pub fn alarms(&self) -> Arc<Alarms> {
        self.alarms.borrow().clone()
    }

    /// The Raft term, for headers.
    pub fn term(&self) -> u64 {
        self.raft.leadership().borrow().term
    }

    /// As [`Status::is_learner`], which is what the list says: a voter that was added serves
    /// clients while Raft still waits for it to catch up. Asked for every call, so cheap.
    pub fn is_learner(&self) -> bool {
        let members = self.members.borrow();
        members.get(self.identity.member).is_some_and(|row| row.member.is_learner)
    }

    /// Who leads, by the same rule as [`Status::leader`]; changes are announced.
    pub fn leader(&self) -> watch::Receiver<Option<MemberId>> {
        self.raft.leader()
    }
}
