//! Answering what members ask of the leader, over the wire or in this very process.

use crate::{
    node::keeper::LeaseKeeper,
    proto::peer::{
        LeaseRenewReply, LeaseTimeToLiveReply, MemberPromoteReply, NotLeader, Propose,
        ProposeReply, ReadIndexReply, reply::Reply, request::Request,
    },
    raft::{ProposeError, Raft, ReadError},
    types::{LeaseId, MemberId},
};

/// What the leader knows and can do. Clones share it.
#[derive(Clone)]
pub(crate) struct Answers {
    raft: Raft,
    keeper: LeaseKeeper,
}

impl Answers {
    pub(crate) fn new(raft: Raft, keeper: LeaseKeeper) -> Answers {
        Answers { raft, keeper }
    }

    pub(crate) async fn answer(&self, request: Request) -> Reply {
        let not_leader = Reply::NotLeader(NotLeader {});
        match request {
            Request::Propose(propose) => Reply::Propose(self.propose(propose).await),
            Request::ReadIndex(_) => match self.raft.read_index().await {
                Ok(index) => Reply::ReadIndex(ReadIndexReply { index }),
                Err(ReadError::NotLeader | ReadError::NoQuorum | ReadError::Stopped) => not_leader,
            },
            Request::LeaseRenew(renew) => match self.renew(renew.id).await {
                Some(ttl) => Reply::LeaseRenew(LeaseRenewReply { ttl }),
                None => not_leader,
            },
            Request::LeaseTimeToLive(ask) => match self.time_to_live(ask.id) {
                Some(answer) => Reply::LeaseTimeToLive(answer),
                None => not_leader,
            },
            Request::MemberPromote(promote) => {
                match self.raft.learner_is_ready(MemberId(promote.id)) {
                    Some(ready) => Reply::MemberPromote(MemberPromoteReply { ready }),
                    None => not_leader,
                }
            }
        }
    }

    async fn propose(&self, propose: Propose) -> ProposeReply {
        let fates = self.raft.propose(propose.commands).await;
        let mut reply = ProposeReply::default();
        for (position, fate) in (0u32..).zip(fates) {
            match fate {
                Ok(()) => (),
                Err(ProposeError::NotLeader) => reply.refused.push(position),
                Err(ProposeError::Unknown) => reply.unknown.push(position),
            }
        }
        reply
    }

    /// The granted seconds, 0 when the lease is gone; `None` when this member does not lead.
    async fn renew(&self, id: i64) -> Option<i64> {
        let Some(id) = LeaseId::from_wire(id) else { return Some(0) };
        self.keeper.renew(id).await
    }

    fn time_to_live(&self, id: i64) -> Option<LeaseTimeToLiveReply> {
        let gone = LeaseTimeToLiveReply { gone: true, ..Default::default() };
        let Some(id) = LeaseId::from_wire(id) else { return Some(gone) };
        Some(match self.keeper.time_to_live(id)? {
            None => gone,
            Some((remaining_secs, granted_secs)) => {
                LeaseTimeToLiveReply { gone: false, remaining_secs, granted_secs }
            }
        })
    }
}
