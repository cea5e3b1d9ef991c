//! What a member says to other members: whom it lets in, and what it answers them.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use prost::Message;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    cluster::Members,
    node::answer::Answers,
    proto::{
        etcdserverpb::Member,
        peer::{Reply, Request},
    },
    raft::{
        Incoming,
        message::{
            AppendReply, AppendRequest, Failed, SnapshotReply, SnapshotStart, TransferReply,
            TransferRequest, VoteReply, VoteRequest,
        },
        peers::{AppendRequests, Gate, Handler, Refusal, SnapshotChunks},
    },
    types::MemberId,
};

/// Lets in who is on the membership list.
pub(crate) struct MembersGate {
    members: watch::Receiver<Arc<Members>>,
    /// Told when another member says that this one has been removed.
    removed: watch::Sender<bool>,
}

impl MembersGate {
    pub(crate) fn new(
        members: watch::Receiver<Arc<Members>>,
        removed: watch::Sender<bool>,
    ) -> MembersGate {
        MembersGate { members, removed }
    }
}

impl Gate for MembersGate {
    /// A member that is not on the list is let in: the list may be behind, and the handshake has made sure
    /// that it was told our cluster's id.
    fn admit(&self, member: MemberId, incarnation: u64) -> Result<(), Refusal> {
        let members = self.members.borrow();
        if members.removed.contains(&member) {
            return Err(Refusal::RemovedMember);
        }
        let row = members.rows.iter().find(|row| row.member.id == member.0);
        match row.and_then(|row| row.incarnation) {
            Some(known) if known != incarnation => Err(Refusal::IncarnationDiffers),
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&self, by: MemberId, refusal: &Refusal) {
        warn!(%by, %refusal, "another member does not let this one in");
        if matches!(refusal, Refusal::RemovedMember) {
            self.removed.send_replace(true);
        }
    }
}

/// Answers other members: Raft's messages by Raft, the rest here.
pub(crate) struct MemberHandler {
    pub(crate) incoming: Incoming,
    pub(crate) answers: Answers,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    /// The JSON body of `/version`.
    pub(crate) version: String,
}

impl Handler for MemberHandler {
    fn vote(&self, _: MemberId, request: VoteRequest) -> BoxFuture<'_, Result<VoteReply, Failed>> {
        self.incoming.vote(request).boxed()
    }

    fn append(
        &self,
        _: MemberId,
        request: AppendRequest,
    ) -> BoxFuture<'_, Result<AppendReply, Failed>> {
        self.incoming.append(request).boxed()
    }

    fn append_stream(
        &self,
        _: MemberId,
        requests: AppendRequests,
    ) -> BoxStream<'_, Result<AppendReply, Failed>> {
        self.incoming.append_stream(requests)
    }

    fn transfer(
        &self,
        _: MemberId,
        request: TransferRequest,
    ) -> BoxFuture<'_, Result<TransferReply, Failed>> {
        self.incoming.transfer(request).boxed()
    }

    fn call(&self, _: MemberId, request: Bytes) -> BoxFuture<'_, Result<Bytes, Failed>> {
        async move {
            let request = Request::decode(request).map_err(|error| Failed(error.to_string()))?;
            let request = request.request.ok_or(Failed("an unknown kind of request".into()))?;
            let reply = Reply { reply: Some(self.answers.answer(request).await) };
            Ok(Bytes::from(reply.encode_to_vec()))
        }
        .boxed()
    }

    fn snapshot(
        &self,
        _: MemberId,
        start: SnapshotStart,
        chunks: SnapshotChunks,
    ) -> BoxFuture<'_, Result<SnapshotReply, Failed>> {
        self.incoming.snapshot(start, chunks).boxed()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn members(&self) -> Vec<Member> {
        self.members.borrow().rows.iter().map(|row| row.member.clone()).collect()
    }
}
