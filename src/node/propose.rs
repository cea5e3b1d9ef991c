//! Proposing commands. The last place where randomness and clocks exist: whatever members could
//! decide differently is decided here.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};

use crate::{
    node::{
        Caller, Error,
        ask::{AskError, Leader},
        operation::Operation,
        replies::{Fate, Replies},
    },
    proto::{
        command::{Command, command},
        peer::{Propose, reply, request},
    },
    state_machine::{Applied, Reply},
    types::{MemberId, Revision},
};

/// Proposals handed to the leader at once.
const BATCH_MAX: usize = 256;

/// Bytes of commands handed to the leader at once, unless one alone has more: heartbeats stand
/// behind them on the way to another member.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Proposals that wait for their batch. Small: admission is bounded by bytes, this only smooths.
const QUEUE_MAX: usize = 1024;

/// Bytes of commands under way at one member, from admission to reply. Bounds what a stalled
/// cluster makes a member hold in memory.
const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// How long to wait before asking again who leads, when nothing announces a change.
const LEADER_RETRY: Duration = Duration::from_millis(20);

/// Proposes operations and waits for their replies. Clones share the queue.
#[derive(Clone)]
pub struct Proposer(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Proposal>,
    replies: Replies,
    leader: Leader,
    raft: crate::raft::Raft,
    bytes: Semaphore,
    limits: Limits,
    ids: Mutex<StdRng>,
}

/// What a proposal may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// etcd's max-request-bytes.
    pub request_bytes: usize,
    /// Leases live at least so long, in seconds: shorter ones would end in every election.
    pub lease_ttl_min_secs: i64,
    /// From the arrival of a request to giving up: etcd's 5 s and two election timeouts.
    pub timeout: Duration,
}

struct Proposal {
    id: u64,
    command: Bytes,
}

impl Proposer {
    /// The handle, and the task that serves it until every handle is gone. `seed` is where the ids
    /// of leases come from.
    pub(crate) fn new(
        raft: crate::raft::Raft,
        leader: Leader,
        replies: Replies,
        limits: Limits,
        seed: u64,
    ) -> (Proposer, impl Future<Output = ()> + Send + 'static) {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let task = dispatch(inbox, leader.clone(), replies.clone(), limits.timeout);
        let bytes = Semaphore::new(BYTES_IN_FLIGHT_MAX);
        let ids = Mutex::new(StdRng::seed_from_u64(seed));
        (Proposer(Arc::new(Shared { queue, replies, leader, raft, bytes, limits, ids })), task)
    }

    /// Returns once this member has applied the command, so that the caller reads its own write
    /// here.
    ///
    /// # Errors [`Error::Rejected`] says that nothing changed. The timeout errors say that nobody
    /// knows.
    pub async fn propose<O: Operation>(
        &self,
        caller: &Caller,
        operation: O,
    ) -> Result<O::Reply, Error> {
        let command = Command {
            user: caller.user.clone(),
            auth_revision: caller.auth_revision,
            operation: Some(operation.into_operation()),
            ..Default::default()
        };
        let applied = self.apply(command).await?;
        let reply = applied.reply.map_err(Error::Rejected)?;
        O::reply(reply, applied.revision).ok_or(Error::Stopped)
    }

    /// The reply of a command that this member proposes of its own accord, or after it has judged
    /// who asks for it, with the revision after it.
    pub(crate) async fn command(
        &self,
        operation: command::Operation,
    ) -> Result<(Reply, Revision), Error> {
        let command = Command { by_member: true, operation: Some(operation), ..Default::default() };
        let applied = self.apply(command).await?;
        Ok((applied.reply.map_err(Error::Rejected)?, applied.revision))
    }

    /// Proposals without an answer.
    pub fn pending(&self) -> usize {
        self.0.replies.len()
    }

    async fn apply(&self, mut command: Command) -> Result<Applied, Error> {
        let deadline = Instant::now() + self.0.limits.timeout;
        self.decide(&mut command);
        let id = self.0.replies.stamp(&mut command);
        let encoded = Bytes::from(command.encode_to_vec());
        if encoded.len() > self.0.limits.request_bytes + COMMAND_OVERHEAD_MAX {
            return Err(Error::RequestTooLarge);
        }
        // What is larger than all that is allowed must wait until nothing else is under way.
        let cost = encoded.len().min(BYTES_IN_FLIGHT_MAX);
        let cost = u32::try_from(cost).map_err(|_| Error::RequestTooLarge)?;
        let admitted = timeout_at(deadline, self.0.bytes.acquire_many(cost)).await;
        let _admitted =
            admitted.map_err(|_| Error::TooManyRequests)?.map_err(|_| Error::Stopped)?;
        self.until_settled(id, encoded, deadline).await
    }

    /// Fills in what members could decide differently.
    fn decide(&self, command: &mut Command) {
        if let Some(command::Operation::LeaseGrant(grant)) = &mut command.operation {
            grant.ttl = grant.ttl.max(self.0.limits.lease_ttl_min_secs);
            if grant.id == 0 {
                let mut ids = self.0.ids.lock().expect("no code panics while it holds this lock");
                grant.id = ids.random_range(1..=i64::MAX);
            }
        }
    }

    /// Proposes until the command is in some leader's log, and waits for what comes of it.
    /// Proposing again happens only where it is certain that the command entered no log.
    async fn until_settled(
        &self,
        id: u64,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Applied, Error> {
        loop {
            let waiter = self.0.replies.wait(id);
            let proposal = Proposal { id, command: command.clone() };
            let leader = self.0.leader.now();
            timeout_at(deadline, self.0.queue.send(proposal))
                .await
                .map_err(|_| Error::Timeout)?
                .map_err(|_| Error::Stopped)?;
            match timeout_at(deadline, waiter.fate()).await {
                Ok(Fate::Applied(applied)) => return Ok(*applied),
                Ok(Fate::Unknown) => return Err(Error::TimeoutLeaderFail),
                Ok(Fate::Overloaded) => return Err(Error::TooManyRequests),
                Ok(Fate::ConnectionLost) => return Err(Error::TimeoutConnectionLost),
                Ok(Fate::NotProposed) if self.0.raft.is_stopped() => return Err(Error::Stopped),
                Ok(Fate::NotProposed) => self.leader_other_than(leader, deadline).await?,
                Err(_) => return Err(Error::Timeout),
            }
        }
    }

    /// Waits until somebody leads, preferably somebody else than `tried`.
    async fn leader_other_than(
        &self,
        tried: Option<MemberId>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut leadership = self.0.raft.leadership();
        let retry = deadline.min(Instant::now() + LEADER_RETRY);
        let changed = leadership.wait_for(|now| now.leader.is_some() && now.leader != tried);
        let waited = timeout_at(retry, changed).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) if Instant::now() >= deadline => Err(Error::NotProposed),
            Err(_) => Ok(()),
        }
    }
}

/// Encoding of a command beyond the client's own message.
const COMMAND_OVERHEAD_MAX: usize = 1024;

/// Collects what has been proposed meanwhile and hands it to the leader, batch after batch. Batches
/// overlap: order between concurrent requests means nothing.
async fn dispatch(
    mut inbox: mpsc::Receiver<Proposal>,
    leader: Leader,
    replies: Replies,
    timeout: Duration,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut under_way = tokio::task::JoinSet::new();
    while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let batch = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX));
        for part in parts(batch, |proposal| proposal.command.len()) {
            under_way.spawn(hand_over(part, leader.clone(), replies.clone(), timeout));
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// Cuts a batch so that no part has more than [`BATCH_BYTES_MAX`], unless a single item has.
fn parts<T>(batch: Vec<T>, len: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for item in batch {
        bytes += len(&item);
        match parts.last_mut() {
            Some(part) if part.is_empty() || bytes <= BATCH_BYTES_MAX => part.push(item),
            Some(_) | None => {
                bytes = len(&item);
                parts.push(vec![item]);
            }
        }
    }
    parts
}

async fn hand_over(batch: Vec<Proposal>, leader: Leader, replies: Replies, timeout: Duration) {
    let (ids, commands): (Vec<u64>, Vec<Bytes>) =
        batch.into_iter().map(|proposal| (proposal.id, proposal.command)).unzip();
    let asked = leader.ask(request::Request::Propose(Propose { commands }), timeout).await;
    let settle = |positions: Vec<u32>, fate: fn() -> Fate| {
        for position in positions {
            if let Some(id) = usize::try_from(position).ok().and_then(|at| ids.get(at)) {
                replies.settle(*id, fate());
            }
        }
    };
    match asked {
        Ok(reply::Reply::Propose(reply)) if reply.overloaded => {
            ids.iter().for_each(|id| replies.settle(*id, Fate::Overloaded));
        }
        // What was committed is settled by applying it here.
        Ok(reply::Reply::Propose(reply)) => {
            settle(reply.refused, || Fate::NotProposed);
            settle(reply.unknown, || Fate::Unknown);
        }
        Ok(_) | Err(AskError::ConnectionLost) => {
            ids.iter().for_each(|id| replies.settle(*id, Fate::ConnectionLost));
        }
        Err(AskError::NoLeader) => {
            ids.iter().for_each(|id| replies.settle(*id, Fate::NotProposed));
        }
        // The waits have deadlines of their own.
        Err(AskError::Timeout) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_by_its_bytes() {
        #[track_caller]
        fn check(lengths: &[usize], expected: &[&[usize]]) {
            assert_eq!(parts(lengths.to_vec(), |length| *length), expected);
        }
        const HALF: usize = BATCH_BYTES_MAX / 2;
        check(&[1, 2, 3], &[&[1, 2, 3]]);
        check(&[HALF, HALF, 1, HALF], &[&[HALF, HALF], &[1, HALF]]);
        check(&[3 * HALF, 3 * HALF, 1], &[&[3 * HALF], &[3 * HALF], &[1]]);
    }
}
