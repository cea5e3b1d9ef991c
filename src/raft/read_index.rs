//! The read index: how far a member must have applied the log before it may answer a linearizable
//! read (section 6.4 of Ongaro's dissertation, "Consensus: bridging theory and practice").
//!
//! The leader takes its commit index and then asks the other voters whether they still hold the
//! vote that made it the leader. When a quorum does, no later leader can have acknowledged anything
//! before the round began: it would need the votes of a quorum, and a voter of both quorums would
//! hold the later vote.
//!
//! openraft has a round of its own, whose replies wait for the followers' disks; here nobody waits
//! for a disk.

use std::collections::BTreeSet;

use futures::{StreamExt, stream::FuturesUnordered};
use openraft::{RaftState, ServerState};

use super::{
    Raft,
    message::{ConfirmReply, ConfirmRequest, Reply, Request},
    type_config::{TypeConfig, vote_from_open},
};
use crate::types::{MemberId, Vote};

/// Why there is no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    NotLeader,
    /// A quorum did not confirm that this member still leads.
    NoQuorum,
    Stopped,
}

/// What a leader believes at the beginning of a round.
struct Claim {
    vote: Vote,
    index: u64,
    /// Each set of voters that must agree: two while one replaces the other.
    voters: Vec<BTreeSet<u64>>,
}

impl Raft {
    /// An index such that a member that has applied it sees every write acknowledged before the
    /// call. Only the leader can tell, after a quorum confirmed that it leads.
    ///
    /// # Errors Nothing was confirmed.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let id = self.id();
        let claim = self.0.open.with_raft_state(move |state| claim(id, state)).await;
        let claim = claim.map_err(|_| ReadError::Stopped)?.ok_or(ReadError::NotLeader)?;
        fail::fail_point!("read-unconfirmed", |_| Ok(claim.index));
        let mut confirmed = BTreeSet::from([id.0]);
        let others = claim.voters.iter().flatten().collect::<BTreeSet<_>>();
        let others = others.into_iter().filter(|voter| **voter != id.0);
        let mut asked: FuturesUnordered<_> =
            others.map(|voter| self.is_confirmed_by(MemberId(*voter), claim.vote)).collect();
        while !is_quorum(&claim.voters, &confirmed) {
            let Some(answer) = asked.next().await else { return Err(ReadError::NoQuorum) };
            confirmed.extend(answer.map(|voter| voter.0));
        }
        Ok(claim.index)
    }

    async fn is_confirmed_by(&self, voter: MemberId, vote: Vote) -> Option<MemberId> {
        let request = Request::Confirm(ConfirmRequest { vote });
        let answered = self.0.peers.request(voter, request, self.0.timing.election).await;
        matches!(answered, Ok(Reply::Confirm(ConfirmReply { held: true }))).then_some(voter)
    }

    /// Answers a leader that asks whether this member still holds the vote for it.
    pub(crate) async fn confirm(&self, request: ConfirmRequest) -> ConfirmReply {
        // Not from the metrics: those may be older than a vote that was given to somebody else.
        let held = self.0.open.with_raft_state(|state| vote_from_open(state.vote_ref())).await;
        let asked = (request.vote.term, request.vote.node);
        ConfirmReply { held: held.is_ok_and(|held| (held.term, held.node) == asked) }
    }
}

/// `None` when this member does not lead.
fn claim(id: MemberId, state: &RaftState<TypeConfig>) -> Option<Claim> {
    let vote = vote_from_open(state.vote_ref());
    if state.server_state != ServerState::Leader || !vote.committed || vote.node != id.0 {
        return None;
    }
    // What earlier leaders acknowledged lies below this leader's own first entry; until one of its
    // own is committed, it does not know how much of the rest they had committed.
    let committed = state.cluster_committed();
    let own = committed.filter(|last| *last.committed_leader_id() == state.vote_ref().leader_id);
    let index = own.or(state.log_ids.last())?.index();
    let voters = state.membership_state.effective().membership().get_joint_config().clone();
    Some(Claim { vote, index, voters })
}

fn is_quorum(voters: &[BTreeSet<u64>], confirmed: &BTreeSet<u64>) -> bool {
    voters.iter().all(|set| set.intersection(confirmed).count() > set.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(voters: &[&[u64]], confirmed: &[u64], expected: bool) {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let voters: Vec<_> = voters.iter().map(|ids| set(ids)).collect();
        assert_eq!(is_quorum(&voters, &set(confirmed)), expected);
    }

    #[test]
    fn a_quorum_is_more_than_half_of_each_set_of_voters() {
        check(&[&[1]], &[1], true);
        check(&[&[1, 2]], &[1], false);
        check(&[&[1, 2, 3]], &[1, 3], true);
        check(&[&[1, 2, 3, 4]], &[1, 3], false);
        check(&[&[1, 2, 3], &[1, 4, 5]], &[1, 2, 3], false);
        check(&[&[1, 2, 3], &[1, 4, 5]], &[1, 2, 5], true);
        check(&[&[2, 3]], &[1, 2], false);
    }
}
