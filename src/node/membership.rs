//! Changing who belongs to the cluster.

use crate::{node::Error, proto::etcdserverpb::Member, types::MemberId};

#[derive(Clone)]
pub struct Membership {}

impl Membership {
    /// The list, as this member has it or as a quorum has it.
    pub async fn list(&self, linearizable: bool) -> Result<Vec<Member>, Error> {
        let _ = linearizable;
        unimplemented!()
    }

    /// The new member, and the list with it. Peer URLs have been checked.
    pub async fn add(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        let _ = (peer_urls, learner);
        unimplemented!()
    }

    pub async fn remove(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let _ = id;
        unimplemented!()
    }

    pub async fn update(&self, id: MemberId, peer_urls: Vec<String>) -> Result<Vec<Member>, Error> {
        let _ = (id, peer_urls);
        unimplemented!()
    }

    pub async fn promote(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Hands leadership to another voter. Only the leader can.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        let _ = to;
        unimplemented!()
    }
}
