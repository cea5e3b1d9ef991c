//! Compaction in the background, and the hashes that it leaves.
//!
//! As etcd does, a member remembers what HashKV was at the revisions that it last compacted at,
//! made from all that was there before, and answers with it from then on until it restarts.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    mvcc::{self, HashKv, compaction},
    node::Tuning,
    raft::Raft,
    state_machine::Compacted,
    storage::{Storage, off_thread},
    telemetry::METERS,
    types::Revision,
};

/// Hashes that are remembered, as many as etcd does.
const HASHES_MAX: usize = 10;

/// What the apply thread tells about compactions, and what became of them. Clones share it.
#[derive(Clone)]
pub(crate) struct Compactions(Arc<Shared>);

struct Shared {
    wake: Notify,
    state: Mutex<State>,
    /// The floor below which nothing is left.
    done: watch::Sender<Option<Revision>>,
    tuning: Tuning,
}

#[derive(Default)]
struct State {
    /// The newest floor that may be worked towards: all before it is hashed or waits for it.
    floor: Option<Revision>,
    /// Not hashed yet, oldest first; no more than are remembered.
    due: VecDeque<Compacted>,
    hashes: VecDeque<HashKv>,
    /// What is being worked towards, and since when.
    begun: Option<(Revision, Instant)>,
}

impl Compactions {
    /// `floor` is the one that the store begins with.
    pub(crate) fn new(floor: Option<Revision>, tuning: Tuning) -> Compactions {
        let (done, _) = watch::channel(None);
        let state = Mutex::new(State { floor, ..State::default() });
        Compactions(Arc::new(Shared { wake: Notify::new(), state, done, tuning }))
    }

    /// A compaction was applied.
    pub(crate) fn add(&self, compacted: Compacted) {
        let mut state = self.lock();
        state.floor = Some(compacted.to);
        state.begun = Some((compacted.to, Instant::now()));
        push(&mut state.due, compacted);
        self.0.wake.notify_one();
    }

    /// The store is another one, with this floor.
    pub(crate) fn replaced(&self, floor: Option<Revision>) {
        *self.lock() = State { floor, ..State::default() };
        self.0.wake.notify_one();
    }

    /// HashKV as it was when the store was compacted at this revision, if that is remembered.
    pub(crate) fn hash_at(&self, revision: i64) -> Option<HashKv> {
        self.lock().hashes.iter().find(|hash| hash.hash_revision == revision).copied()
    }

    /// What is remembered, oldest first.
    pub(crate) fn hashes(&self) -> Vec<HashKv> {
        self.lock().hashes.iter().copied().collect()
    }

    /// How far compaction has physically come, and its changes.
    pub(crate) fn done(&self) -> watch::Receiver<Option<Revision>> {
        self.0.done.subscribe()
    }

    /// Removes compacted versions until Raft has ended.
    pub(crate) async fn run(self, storage: Storage, raft: Raft) {
        while !raft.is_stopped() {
            match self.step(&storage).await {
                Ok(true) => tokio::time::sleep(self.0.tuning.compaction_pause).await,
                Ok(false) => self.0.wake.notified().await,
                // The same trouble stops the apply thread, and with it the member.
                Err(error) => {
                    warn!(%error, "a compaction could not go on");
                    self.0.wake.notified().await;
                }
            }
        }
    }

    /// Whether there is more to do at once.
    async fn step(&self, storage: &Storage) -> Result<bool, mvcc::Error> {
        let (due, floor) = {
            let state = self.lock();
            (state.due.front().copied(), state.floor)
        };
        let target = storage.clone();
        if let Some(compacted) = due {
            let hash = off_thread(move || {
                mvcc::View::new(target.snapshot())?.hash_before(compacted.from, compacted.to)
            });
            let hash = hash.await?;
            let mut state = self.lock();
            // The store may have been replaced meanwhile.
            if state.due.front() == Some(&compacted) {
                state.due.pop_front();
                push(&mut state.hashes, hash);
            }
            return Ok(true);
        }
        let Some(floor) = floor else { return Ok(false) };
        let begun = Instant::now();
        let revisions = self.0.tuning.compaction_batch;
        let step = off_thread(move || compaction::step_of(&target, floor, revisions)).await?;
        METERS.compaction.step.add(begun.elapsed().as_secs_f64() * 1e3);
        METERS.compaction.keys.inc_by(step.removed);
        if !step.more {
            self.0.done.send_replace(Some(floor));
            self.tell_finished(floor);
        }
        Ok(step.more)
    }

    /// Told in etcd's words and counted, once for each compaction.
    fn tell_finished(&self, floor: Revision) {
        let (begun, hash) = {
            let mut state = self.lock();
            let hash = state.hashes.back().map(|hash| hash.hash);
            (state.begun.take_if(|(to, _)| *to == floor), hash)
        };
        if let Some((_, begun)) = begun {
            let (compact_revision, took) = (floor.get(), begun.elapsed());
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            METERS.compaction.total.add(took.as_secs_f64() * 1e3);
            METERS.compaction.last.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            info!(compact_revision, ?took, hash, "finished scheduled compaction");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no code panics while it holds this lock")
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == HASHES_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}
