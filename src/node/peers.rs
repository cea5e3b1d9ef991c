//! What a member says to other members: whom it lets in, and what it answers them.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use prost::Message;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    cluster::Members,
    node::{Ended, Options, VersionPage, answer::Answers, spans},
    proto::{etcdserverpb::Member, peer},
    raft::{
        Incoming, PAYLOAD_BYTES_MAX,
        message::{AppendReply, Failed, Reply, Request, SnapshotReply, SnapshotStart},
        peers::{self, AppendRequests, Gate, Handler, Refusal, SnapshotChunks},
    },
    types::MemberId,
};

/// Lets in who is on the membership list, and who is off it while Raft still needs it.
pub(crate) struct MembersGate {
    members: watch::Receiver<Arc<Members>>,
    /// Set before anybody is let in.
    participants: OnceLock<watch::Receiver<BTreeSet<MemberId>>>,
    /// Told when another member says that there is no place for this one.
    ended: watch::Sender<Option<Ended>>,
}

impl MembersGate {
    pub(crate) fn new(
        members: watch::Receiver<Arc<Members>>,
        ended: watch::Sender<Option<Ended>>,
    ) -> MembersGate {
        MembersGate { members, participants: OnceLock::new(), ended }
    }

    pub(crate) fn know(&self, participants: watch::Receiver<BTreeSet<MemberId>>) {
        // It is told once.
        let _ = self.participants.set(participants);
    }

    fn takes_part(&self, member: MemberId) -> bool {
        self.participants.get().is_some_and(|participants| participants.borrow().contains(&member))
    }
}

impl Gate for MembersGate {
    /// A member that is not on the list is let in: the list may be behind, and the handshake has
    /// made sure that it was told our cluster's id.
    fn admit(&self, member: MemberId, incarnation: u64) -> Result<(), Refusal> {
        let members = self.members.borrow();
        if members.is_removed(member) && !self.takes_part(member) {
            return Err(Refusal::RemovedMember);
        }
        let mut known = members.rows.iter().chain(&members.removed);
        let row = known.find(|row| row.member.id == member.0);
        match row.and_then(|row| row.incarnation) {
            Some(known) if known != incarnation => Err(Refusal::IncarnationDiffers),
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&self, by: MemberId, refusal: &Refusal) {
        warn!(%by, %refusal, "another member does not let this one in");
        let ended = match refusal {
            Refusal::RemovedMember => Ended::Removed,
            Refusal::IncarnationDiffers => Ended::DataLost,
            // The other one may be wrong, or be set right.
            Refusal::WrongCluster
            | Refusal::WrongTarget
            | Refusal::WrongGroup
            | Refusal::UnknownMember
            | Refusal::NewerFormat
            | Refusal::Other(_) => return,
        };
        self.ended.send_replace(Some(ended));
    }
}

/// Answers other members: Raft's messages by Raft, the rest here.
pub(crate) struct MemberHandler {
    pub(crate) incoming: Incoming,
    pub(crate) answers: Answers,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    /// The version of etcd that this program stands in for.
    pub(crate) version: String,
}

impl MemberHandler {
    async fn call(&self, request: Bytes) -> Result<Bytes, Failed> {
        let request = peer::Request::decode(request).map_err(|error| Failed(error.to_string()))?;
        let mut request = request.request.ok_or(Failed("an unknown kind of request".into()))?;
        let answering = spans::of_answer(&mut request);
        let reply = peer::Reply { reply: Some(self.answers.answer(request).await) };
        drop(answering);
        Ok(Bytes::from(reply.encode_to_vec()))
    }
}

impl Handler for MemberHandler {
    fn answer(&self, _: MemberId, request: Request) -> BoxFuture<'_, Result<Reply, Failed>> {
        async move {
            Ok(match request {
                Request::Append(append) => Reply::Append(self.incoming.append(append).await?),
                Request::Vote(vote) => Reply::Vote(self.incoming.vote(vote).await?),
                Request::Transfer(order) => Reply::Transfer(self.incoming.transfer(order).await?),
                Request::Vacancy(vacancy) => Reply::Vacancy(self.incoming.vacancy(vacancy).await),
                Request::Confirm(confirm) => Reply::Confirm(self.incoming.confirm(confirm).await),
                Request::Call(call) => Reply::Call(self.call(call).await?),
            })
        }
        .boxed()
    }

    fn append_stream(
        &self,
        _: MemberId,
        requests: AppendRequests,
    ) -> BoxStream<'_, Result<AppendReply, Failed>> {
        self.incoming.append_stream(requests)
    }

    fn snapshot(
        &self,
        from: MemberId,
        start: SnapshotStart,
        chunks: SnapshotChunks,
    ) -> BoxFuture<'_, Result<SnapshotReply, Failed>> {
        self.incoming.snapshot(from, start, chunks).boxed()
    }

    fn version(&self) -> String {
        VersionPage::new(&self.version, self.members.borrow().versions).json()
    }

    fn members(&self) -> Vec<Member> {
        self.members.borrow().rows.iter().map(|row| row.member.clone()).collect()
    }
}

/// How a member connects to others.
pub(crate) fn connections(options: &Options, gate: Arc<MembersGate>) -> peers::Options {
    peers::Options {
        identity: peers::Identity {
            cluster: options.identity.cluster,
            member: options.identity.member,
            incarnation: options.incarnation,
            group: options.log.group,
        },
        network: options.network.clone(),
        tls: options.peer_tls.clone(),
        gate,
        dead_after: options.timing.election,
        payload_bytes_max: payload_bytes_max(options.limits.request_bytes),
        seed: options.seed,
    }
}

/// A batch of entries may hold as many bytes as one read of the log gives, or one request of the
/// largest size.
fn payload_bytes_max(request_bytes: usize) -> usize {
    PAYLOAD_BYTES_MAX.max(request_bytes.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Row;

    /// One is a member, two was removed and takes part still, three was removed and does not.
    fn gate() -> (MembersGate, watch::Receiver<Option<Ended>>) {
        let row = |id, incarnation| Row {
            member: Member { id, ..Member::default() },
            incarnation: Some(incarnation),
        };
        let members = Members {
            rows: vec![row(1, 11)],
            removed: vec![row(2, 22), row(3, 33)],
            ..Members::default()
        };
        let (ended, told) = watch::channel(None);
        let gate = MembersGate::new(watch::channel(Arc::new(members)).1, ended);
        gate.know(watch::channel(BTreeSet::from([MemberId(1), MemberId(2)])).1);
        (gate, told)
    }

    #[test]
    fn a_removed_member_is_let_in_while_raft_needs_it() {
        let (gate, _) = gate();
        #[track_caller]
        fn check(gate: &MembersGate, member: u64, incarnation: u64, verdict: Result<(), Refusal>) {
            assert_eq!(gate.admit(MemberId(member), incarnation), verdict);
        }
        check(&gate, 1, 11, Ok(()));
        check(&gate, 1, 12, Err(Refusal::IncarnationDiffers));
        check(&gate, 2, 22, Ok(()));
        check(&gate, 2, 23, Err(Refusal::IncarnationDiffers));
        check(&gate, 3, 33, Err(Refusal::RemovedMember));
        check(&gate, 9, 99, Ok(()));
    }

    #[test]
    fn a_member_without_a_place_ends() {
        #[track_caller]
        fn check(refusal: Refusal, expected: Option<Ended>) {
            let (gate, told) = gate();
            gate.refused(MemberId(1), &refusal);
            assert_eq!(*told.borrow(), expected);
        }
        check(Refusal::RemovedMember, Some(Ended::Removed));
        check(Refusal::IncarnationDiffers, Some(Ended::DataLost));
        check(Refusal::WrongCluster, None);
    }
}
