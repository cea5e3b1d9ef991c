//! Going on with one member of a cluster whose others are lost.
//!
//! Done to a member's log before it starts: two entries at its end say that the member is alone, in
//! the list and in Raft's membership, and that they are committed. So everything else is as after
//! any restart: the entries are applied, and the only voter elects itself. What stood in the log
//! and was not known to be committed is kept, and with it every write that was acknowledged with
//! this member's help; etcd drops what this member has not heard to be committed.

use std::{collections::BTreeSet, io, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tokio::sync::oneshot;

use super::{
    StartError,
    type_config::{OpenMembership, encode_membership},
};
use crate::{
    log::{self, Entry, EntryKind, Log},
    proto::command::{Command, ForceNewCluster, command::Operation},
    storage::Storage,
    types::{LogId, MemberId, Vote},
};

/// What was done to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The newest entry that was known to be committed before; 0 for none.
    pub committed_before: u64,
    /// The newest entry now, which is committed.
    pub committed: u64,
}

/// Makes the member whose log and state these are the only one of its cluster. The caller makes
/// sure that nobody has the log open. `None` if the member has never run.
///
/// # Errors
/// The log can't be read or written.
pub fn force_new_cluster(
    files: Arc<dyn log::Files>,
    options: log::Options,
    storage: &Storage,
    request: ForceNewCluster,
) -> Result<Option<Forced>, StartError> {
    let applied = storage.snapshot().position()?.applied;
    let (log, writer) = Log::open(files, options)?;
    let Some(last) = newest(log.state().last, applied) else { return Ok(None) };
    let work = async move {
        let forced = append(&log, last, applied, request).await;
        // The writer ends with the last handle.
        drop(log);
        forced
    };
    let (forced, ()) = futures::executor::block_on(futures::future::join(work, writer.run()));
    Ok(Some(forced?))
}

fn newest(one: Option<LogId>, other: Option<LogId>) -> Option<LogId> {
    one.into_iter().chain(other).max_by_key(|id| id.index)
}

async fn append(
    log: &Log,
    last: LogId,
    applied: Option<LogId>,
    request: ForceNewCluster,
) -> io::Result<Forced> {
    let state = log.state();
    // A snapshot was installed, and the log ended before it.
    if let Some(applied) = applied
        && state.last.is_none_or(|last| last.index < applied.index)
    {
        log.purge(applied);
    }
    let member = MemberId(request.member.as_ref().map_or(0, |member| member.id));
    let term = state.vote.map_or(0, |vote| vote.term).max(last.term) + 1;
    let id = |after: u64| LogId { term, node: member.0, index: last.index + after };
    // Before the entries: a vote is never older than what stands in the log.
    log.save_vote(Vote { term, node: member.0, committed: false }).await?;

    let operation = Some(Operation::ForceNewCluster(request));
    let command = Command { operation, ..Command::default() }.encode_to_vec();
    let alone = OpenMembership::new_with_defaults(vec![BTreeSet::from([member.0])], []);
    let entries = vec![
        Entry { id: id(1), kind: EntryKind::Command, payload: Bytes::from(command) },
        Entry { id: id(2), kind: EntryKind::Membership, payload: encode_membership(&alone) },
    ];
    let (flushed, done) = oneshot::channel();
    // Nobody is gone who would wait: the answer is awaited below.
    log.append(entries, Box::new(move |result| drop(flushed.send(result))));
    log.save_committed(Some(id(2)));
    done.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has ended")))?;
    let committed_before = newest(state.committed, applied).map_or(0, |id| id.index);
    Ok(Forced { committed_before, committed: id(2).index })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        log::{FaultyFiles, State},
        proto::etcdserverpb::Member,
        raft::type_config::decode_membership,
        storage::Place,
    };

    fn options() -> log::Options {
        let dir = PathBuf::from("/log");
        log::Options { dir, group: 0, segment_bytes: 4096, cache_bytes: 0 }
    }

    fn force(files: &FaultyFiles, storage: &Storage) -> Option<Forced> {
        let member = Some(Member { id: 7, ..Member::default() });
        let request = ForceNewCluster { member, cluster_id: 5 };
        force_new_cluster(Arc::new(files.clone()), options(), storage, request).unwrap()
    }

    /// A log of that many entries, of which this many are known to be committed.
    fn written(files: &FaultyFiles, entries: u64, committed: u64) {
        let (log, writer) = Log::open(Arc::new(files.clone()), options()).unwrap();
        let id = |index| LogId { term: 4, node: 3, index };
        let blank = |index| Entry { id: id(index), kind: EntryKind::Blank, payload: Bytes::new() };
        log.append((1..=entries).map(blank).collect(), Box::new(Result::unwrap));
        log.save_committed(Some(id(committed)));
        drop(log);
        futures::executor::block_on(writer.run());
    }

    fn read(files: &FaultyFiles) -> (State, Vec<Entry>) {
        let (log, _) = Log::open(Arc::new(files.clone()), options()).unwrap();
        (log.state(), log.entries(0..u64::MAX, usize::MAX).unwrap())
    }

    #[test]
    fn the_whole_log_is_committed_with_the_member_alone_at_its_end() {
        let (files, storage) = (FaultyFiles::new(1), Storage::open(Place::Memory).unwrap());
        written(&files, 9, 6);
        let forced = force(&files, &storage).unwrap();
        assert_eq!(forced, Forced { committed_before: 6, committed: 11 });
        let (state, entries) = read(&files);
        let last = LogId { term: 5, node: 7, index: 11 };
        assert_eq!((state.last, state.committed), (Some(last), Some(last)));
        assert_eq!(state.vote, Some(Vote { term: 5, node: 7, committed: false }));
        assert_eq!(entries.len(), 11);
        let alone = decode_membership(entries[10].payload.clone()).unwrap();
        assert_eq!(alone, OpenMembership::new_with_defaults(vec![BTreeSet::from([7])], []));

        // Once more, and power is lost behind it.
        let forced = force(&files, &storage).unwrap();
        files.lose_power();
        assert_eq!(forced, Forced { committed_before: 11, committed: 13 });
        assert_eq!(read(&files).0.committed, Some(LogId { term: 6, node: 7, index: 13 }));
    }

    #[test]
    fn a_member_that_has_never_run_is_left_alone() {
        let (files, storage) = (FaultyFiles::new(1), Storage::open(Place::Memory).unwrap());
        assert_eq!(force(&files, &storage), None);
        assert_eq!(read(&files), (State::default(), Vec::new()));
    }
}
