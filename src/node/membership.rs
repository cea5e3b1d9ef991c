//! Changing who belongs to the cluster.
//!
//! The membership list is replicated state like any other; Raft's own membership follows it. A
//! command changes the list, and the leader then brings Raft's voters and learners in line with it,
//! one step at a time (`reconcile.rs`). So an added voter counts for quorums only once it has
//! caught up.

use std::time::{Duration, SystemTime};

use crate::{
    cluster::{self, Members},
    node::{
        Error, Identity,
        ask::{AskError, Leader},
        propose::Proposer,
        read::{Freshness, Reader},
    },
    proto::{
        command::{MemberAdd, command::Operation},
        etcdserverpb::{Member, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest},
        peer::{self, reply, request},
    },
    raft::Raft,
    state_machine::{Rejection, Reply},
    telemetry::METERS,
    types::MemberId,
};

/// Rules of the cluster that flags set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipRules {
    /// etcd's max-learners.
    pub max_learners: u64,
    /// etcd's strict-reconfig-check.
    pub strict: bool,
}

/// The membership list and its changes. Clones share everything.
#[derive(Clone)]
pub struct Membership {
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) leader: Leader,
    pub(crate) proposer: Proposer,
    pub(crate) reader: Reader,
    pub(crate) rules: MembershipRules,
    pub(crate) timeout: Duration,
}

/// A voter must have been connected for so long to count as healthy, as in etcd.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

impl Membership {
    /// The list, as this member has it or as a quorum has it.
    ///
    /// # Errors
    /// No leader could be asked in time, or the store can't be read.
    pub async fn list(&self, linearizable: bool) -> Result<Vec<Member>, Error> {
        let freshness = if linearizable { Freshness::Linearizable } else { Freshness::Any };
        let members = self.reader.view(freshness).await?.members()?;
        Ok(members.rows.into_iter().map(|row| row.member).collect())
    }

    /// The new member, and the list with it. Peer URLs have been checked.
    ///
    /// # Errors
    /// The change was refused, or its outcome is unknown.
    pub async fn add(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        self.may_add(learner).await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // etcd has no token here: the time tells this member from all that were ever added.
        let id = cluster::ids::member_id(&peer_urls, "", now.ok().map(|now| now.as_secs()));
        let member =
            Member { id: id.0, peer_ur_ls: peer_urls, is_learner: learner, ..Default::default() };
        let add = MemberAdd {
            member: Some(member),
            max_learners: self.rules.max_learners,
            strict: self.rules.strict,
        };
        self.change(Operation::MemberAdd(add)).await
    }

    /// The list without the member.
    ///
    /// # Errors
    /// The change was refused, or its outcome is unknown.
    pub async fn remove(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        self.may_remove(id).await?;
        let remove = Operation::MemberRemove(MemberRemoveRequest { id: id.0 });
        let (_, members) = self.change(remove).await?;
        self.until_voter(id, false).await?;
        Ok(members)
    }

    /// The list with the member's new peer URLs.
    ///
    /// # Errors
    /// The change was refused, or its outcome is unknown.
    pub async fn update(&self, id: MemberId, peer_urls: Vec<String>) -> Result<Vec<Member>, Error> {
        let update = MemberUpdateRequest { id: id.0, peer_ur_ls: peer_urls };
        self.change(Operation::MemberUpdate(update)).await.map(|(_, members)| members)
    }

    /// The list with the learner as a voter.
    ///
    /// # Errors
    /// The learner is not in sync, the change was refused, or its outcome is unknown.
    pub async fn promote(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let promoted = self.promote_if_ready(id).await;
        match &promoted {
            Ok(_) => {
                METERS.raft.promotions.inc();
            }
            // Which member it was about is no kind of failure.
            Err(Error::Rejected(_)) => METERS.raft.promotion_failed("refused"),
            Err(error) => METERS.raft.promotion_failed(&error.to_string()),
        }
        promoted
    }

    async fn promote_if_ready(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let members = self.reader.view(Freshness::Linearizable).await?.members()?;
        let row = members.rows.iter().find(|row| row.member.id == id.0);
        match row {
            None => return Err(rejected(cluster::Rejection::NotFound(id))),
            Some(row) if !row.member.is_learner => {
                return Err(rejected(cluster::Rejection::NotLearner(id)));
            }
            Some(_) => (),
        }
        let ask = request::Request::MemberPromote(peer::MemberPromote { id: id.0 });
        match self.leader.ask(ask, self.timeout).await {
            Ok(reply::Reply::MemberPromote(reply)) if reply.ready => (),
            Ok(reply::Reply::MemberPromote(_)) => return Err(Error::LearnerNotReady),
            Ok(_) | Err(AskError::ConnectionLost) => return Err(Error::LeaderChanged),
            Err(AskError::NoLeader) => return Err(Error::NoLeader),
            Err(AskError::Timeout) => return Err(Error::Timeout),
        }
        if self.rules.strict && !members.is_ready_to_promote() {
            return Err(rejected(cluster::Rejection::NotEnoughStarted));
        }
        let promote = Operation::MemberPromote(MemberPromoteRequest { id: id.0 });
        let (_, members) = self.change(promote).await?;
        self.until_voter(id, true).await?;
        Ok(members)
    }

    /// Waits until Raft has followed the list: whoever is told that a member votes now, or does not
    /// any more, may count on it, and stop another one.
    async fn until_voter(&self, id: MemberId, votes: bool) -> Result<(), Error> {
        let settled = tokio::time::timeout(self.timeout, self.raft.until_voter(id, votes)).await;
        settled.map_err(|_| Error::Timeout)?.ok_or(Error::Stopped)
    }

    /// Hands leadership to another voter. Only the leader can.
    ///
    /// # Errors
    /// This member does not lead, `to` can't, or `to` did not take over in time.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        let leader = self.raft.leadership().borrow().leader.ok_or(Error::NoLeader)?;
        if leader != self.identity.member {
            return Err(Error::NotLeader);
        }
        if to == self.identity.member {
            return Ok(());
        }
        if !self.raft.voters().contains(&to) {
            return Err(Error::BadTransferee);
        }
        self.raft.transfer_leader(to, self.timeout).await.map_err(|_| Error::TransferTimeout)
    }

    async fn change(&self, operation: Operation) -> Result<(Member, Vec<Member>), Error> {
        match self.proposer.command(operation).await?.0 {
            Reply::Members { member, members } => Ok((member, members)),
            _ => Err(Error::Stopped),
        }
    }

    /// Refuses to add to a cluster that would be without a quorum if the new member did not come,
    /// as etcd does. One that is alone can always grow.
    async fn may_add(&self, learner: bool) -> Result<(), Error> {
        if !self.rules.strict {
            return Ok(());
        }
        let members = self.reader.view(Freshness::Linearizable).await?.members()?;
        if !learner && !members.is_ready_to_add_voter() {
            return Err(rejected(cluster::Rejection::NotEnoughStarted));
        }
        let (healthy, voters) = self.healthy_voters(&members);
        let with_another = voters + 1;
        if voters == 1 || healthy > with_another / 2 { Ok(()) } else { Err(Error::Unhealthy) }
    }

    /// Refuses to remove a voter that the others need for a quorum, as etcd does.
    async fn may_remove(&self, id: MemberId) -> Result<(), Error> {
        if !self.rules.strict {
            return Ok(());
        }
        let members = self.reader.view(Freshness::Linearizable).await?.members()?;
        if members.get(id).is_none_or(|row| row.member.is_learner) {
            return Ok(()); // of an unknown one, applying says so
        }
        if !members.is_ready_to_remove(id) {
            return Err(rejected(cluster::Rejection::NotEnoughStarted));
        }
        if !self.is_connected_for(id, Duration::ZERO) {
            return Ok(()); // it is no part of the quorum that works
        }
        let (healthy, voters) = self.healthy_voters(&members);
        let quorum_of_the_others = (voters - 1) / 2 + 1;
        if healthy > quorum_of_the_others { Ok(()) } else { Err(Error::Unhealthy) }
    }

    /// How many voters have been connected to this member for a while, and how many there are.
    fn healthy_voters(&self, members: &Members) -> (usize, usize) {
        let voters = members.rows.iter().filter(|row| !row.member.is_learner);
        let ids: Vec<MemberId> = voters.map(|row| MemberId(row.member.id)).collect();
        let healthy = ids.iter().filter(|id| self.is_connected_for(**id, HEALTHY_AFTER));
        (healthy.count(), ids.len())
    }

    fn is_connected_for(&self, id: MemberId, duration: Duration) -> bool {
        id == self.identity.member || self.raft.connected_for(id, duration)
    }
}

fn rejected(rejection: cluster::Rejection) -> Error {
    Error::Rejected(Rejection::Cluster(rejection))
}
