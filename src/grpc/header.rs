//! Response headers: who answered, in which term, at which revision.

use crate::{
    node::{Error, Freshness, Identity, Node, Reader, StatusHandle},
    proto::etcdserverpb::ResponseHeader,
    types::Revision,
};

/// Fills headers in. The state machine sets the revision; only the edge knows the rest.
#[derive(Clone)]
pub(crate) struct Header {
    identity: Identity,
    status: StatusHandle,
    reader: Reader,
}

impl Header {
    pub(crate) fn new(node: &Node) -> Header {
        Header { identity: node.identity, status: node.status.clone(), reader: node.reader.clone() }
    }

    /// Keeps the revision that is there.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(filled(self.identity, self.status.term(), revision));
    }

    pub(crate) fn at(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(filled(self.identity, self.status.term(), revision.get()))
    }

    /// At the newest revision that this member has applied.
    pub(crate) async fn now(&self) -> Result<Option<ResponseHeader>, Error> {
        let view = self.reader.view(Freshness::Any).await?;
        Ok(self.at(view.keys().revision()))
    }

    /// For answers that are not about the key space.
    pub(crate) fn without_revision(&self) -> Option<ResponseHeader> {
        Some(filled(self.identity, self.status.term(), 0))
    }
}

fn filled(identity: Identity, raft_term: u64, revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: identity.cluster.0,
        member_id: identity.member.0,
        revision,
        raft_term,
    }
}
