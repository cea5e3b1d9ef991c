//! Answering what members ask of the leader, over the wire or in this very process.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    node::{corruption, hashes::Hashes, keeper::LeaseKeeper, placement::Placement},
    proto::peer::{
        CampaignReply, LeaseOrderReply, LeaseRenewReply, LeaseTimeToLiveReply, MemberPromoteReply,
        MembersSeenReply, NotLeader, Propose, ProposeReply, ReadIndexReply, Trace, Versions,
        reply::Reply, request::Request,
    },
    raft::{ProposeError, Raft, ReadError},
    types::{LeaseId, MemberId, TraceContext},
};

/// Entries that may be committed and not yet applied before new proposals are refused, as in etcd.
const APPLY_GAP_MAX: u64 = 5000;

/// Bytes of commands between the leader's log and their replies, whoever proposed them. Bounds what
/// the log holds in memory while its disk is slow; two members' worth of what one may have under
/// way.
const BYTES_PROPOSED_MAX: usize = 128 << 20;

/// What the leader knows and can do. Clones share it.
#[derive(Clone)]
pub(crate) struct Answers {
    raft: Raft,
    keeper: LeaseKeeper,
    hashes: Hashes,
    placement: Placement,
    proposed: Arc<Semaphore>,
    /// The version of etcd that this program stands in for.
    server: Arc<str>,
}

impl Answers {
    pub(crate) fn new(
        raft: Raft,
        keeper: LeaseKeeper,
        hashes: Hashes,
        placement: Placement,
        server: &str,
    ) -> Answers {
        let proposed = Arc::new(Semaphore::new(BYTES_PROPOSED_MAX));
        Answers { raft, keeper, hashes, placement, proposed, server: server.into() }
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
            Request::LeaseTimeToLive(ask) => match self.time_to_live(ask.id).await {
                Some(answer) => Reply::LeaseTimeToLive(answer),
                None => not_leader,
            },
            Request::LeaseOrder(_) => match self.keeper.by_deadline().await {
                Some(ids) => {
                    let ids = ids.into_iter().map(LeaseId::get).collect();
                    Reply::LeaseOrder(LeaseOrderReply { ids })
                }
                None => not_leader,
            },
            Request::HashKv(ask) => {
                Reply::HashKv(corruption::answer(&self.hashes, ask.revision).await)
            }
            Request::MemberPromote(promote) => {
                match self.raft.learner_is_ready(MemberId(promote.id)) {
                    Some(ready) => Reply::MemberPromote(MemberPromoteReply { ready }),
                    None => not_leader,
                }
            }
            Request::RegionLead(ask) => match self.placement.lead_from(&ask.region).await {
                Some(reply) => Reply::RegionLead(reply),
                None => not_leader,
            },
            Request::MembersSeen(_) => match self.placement.members_seen() {
                Some(members) => Reply::MembersSeen(MembersSeenReply { members }),
                None => not_leader,
            },
            Request::Campaign(_) => {
                Reply::Campaign(CampaignReply { leads: self.placement.campaign().await })
            }
            Request::Versions(_) => Reply::Versions(Versions { server: self.server.to_string() }),
        }
    }

    async fn propose(&self, propose: Propose) -> ProposeReply {
        if self.raft.apply_gap() > APPLY_GAP_MAX {
            return ProposeReply { overloaded: true, ..Default::default() };
        }
        // Whoever proposes has a time limit of its own, and its own bound on what it has under way.
        let bytes: usize = propose.commands.iter().map(Bytes::len).sum();
        let bytes = u32::try_from(bytes.min(BYTES_PROPOSED_MAX)).unwrap_or(u32::MAX);
        let _admitted = self.proposed.acquire_many(bytes).await.ok();
        let fates = self.raft.propose(propose.commands, traces(&propose.traces)).await;
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

    async fn time_to_live(&self, id: i64) -> Option<LeaseTimeToLiveReply> {
        let gone = LeaseTimeToLiveReply { gone: true, ..Default::default() };
        let Some(id) = LeaseId::from_wire(id) else { return Some(gone) };
        Some(match self.keeper.time_to_live(id).await? {
            None => gone,
            Some((remaining_secs, granted_secs)) => {
                LeaseTimeToLiveReply { gone: false, remaining_secs, granted_secs }
            }
        })
    }
}

/// The commands whose traces are recorded, with the spans of this process that they follow from.
fn traces(traces: &[Trace]) -> Vec<(usize, TraceContext)> {
    let known = |trace: &Trace| {
        let position = usize::try_from(trace.position).ok()?;
        Some((position, TraceContext::decode(&trace.context)?.as_local()))
    };
    traces.iter().filter_map(known).collect()
}
