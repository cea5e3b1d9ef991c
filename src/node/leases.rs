//! Leases as clients see them: keep-alive and remaining time, answered by the leader's clock.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    node::{
        Error,
        ask::{AskError, Leader},
        read::{Freshness, Reader},
    },
    proto::peer::{self, reply, request},
    raft::Raft,
    state_machine::View,
    types::LeaseId,
};

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Seconds left, rounded down.
    pub remaining_secs: i64,
    pub granted_secs: i64,
}

/// How long to wait before asking again who leads, when nothing announces a change.
const LEADER_RETRY: Duration = Duration::from_millis(20);

/// Leases as clients see them. Clones share everything.
#[derive(Clone)]
pub struct Leases {
    raft: Raft,
    leader: Leader,
    reader: Reader,
    timeout: Duration,
}

impl Leases {
    pub(crate) fn new(raft: Raft, leader: Leader, reader: Reader, timeout: Duration) -> Leases {
        Leases { raft, leader, reader, timeout }
    }

    /// Renews a lease through the leader. The granted seconds; `None` when there is no such lease.
    ///
    /// # Errors
    /// No leader could be asked in time.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Option<i64>, Error> {
        let request = request::Request::LeaseRenew(peer::LeaseRenew { id: id.get() });
        match self.ask(request).await? {
            reply::Reply::LeaseRenew(reply) => Ok((reply.ttl > 0).then_some(reply.ttl)),
            _ => Err(Error::TimeoutConnectionLost),
        }
    }

    /// `None` when there is no such lease.
    ///
    /// # Errors
    /// No leader could be asked in time.
    pub async fn time_to_live(&self, id: LeaseId) -> Result<Option<TimeToLive>, Error> {
        let request = request::Request::LeaseTimeToLive(peer::LeaseTimeToLive { id: id.get() });
        let reply::Reply::LeaseTimeToLive(reply) = self.ask(request).await? else {
            return Err(Error::TimeoutConnectionLost);
        };
        if reply.gone {
            return Ok(None);
        }
        let (remaining_secs, granted_secs) = (reply.remaining_secs, reply.granted_secs);
        Ok(Some(TimeToLive { remaining_secs, granted_secs }))
    }

    /// All leases, the next to run out first, and the view in which there are these.
    ///
    /// # Errors
    /// No leader could be asked in time, or the store can't be read.
    pub async fn list(&self) -> Result<(View, Vec<LeaseId>), Error> {
        let request = request::Request::LeaseOrder(peer::LeaseOrder {});
        let reply::Reply::LeaseOrder(order) = self.ask(request).await? else {
            return Err(Error::TimeoutConnectionLost);
        };
        let places: HashMap<i64, usize> = order.ids.into_iter().zip(0..).collect();
        // Which leases there are is read here: the leader may have been deposed since.
        let view = self.reader.view(Freshness::Linearizable).await?;
        let mut ids: Vec<LeaseId> = view.leases()?.into_iter().map(|lease| lease.id).collect();
        ids.sort_by_key(|id| places.get(&id.get()).copied().unwrap_or(usize::MAX));
        Ok((view, ids))
    }

    /// Asks until a leader answers. Asking twice is safe: a renewal renewed is a renewal.
    async fn ask(&self, request: request::Request) -> Result<reply::Reply, Error> {
        let deadline = Instant::now() + self.timeout;
        let mut leadership = self.raft.leadership();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.leader.ask_while_it_leads(request.clone(), left).await {
                Ok(reply) => return Ok(reply),
                Err(AskError::Timeout) => return Err(Error::Timeout),
                Err(AskError::NoLeader | AskError::ConnectionLost) => (),
            }
            if self.raft.is_stopped() {
                return Err(Error::Stopped);
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            let retry = deadline.min(Instant::now() + LEADER_RETRY);
            // Nobody announces anything any more: this member's Raft has ended.
            if let Ok(Err(_)) = timeout_at(retry, leadership.changed()).await {
                return Err(Error::Stopped);
            }
        }
    }
}
