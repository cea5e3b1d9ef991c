//! Applying committed entries: the state machine as openraft sees it, and the thread behind it.
//!
//! openraft's worker task hands over whatever has been committed; one thread of ours applies it,
//! since a stalled write to RocksDB must not hold up the runtime that serves heartbeats. Per batch:
//! one write to the store, then the watch hub, then those who wait for the index, then the outlet
//! (replies, leases).

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
    type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf},
};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::{
    applied::Applied,
    meter::Metered,
    traced::Traced,
    type_config::{
        BadMembership, OpenEntry, OpenStoredMembership, TypeConfig, decode_membership,
        decode_stored_membership, encode_membership, encode_stored_membership, log_id_from_open,
        log_id_to_open,
    },
};
use crate::{
    proto::{SharedEvent, command::Command},
    state_machine::{self, InForce, Payload, StateMachine},
    storage::{self, Position, Storage},
    telemetry::METERS,
    types::{LogId, MemberId, Revision},
    watch::{Batch, WatchHub},
};

/// Entries applied with one write, at most.
const BATCH_ENTRIES_MAX: usize = 4096;

/// Bytes of commands applied with one write, at most; bounds the memory of one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Jobs waiting for the apply thread. openraft gives one at a time; a snapshot may stand beside it.
const JOBS_MAX: usize = 4;

/// An entry that has been applied, with what came of it.
#[derive(Debug)]
pub struct Outcome {
    pub id: LogId,
    pub content: Content,
    pub applied: state_machine::Applied,
}

/// What an applied entry carried.
#[derive(Debug)]
pub enum Content {
    /// Nothing: the first entry of the leader that wrote it.
    Blank,
    Membership,
    /// A command, of which it is told who proposed it.
    Command(Origin),
}

/// The process that proposed a command, and its name for the proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub proposer: MemberId,
    pub epoch: u64,
    pub proposal: u64,
}

/// What the layer above is told, in the order of the log.
#[derive(Debug)]
pub enum Notice {
    Applied(Vec<Outcome>),
    /// The state was replaced by a snapshot at this entry: outcomes up to it will never be told.
    Replaced(LogId),
}

/// Takes notices on the apply thread; must not wait.
pub type Outlet = Box<dyn FnMut(Notice) + Send>;

/// The parts that applying touches.
pub(crate) struct Applier {
    pub(crate) machine: StateMachine,
    pub(crate) storage: Storage,
    pub(crate) hub: WatchHub,
    pub(crate) applied: Applied,
    pub(crate) outlet: Outlet,
    pub(crate) in_force: InForce,
    pub(crate) gaps: Gaps,
    pub(crate) traced: Traced,
    /// A batch that takes longer is logged.
    pub(crate) slow: Duration,
}

/// What to do with entries that do not follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// The log has a hole: the member stops.
    Refused,
    /// openraft's own suite applies single entries.
    #[cfg(test)]
    Allowed,
}

enum Job {
    Apply(Vec<state_machine::Entry>, oneshot::Sender<io::Result<()>>),
    Install(storage::Import, Position, oneshot::Sender<io::Result<()>>),
    Position(oneshot::Sender<Position>),
}

impl Applier {
    /// Applies what the log holds as committed beyond the state, before Raft starts: in large
    /// batches, where openraft would take 64 entries at a time.
    ///
    /// # Errors The entries can't be read, decoded or written.
    pub(crate) fn catch_up(&mut self, log: &crate::log::Log) -> io::Result<()> {
        let Some(committed) = log.state().committed else { return Ok(()) };
        let mut next = self.machine.position().applied.map_or(0, |id| id.index + 1);
        while next <= committed.index {
            let entries = log.entries(next..committed.index + 1, BATCH_BYTES_MAX)?;
            let Some(last) = entries.last() else { break };
            next = last.id.index + 1;
            let entries = entries.into_iter().map(decode_logged).collect::<io::Result<_>>()?;
            self.apply(entries)?;
        }
        Ok(())
    }

    /// The handle for openraft, and the loop that does the work until every handle is gone.
    pub(crate) fn split(self) -> (ApplyHandle, impl Future<Output = ()> + Send + 'static) {
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let handle = ApplyHandle { jobs, storage: self.storage.clone() };
        (handle, self.run(inbox))
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        while let Some(job) = inbox.recv().await {
            // A caller that is gone needs no answer.
            match job {
                Job::Apply(entries, done) => {
                    let _ = done.send(self.apply(entries));
                }
                Job::Install(import, position, done) => {
                    let _ = done.send(self.install(import, &position));
                }
                Job::Position(answer) => {
                    let _ = answer.send(self.machine.position().clone());
                }
            }
        }
        self.applied.close();
    }

    fn apply(&mut self, entries: Vec<state_machine::Entry>) -> io::Result<()> {
        let Some(last) = entries.last().map(|entry| entry.id) else { return Ok(()) };
        if self.gaps == Gaps::Refused {
            check_continues(self.machine.position().applied, &entries)?;
        }
        let spans = self.traced.apply(entries.iter().map(|entry| entry.id));
        let contents = entries.iter().map(|entry| (entry.id, content(entry)));
        let contents: Vec<(LogId, Content)> = contents.collect();
        let (start, metered) = (Instant::now(), Metered::begin(&entries));
        let mut applied = self.machine.apply(entries).map_err(io::Error::other)?;
        metered.end(&applied, self.slow);
        self.tell_slow(start.elapsed(), &contents);
        self.hub.publish(applied.iter_mut().filter_map(watch_batch).collect());
        drop(spans);
        let outcomes = contents
            .into_iter()
            .zip(applied)
            .map(|((id, content), applied)| Outcome { id, content, applied })
            .collect();
        (self.outlet)(Notice::Applied(outcomes));
        // Last: whoever waits for this index finds the timers of leases and all else as it left
        // them.
        self.applied.advance(last.index);
        Ok(())
    }

    /// In etcd's words, but of a batch: its entries are written together.
    fn tell_slow(&self, took: Duration, contents: &[(LogId, Content)]) {
        let (Some((first, _)), Some((last, _))) = (contents.first(), contents.last()) else {
            return;
        };
        if took > self.slow {
            let request = format!("entries {} to {}", first.index, last.index);
            let (expected_duration, prefix, response) = (self.slow, "", "");
            warn!(
                ?took,
                ?expected_duration,
                prefix,
                request,
                response,
                "apply request took too long"
            );
        }
    }

    fn install(&mut self, import: storage::Import, position: &Position) -> io::Result<()> {
        let Some(id) = position.applied else {
            return Err(io::Error::other("a snapshot of an empty log"));
        };
        METERS.snapshots.applying.inc();
        self.in_force.withdraw();
        let begun = Instant::now();
        import.finish(position).map_err(io::Error::other)?;
        METERS.snapshots.synced.observe(begun.elapsed());
        let (storage, in_force) = (self.storage.clone(), self.in_force.clone());
        self.machine = StateMachine::open_telling(storage, in_force).map_err(io::Error::other)?;
        self.hub.reset(self.machine.revision());
        (self.outlet)(Notice::Replaced(id));
        self.applied.advance(id.index);
        METERS.snapshots.applying.dec();
        info!(
            incoming_leader_snapshot_index = id.index,
            incoming_leader_snapshot_term = id.term,
            "applied snapshot"
        );
        Ok(())
    }
}

/// A log with a hole must not be passed over without a word.
fn check_continues(applied: Option<LogId>, entries: &[state_machine::Entry]) -> io::Result<()> {
    let mut before = applied.map(|id| id.index);
    for entry in entries {
        if before.is_some_and(|before| entry.id.index != before + 1) {
            let text = format!("entry {} is to be applied after {before:?}", entry.id.index);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        before = Some(entry.id.index);
    }
    Ok(())
}

fn content(entry: &state_machine::Entry) -> Content {
    match &entry.payload {
        Payload::Blank => Content::Blank,
        Payload::Membership(_) => Content::Membership,
        Payload::Command(command) => Content::Command(Origin {
            proposer: MemberId(command.proposer),
            epoch: command.proposer_epoch,
            proposal: command.proposal,
        }),
    }
}

/// The events of one applied entry for the watchers, taken out of it; `None` when there are none.
fn watch_batch(applied: &mut state_machine::Applied) -> Option<Batch> {
    if applied.events.is_empty() {
        return None;
    }
    let events = std::mem::take(&mut applied.events);
    let revision: Revision = applied.revision;
    Some(Batch { revision, events: events.into_iter().map(SharedEvent::new).collect() })
}

fn decode_logged(entry: crate::log::Entry) -> io::Result<state_machine::Entry> {
    use crate::log::EntryKind;
    let payload = match entry.kind {
        EntryKind::Blank => Payload::Blank,
        EntryKind::Membership => Payload::Membership(entry.payload),
        EntryKind::Command => Payload::Command(decode_command(entry.payload)?),
    };
    Ok(state_machine::Entry { id: entry.id, payload })
}

fn decode_open(entry: OpenEntry) -> io::Result<state_machine::Entry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Membership(membership) => Payload::Membership(encode_membership(&membership)),
        EntryPayload::Normal(command) => Payload::Command(decode_command(command.bytes)?),
    };
    Ok(state_machine::Entry { id: log_id_from_open(&entry.log_id), payload })
}

fn decode_command(encoded: bytes::Bytes) -> io::Result<Command> {
    Command::decode(encoded).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a logged command: {error}"))
    })
}

/// openraft's way to the apply thread.
pub(crate) struct ApplyHandle {
    jobs: mpsc::Sender<Job>,
    storage: Storage,
}

impl ApplyHandle {
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> io::Result<T> {
        let (sender, answer) = oneshot::channel();
        self.jobs.send(job(sender)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the apply thread has stopped")
}

/// A snapshot on its way out, or one that has come in.
pub(crate) enum SnapshotData {
    /// A picture of this member's store, to be read while it is sent.
    Outgoing(storage::Snapshot),
    /// Another member's store, received and not yet in force.
    Incoming(storage::Import),
}

impl RaftStateMachine<TypeConfig> for ApplyHandle {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Flusher;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<TypeConfig>>, OpenStoredMembership)> {
        let position = self.ask(Job::Position).await?;
        open_position(position)
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        loop {
            let (mut batch, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
            while batch.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
                let Some(next) = entries.next().await else { break };
                let (entry, responder) = next?;
                if let EntryPayload::Normal(command) = &entry.payload {
                    bytes += command.bytes.len();
                }
                batch.push(decode_open(entry)?);
                responders.extend(responder);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.ask(|done| Job::Apply(batch, done)).await??;
            for responder in responders {
                responder.send(());
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Flusher {
        Flusher { storage: self.storage.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let import = match snapshot {
            SnapshotData::Incoming(import) => import,
            SnapshotData::Outgoing(picture) => copy(&picture, &self.storage)?,
        };
        let position = Position {
            applied: meta.last_log_id.as_ref().map(log_id_from_open),
            membership: decode_stored_membership(encode_stored_membership(&meta.last_membership))
                .map_err(io::Error::other)?,
        };
        self.ask(|done| Job::Install(import, position, done)).await?
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        let snapshot = self.storage.snapshot();
        let meta = snapshot_meta(&snapshot)?;
        Ok(meta.last_log_id.is_some().then(|| SnapshotOf::<TypeConfig, SnapshotData> {
            meta,
            snapshot: SnapshotData::Outgoing(snapshot),
        }))
    }
}

/// A picture of one store as what another one has received.
fn copy(picture: &storage::Snapshot, to: &Storage) -> io::Result<storage::Import> {
    let mut import = to.begin_import().map_err(io::Error::other)?;
    for chunk in picture.export() {
        import.chunk(chunk.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(import)
}

/// Builds what openraft calls a snapshot: makes the state durable, so that the log may be purged.
/// Data is copied only when a member needs it.
pub(crate) struct Flusher {
    storage: Storage,
}

impl RaftSnapshotBuilder<TypeConfig> for Flusher {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        // Taken before the flush, so everything in it is durable once the flush is done.
        let snapshot = self.storage.snapshot();
        let meta = snapshot_meta(&snapshot)?;
        let storage = self.storage.clone();
        storage::off_thread(move || storage.flush()).await.map_err(io::Error::other)?;
        let snapshot_index = meta.last_log_id.as_ref().map(|id| id.index);
        info!(snapshot_index, "saved snapshot");
        Ok(SnapshotOf::<TypeConfig, SnapshotData> {
            meta,
            snapshot: SnapshotData::Outgoing(snapshot),
        })
    }
}

fn snapshot_meta(snapshot: &storage::Snapshot) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    let position = snapshot.position().map_err(io::Error::other)?;
    let (last_log_id, last_membership) = open_position(position)?;
    Ok(SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership })
}

pub(crate) fn open_position(
    position: Position,
) -> io::Result<(Option<LogIdOf<TypeConfig>>, OpenStoredMembership)> {
    let membership = match position.membership {
        None => OpenStoredMembership::default(),
        Some((id, encoded)) => OpenStoredMembership::new(
            Some(log_id_to_open(id)),
            decode_membership(encoded).map_err(|error: BadMembership| io::Error::other(error))?,
        ),
    };
    Ok((position.applied.map(log_id_to_open), membership))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_in_the_log_is_not_passed_over() {
        #[track_caller]
        fn check(applied: Option<u64>, entries: &[u64], continues: bool) {
            let id = |index| LogId { term: 1, node: 1, index };
            let entry =
                |index: &u64| state_machine::Entry { id: id(*index), payload: Payload::Blank };
            let entries: Vec<_> = entries.iter().map(entry).collect();
            assert_eq!(check_continues(applied.map(id), &entries).is_ok(), continues);
        }
        check(None, &[0, 1], true);
        check(Some(4), &[5, 6], true);
        check(Some(4), &[6], false);
        check(Some(4), &[4, 5], false);
        check(Some(4), &[5, 7], false);
    }
}
