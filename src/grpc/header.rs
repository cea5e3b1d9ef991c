//! Response headers: who answered, in which term, at which revision.

use crate::{
    node::{Identity, Node, StatusHandle},
    proto::etcdserverpb::ResponseHeader,
};

/// Fills headers in.
#[derive(Clone)]
pub(crate) struct Header {
    identity: Identity,
    status: StatusHandle,
}

impl Header {
    pub(crate) fn new(node: &Node) -> Header {
        Header { identity: node.identity, status: node.status.clone() }
    }

    /// Keeps the revision that is there.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        *header = Some(ResponseHeader {
            cluster_id: self.identity.cluster.0,
            member_id: self.identity.member.0,
            revision: header.as_ref().map_or(0, |header| header.revision),
            raft_term: self.status.term(),
        });
    }
}
