//! Reading, as fresh as asked. Reads never pass through the Raft log: a linearizable one asks the
//! leader for a read index and then waits until this member has applied that far.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    mvcc::HashKv,
    node::{
        Error,
        ask::{AskError, Leader},
        compaction::Compactions,
        hashes::Hashes,
    },
    proto::peer::{ReadIndex, reply, request},
    raft::Raft,
    state_machine::View,
    storage::Storage,
    types::Revision,
};

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Sees every write acknowledged before the request began. Costs a round to a quorum.
    Linearizable,
    /// Whatever this member has applied.
    Any,
}

/// Reads that wait for the next round. What does not fit waits at the queue's door.
const QUEUE_MAX: usize = 4096;

/// How long to wait before asking again who leads, when nothing announces a change.
const LEADER_RETRY: Duration = Duration::from_millis(20);

/// Opens views of the state. Clones share the rounds.
#[derive(Clone)]
pub struct Reader {
    raft: Raft,
    storage: Storage,
    rounds: mpsc::Sender<oneshot::Sender<Result<u64, AskError>>>,
    compactions: Compactions,
    hashes: Hashes,
    timeout: Duration,
}

impl Reader {
    /// The handle, and the task that makes the rounds until every handle is gone.
    pub(crate) fn new(
        raft: Raft,
        leader: Leader,
        storage: Storage,
        (compactions, hashes): (Compactions, Hashes),
        timeout: Duration,
    ) -> (Reader, impl Future<Output = ()> + Send + 'static) {
        let (rounds, inbox) = mpsc::channel(QUEUE_MAX);
        let task = make_rounds(inbox, leader, timeout);
        (Reader { raft, storage, rounds, compactions, hashes, timeout }, task)
    }

    /// # Errors
    /// No leader could be asked in time, or the store can't be read.
    pub async fn view(&self, freshness: Freshness) -> Result<View, Error> {
        match freshness {
            Freshness::Linearizable => self.catch_up().await?,
            Freshness::Any => (),
        }
        Ok(View::new(self.storage.snapshot())?)
    }

    /// Returns when this member no longer holds versions that a compaction at `floor` drops.
    pub async fn compacted(&self, floor: Revision) -> Result<(), Error> {
        let mut compacted = self.compactions.done();
        let reached = compacted.wait_for(|done| done.is_some_and(|done| done >= floor));
        tokio::select! {
            reached = reached => reached.map(drop).map_err(|_| Error::Stopped),
            _ = self.raft.stopped() => Err(Error::Stopped),
        }
    }

    /// HashKV, and the newest revision when it was asked for. Of a revision that this member has
    /// compacted at, the hash is the one that it found then, if it remembers that.
    ///
    /// # Errors
    /// The revision is compacted or in the future, or the store can't be read.
    pub async fn hash_kv(&self, revision: i64) -> Result<(HashKv, Revision), Error> {
        Ok(self.hashes.at(revision).await?)
    }

    /// Returns once this member has applied everything that was acknowledged before the call.
    async fn catch_up(&self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let index = self.read_index(deadline).await?;
        timeout_at(deadline, self.raft.applied().wait(index))
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|_| Error::Stopped)
    }

    /// Asking again is always safe: a read changes nothing.
    async fn read_index(&self, deadline: Instant) -> Result<u64, Error> {
        let mut leadership = self.raft.leadership();
        loop {
            let (sender, answer) = oneshot::channel();
            timeout_at(deadline, self.rounds.send(sender))
                .await
                .map_err(|_| Error::Timeout)?
                .map_err(|_| Error::Stopped)?;
            match timeout_at(deadline, answer).await {
                Err(_) => return Err(Error::Timeout),
                Ok(Err(_)) => return Err(Error::Stopped),
                Ok(Ok(Ok(index))) => return Ok(index),
                Ok(Ok(Err(_))) if self.raft.is_stopped() => return Err(Error::Stopped),
                Ok(Ok(Err(_))) => (),
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            let retry = deadline.min(Instant::now() + LEADER_RETRY);
            let _ = timeout_at(retry, leadership.changed()).await;
        }
    }
}

/// One round is in flight at a time; all reads that arrive meanwhile share the next one. A read may
/// not join a round that has begun: the leader may have answered it before the read began.
async fn make_rounds(
    mut inbox: mpsc::Receiver<oneshot::Sender<Result<u64, AskError>>>,
    leader: Leader,
    timeout: Duration,
) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, QUEUE_MAX).await > 0 {
        let asked =
            leader.ask_while_it_leads(request::Request::ReadIndex(ReadIndex {}), timeout).await;
        let index = match asked {
            Ok(reply::Reply::ReadIndex(reply)) => Ok(reply.index),
            Ok(_) => Err(AskError::ConnectionLost),
            Err(error) => Err(error),
        };
        for waiter in waiting.drain(..) {
            // A reader that has given up needs no index.
            let _ = waiter.send(index);
        }
    }
}
