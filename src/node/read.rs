//! Reading, as fresh as asked. Reads never pass through the Raft log: a linearizable one asks the
//! leader for a read index and then waits until this member has applied that far. A bounded one
//! does so only if this member does not know that it is fresh enough.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::Instrument;

use crate::{
    mvcc::HashKv,
    node::{
        Consistency, Error,
        ask::{AskError, Leader},
        compaction::Compactions,
        freshness::{Beacon, Bound},
        hashes::Hashes,
        rounds,
    },
    proto::peer::{ReadIndex, reply, request},
    raft::Raft,
    state_machine::View,
    storage::Storage,
    telemetry::{METERS, traces},
    types::{Revision, TraceContext},
    watch::WatchHub,
};

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Sees every write acknowledged before the request began. Costs a round to a quorum.
    Linearizable,
    /// Lags by no more than the bound. Costs a round when this member has heard too long ago from
    /// the leader.
    Within(Bound),
    /// Sees the revision. Waits until this member has applied it.
    AtLeast(Revision),
    /// Whatever this member has applied.
    Any,
}

/// A view with what is known of its age.
pub struct Fresh {
    pub view: View,
    /// Everything acknowledged so long before the request arrived is seen; `None` when nothing is
    /// known.
    pub staleness: Option<Duration>,
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
    hub: WatchHub,
    rounds: mpsc::Sender<Waiting>,
    beacon: Beacon,
    compactions: Compactions,
    hashes: Hashes,
    timeout: Duration,
}

impl Reader {
    /// The handle, and the task that makes the rounds until every handle is gone.
    pub(crate) fn new(
        raft: Raft,
        leader: Leader,
        (storage, hub): (Storage, WatchHub),
        (compactions, hashes): (Compactions, Hashes),
        timeout: Duration,
    ) -> (Reader, impl Future<Output = ()> + Send + 'static) {
        let (rounds, inbox) = mpsc::channel(QUEUE_MAX);
        let beacon = Beacon::default();
        let maker = Maker { raft: raft.clone(), leader, beacon: beacon.clone(), timeout };
        let reader = Reader { raft, storage, hub, rounds, beacon, compactions, hashes, timeout };
        (reader, maker.run(inbox))
    }

    /// # Errors
    /// No leader could be asked in time, or the store can't be read.
    pub async fn view(&self, freshness: Freshness) -> Result<View, Error> {
        self.reach(freshness, None).await?;
        Ok(View::new(self.storage.snapshot())?)
    }

    /// The same, with the view's age, and within `patience` if that is shorter than the time that
    /// a request may take anyway.
    ///
    /// # Errors
    /// This member did not become fresh enough in time, or the store can't be read.
    pub async fn fresh_view(
        &self,
        freshness: Freshness,
        patience: Option<Duration>,
    ) -> Result<Fresh, Error> {
        let arrived = Instant::now();
        self.reach(freshness, patience).await?;
        // Before the view is opened: what is applied later is no news of it.
        let staleness = self.beacon.staleness(self.raft.applied().index(), arrived);
        Ok(Fresh { view: View::new(self.storage.snapshot())?, staleness })
    }

    /// Returns once this member is so fresh.
    ///
    /// # Errors
    /// It did not become so in time.
    pub async fn reach(
        &self,
        freshness: Freshness,
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let timeout = || self.timeout.min(patience.unwrap_or(self.timeout));
        match freshness {
            Freshness::Linearizable => self.catch_up(Instant::now() + timeout()).await,
            Freshness::Within(bound) => self.catch_up_within(bound, timeout()).await,
            Freshness::AtLeast(revision) => {
                self.catch_up_to(revision, Instant::now() + timeout()).await
            }
            Freshness::Any => Ok(()),
        }
    }

    /// Reads of this consistency are to come for as long as the member runs: it sees to it that
    /// they need not wait, if it can.
    pub fn prepare_for(&self, consistency: Consistency) {
        match consistency {
            Consistency::Bounded(Bound { time: Some(time), .. }) => self.beacon.always_want(time),
            Consistency::Bounded(Bound { time: None, .. })
            | Consistency::Strong
            | Consistency::Session
            | Consistency::Prefix
            | Consistency::Eventual => {}
        }
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
    async fn catch_up(&self, deadline: Instant) -> Result<(), Error> {
        let read_index = self.read_index(deadline);
        let index = read_index.instrument(traces::part("read_index")).await?;
        timeout_at(deadline, self.raft.applied().wait(index))
            .instrument(traces::part("wait_applied"))
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|_| Error::Stopped)
    }

    /// Returns once this member is known to keep the bound: at once if it is, after a round of its
    /// own, or because of one that was under way.
    async fn catch_up_within(&self, bound: Bound, timeout: Duration) -> Result<(), Error> {
        let arrived = Instant::now();
        if let Some(time) = bound.time {
            self.beacon.want(time);
        }
        let caught_up = tokio::select! {
            biased;
            proven = self.until_proven(bound, arrived) => proven,
            caught_up = self.catch_up(arrived + timeout) => caught_up,
        };
        caught_up.map_err(|error| match error {
            Error::Timeout => {
                let staleness = self.beacon.staleness(self.raft.applied().index(), arrived);
                Error::TooStale(staleness.map(|staleness| staleness + arrived.elapsed()))
            }
            error => error,
        })
    }

    /// By what is known of this member's state; never a round.
    async fn until_proven(&self, bound: Bound, arrived: Instant) -> Result<(), Error> {
        let mut answered = self.beacon.answered();
        loop {
            answered.borrow_and_update();
            if let Some(index) = self.beacon.target(bound, arrived) {
                return self.raft.applied().wait(index).await.map_err(|_| Error::Stopped);
            }
            answered.changed().await.map_err(|_| Error::Stopped)?;
        }
    }

    /// Returns once this member has applied what made the revision.
    async fn catch_up_to(&self, revision: Revision, deadline: Instant) -> Result<(), Error> {
        loop {
            let applied = self.raft.applied().index();
            // What is applied is published before it counts as applied.
            let newest = self.hub.head();
            if newest >= revision {
                return Ok(());
            }
            timeout_at(deadline, self.raft.applied().wait(applied + 1))
                .await
                .map_err(|_| Error::SessionNotAvailable { asked: revision, newest })?
                .map_err(|_| Error::Stopped)?;
        }
    }

    /// Asking again is always safe: a read changes nothing.
    async fn read_index(&self, deadline: Instant) -> Result<u64, Error> {
        let mut leadership = self.raft.leadership();
        loop {
            let (sender, answer) = oneshot::channel();
            let waiting = Waiting { answer: sender, trace: traces::current() };
            timeout_at(deadline, self.rounds.send(waiting))
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
            // Nobody announces anything any more: this member's Raft has ended.
            if let Ok(Err(_)) = timeout_at(retry, leadership.changed()).await {
                return Err(Error::Stopped);
            }
        }
    }
}

/// A read that waits for a round.
struct Waiting {
    answer: oneshot::Sender<Result<u64, AskError>>,
    trace: Option<TraceContext>,
}

/// Makes rounds of read index.
struct Maker {
    raft: Raft,
    leader: Leader,
    beacon: Beacon,
    timeout: Duration,
}

impl Maker {
    /// Returns when nobody is left who could read.
    async fn run(self, inbox: mpsc::Receiver<Waiting>) {
        tokio::select! {
            () = self.serve(inbox) => {}
            () = self.shine() => {}
        }
    }

    /// For ever.
    async fn shine(&self) {
        loop {
            self.beacon.until_due().await;
            METERS.reads.beacon_rounds.inc();
            // If it fails, the next one may be luckier.
            let _ = self.round(Vec::new()).await;
        }
    }

    async fn serve(&self, inbox: mpsc::Receiver<Waiting>) {
        rounds::share(inbox, QUEUE_MAX, |waiting| self.answer(waiting)).await;
    }

    /// With a round of their own.
    async fn answer(&self, waiting: Vec<Waiting>) {
        let traces = waiting.iter().filter_map(|waiting| waiting.trace);
        let traces = traces.map(|trace| Bytes::copy_from_slice(&trace.encode())).collect();
        let index = self.round(traces).await;
        match &index {
            Ok(_) => {}
            Err(AskError::Timeout) => {
                METERS.reads.slow_rounds.inc();
            }
            Err(AskError::NoLeader | AskError::ConnectionLost) => {
                METERS.reads.failed_rounds.inc();
            }
        }
        for waiter in waiting {
            // A reader that has given up needs no index.
            let _ = waiter.answer.send(index);
        }
    }

    async fn round(&self, traces: Vec<Bytes>) -> Result<u64, AskError> {
        let round = request::Request::ReadIndex(ReadIndex { traces });
        let sent = self.beacon.begin();
        let asked = self.leader.ask_while_it_leads(round, self.timeout).await;
        let index = match asked {
            Ok(reply::Reply::ReadIndex(reply)) => Ok(reply.index),
            Ok(_) => Err(AskError::ConnectionLost),
            Err(error) => Err(error),
        };
        self.beacon.end(sent, index.ok(), self.raft.applied().index());
        index
    }
}
