//! The early election: when the leader's process dies, nobody waits for the election timeout.
//!
//! A process that dies leaves its connections closed, and its host refuses new ones at once. A
//! voter that finds this asks the other voters whether they find it too. When a quorum does, the
//! one of them with the longest log campaigns, and asks for votes as after a transfer of
//! leadership: voters then do not wait for the old leader's lease to end. Nothing read here relies
//! on that lease, and all else is an election like any other, so a wrong guess costs an election
//! and no more. A host that dies and a network that loses packets refuse nothing: then the election
//! timeout decides.

use std::io;

use futures::future::join_all;
use openraft::{async_runtime::watch::WatchReceiver, raft::TransferLeaderRequest};
use tokio::time::timeout;
use tracing::info;

use super::{
    OpenMetrics, PeerError, Raft,
    message::{Reply, Request, VacancyReply, VacancyRequest},
    peers::Link,
    type_config::{log_id_from_open, log_id_to_open, vote_from_open, vote_to_open},
};
use crate::types::{LogId, MemberId, Vote};

impl Raft {
    /// Campaigns whenever the leader's process is gone and this member is to succeed it, until Raft
    /// has ended.
    pub(crate) async fn watch_for_vacancy(self) {
        let id = self.id();
        while let Some(vote) = self.until(|metrics| vote_of_another(metrics, id)).await {
            let superseded = || self.until(|metrics| (held_vote(metrics) != vote).then_some(()));
            tokio::select! {
                superseded = superseded() => match superseded {
                    Some(()) => continue,
                    None => return,
                },
                () = self.gone(MemberId(vote.node)) => self.succeed(vote).await,
            }
            // Votes are under way; or others have to find out first, and one may be the successor.
            let _ = timeout(self.0.timing.heartbeat, superseded()).await;
        }
    }

    /// Answers another voter that asks whether the leader is gone.
    pub(crate) async fn confirm_vacancy(&self, request: VacancyRequest) -> VacancyReply {
        let gone = self.gone(MemberId(request.vote.node));
        // Who asks may only have been faster.
        let gone = timeout(self.0.timing.heartbeat, gone).await.is_ok();
        let held = held_vote(&self.0.metrics.borrow_watched());
        // One that may not lead stands in nobody's way.
        let last = self.last_entry().filter(|_| self.may_campaign());
        VacancyReply { vacant: gone && held == request.vote, last }
    }

    /// Campaigns if the others agree that this member should.
    async fn succeed(&self, vote: Vote) {
        let voters = self.voters();
        if self.is_joint() || !voters.contains(&self.id()) || !self.may_campaign() {
            return;
        }
        let others = voters.iter().copied();
        let others = others.filter(|voter| *voter != self.id() && voter.0 != vote.node);
        let replies = join_all(others.map(async |other| {
            let limit = self.0.timing.heartbeat * 2;
            let request = Request::Vacancy(VacancyRequest { vote });
            match self.0.peers.request(other, request, limit).await {
                Ok(Reply::Vacancy(reply)) if reply.vacant => Some((reply.last, other)),
                _ => None,
            }
        }));
        let confirmed: Vec<_> = replies.await.into_iter().flatten().collect();
        let last = self.last_entry();
        if !is_successor((last, self.id()), &confirmed, voters.len()) {
            return;
        }
        info!(leader = %MemberId(vote.node), "the leader is gone: standing for election");
        let order = vote_to_open(vote);
        let order = TransferLeaderRequest::new(order, self.id().0, last.map(log_id_to_open));
        // A refusal is tried again, and a failure is Raft's end, which is announced elsewhere.
        let _ = self.0.open.handle_transfer_leader(order).await;
    }

    /// Returns once the process of this member is known to have ended. Only a restart undoes it.
    async fn gone(&self, member: MemberId) {
        let Some(mut link) = self.0.peers.link(member) else { return std::future::pending().await };
        let refused = link.wait_for(|link| match link {
            Link::Down { error: PeerError::Unreachable { kind, .. }, .. } => {
                *kind == io::ErrorKind::ConnectionRefused
            }
            Link::Down { .. } | Link::Dialling | Link::Up { .. } => false,
        });
        if refused.await.is_err() {
            // The connections are closed for good: this member stops.
            std::future::pending().await
        }
    }

    fn last_entry(&self) -> Option<LogId> {
        let metrics = self.0.open.data_metrics();
        metrics.borrow_watched().last_log.as_ref().map(log_id_from_open)
    }
}

fn held_vote(metrics: &OpenMetrics) -> Vote {
    vote_from_open(&metrics.vote)
}

/// The vote that this member holds, if it made another member the leader.
fn vote_of_another(metrics: &OpenMetrics, id: MemberId) -> Option<Vote> {
    Some(held_vote(metrics)).filter(|vote| vote.committed && vote.node != id.0)
}

/// Whether a voter with its newest entry comes before those that confirmed the vacancy, and they
/// are a quorum together. Of those with the same log the greatest id comes first.
fn is_successor(
    this: (Option<LogId>, MemberId),
    confirmed: &[(Option<LogId>, MemberId)],
    voters: usize,
) -> bool {
    confirmed.len() + 1 > voters / 2 && confirmed.iter().all(|other| this > *other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(this: (u64, u64), confirmed: &[(u64, u64)], voters: usize, expected: bool) {
        let rank = |(index, id)| (Some(LogId { term: 1, node: 1, index }), MemberId(id));
        let confirmed: Vec<_> = confirmed.iter().copied().map(rank).collect();
        assert_eq!(is_successor(rank(this), &confirmed, voters), expected);
    }

    #[test]
    fn the_longest_log_of_a_quorum_succeeds() {
        check((7, 2), &[(6, 3)], 3, true);
        check((6, 3), &[(7, 2)], 3, false);
        check((7, 3), &[(7, 2)], 3, true);
        check((7, 2), &[(7, 3)], 3, false);
        check((7, 2), &[], 3, false);
        check((7, 2), &[(6, 3)], 5, false);
        check((7, 2), &[(6, 3), (7, 1)], 5, true);
        check((7, 2), &[], 2, false);
    }
}
