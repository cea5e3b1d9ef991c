//! The Raft log as openraft sees it.

use std::{fmt::Debug, io, ops::RangeBounds, sync::Arc};

use futures::{Stream, stream};
use openraft::{
    EntryPayload, LogState, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
    type_config::alias::{LogIdOf, VoteOf},
};

use super::{
    traced::Traced,
    type_config::{
        OpenEntry, TypeConfig, entry_from_open, entry_to_open, log_id_from_open, log_id_to_open,
        vote_from_open, vote_to_open,
    },
};
use crate::{log::Log, storage::off_thread, types::LogId};

/// Payload bytes read from the log at a time, for replication and for applying.
///
/// etcd cuts messages at the same size: long enough for full throughput, short enough that one
/// follower's backlog does not hold up the next heartbeat.
const READ_BYTES_MAX: usize = 1 << 20;

/// Tells how far the state would survive a crash now.
type Durable = Arc<dyn Fn() -> Option<LogId> + Send + Sync>;

/// The log, which may be dropped only as far as the state is durable.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    durable: Durable,
    traced: Traced,
}

impl LogStore {
    pub(crate) fn new(log: Log, durable: Durable, traced: Traced) -> LogStore {
        LogStore { log, durable, traced }
    }

    async fn read(&self, start: u64, end: u64) -> io::Result<Vec<OpenEntry>> {
        let entries = if self.log.is_in_memory(start) {
            self.log.entries(start..end, READ_BYTES_MAX)?
        } else {
            let log = self.log.clone();
            off_thread(move || log.entries(start..end, READ_BYTES_MAX)).await?
        };
        entries.into_iter().map(|entry| entry_to_open(entry).map_err(io::Error::other)).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<OpenEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (mut start, end) = bounds(&range);
        let mut entries = Vec::new();
        while start < end {
            let part = self.read(start, end).await?;
            let Some(last) = part.last() else { break };
            start = last.index() + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<TypeConfig>>> {
        Ok(self.log.state().vote.map(vote_to_open))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<OpenEntry>> {
        self.read(start, end).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<OpenEntry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = bounds(&range);
        let chunks = stream::try_unfold((self.clone(), start), move |(store, start)| async move {
            if start >= end {
                return Ok(None);
            }
            let part = store.read(start, end).await?;
            let next = part.last().map_or(end, |entry| entry.index() + 1);
            Ok::<_, io::Error>(Some((stream::iter(part.into_iter().map(Ok)), (store, next))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }
}

/// The range as `[start, end)`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let start = match range.start_bound() {
        Included(start) => *start,
        Excluded(before) => before + 1,
        Unbounded => 0,
    };
    let end = match range.end_bound() {
        Included(last) => last + 1,
        Excluded(end) => *end,
        Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id_to_open),
            last_log_id: state.last.map(log_id_to_open),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> io::Result<()> {
        fail::fail_point!("vote-not-saved", |_| Ok(()));
        self.log.save_vote(vote_from_open(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        self.log.save_committed(committed.as_ref().map(log_id_from_open));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<TypeConfig>>> {
        Ok(self.log.state().committed.map(log_id_to_open))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = OpenEntry> + Send,
        I::IntoIter: Send,
    {
        let mut spans = Vec::new();
        let begin = |mut entry: OpenEntry| {
            if let EntryPayload::Normal(command) = &mut entry.payload
                && let Some(trace) = command.trace.take()
            {
                spans.push(self.traced.append(log_id_from_open(&entry.log_id), *trace));
            }
            entry_from_open(entry)
        };
        let entries = entries.into_iter().map(begin).collect();
        let flushed = move |result| {
            drop(spans);
            callback.io_completed(result);
        };
        self.log.append(entries, Box::new(flushed));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> io::Result<()> {
        self.log.truncate_after(last.as_ref().map(log_id_from_open));
        Ok(())
    }

    /// Drops less than asked when the state is not durable that far: after a crash the log must
    /// still hold everything that the state has lost. openraft asks again with the next snapshot.
    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> io::Result<()> {
        let upto = log_id_from_open(&upto);
        let allowed = (self.durable)().map(|durable| oldest(upto, durable));
        if let Some(allowed) = allowed
            && self.log.state().purged.is_none_or(|purged| purged.index < allowed.index)
        {
            self.log.purge(allowed);
        }
        Ok(())
    }
}

fn oldest(one: LogId, other: LogId) -> LogId {
    if one.index <= other.index { one } else { other }
}

#[cfg(test)]
mod tests;
