//! Reading what happened from the store: how watchers catch up.

use bytes::Bytes;

use crate::{
    mvcc::{self, Change, View},
    proto::{SharedEvent, mvccpb::KeyValue},
    types::{KeyRange, Revision},
    watch::published::Published,
};

/// The history of the key space as it stood at one moment.
///
/// The store's [`View`] is one; watchers are tested on one that keeps everything in a list.
pub(crate) trait History {
    /// See [`View::revision`].
    fn revision(&self) -> Revision;

    /// See [`View::floor`].
    fn floor(&self) -> Option<Revision>;

    /// See [`View::history`]. `from` is not below the floor. Where the end was reached, the first
    /// revision not looked at is the one after the newest, also if there was nothing to look at.
    fn history(
        &self,
        ranges: &[KeyRange],
        from: Revision,
        max_bytes: usize,
    ) -> Result<(Vec<Change>, Revision), mvcc::Error>;

    /// See [`View::before`].
    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, mvcc::Error>;
}

impl History for View {
    fn revision(&self) -> Revision {
        self.revision()
    }

    fn floor(&self) -> Option<Revision> {
        self.floor()
    }

    fn history(
        &self,
        ranges: &[KeyRange],
        from: Revision,
        max_bytes: usize,
    ) -> Result<(Vec<Change>, Revision), mvcc::Error> {
        self.history(ranges, from, max_bytes)
    }

    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, mvcc::Error> {
        self.before(key, revision)
    }
}

/// Ranges that a read names one by one. The store may look at each of them for every event, so that
/// with more it costs less to take all events and to let the stream's index sort them out.
const RANGES_PER_READ: usize = 64;

/// One bounded read of the history, for watchers of one stream that are about equally far behind.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) from: Revision,
    pub(crate) max_bytes: usize,
    /// Which of the stream's watchers take part.
    pub(crate) watchers: Vec<Participant>,
    ranges: Vec<KeyRange>,
    /// Where events are wanted with the previous version of their key.
    previous: Vec<KeyRange>,
}

/// A watcher that takes part in a read. Its id may be another's by the time that the read is done;
/// its serial number may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    pub(crate) id: i64,
    pub(crate) serial: u64,
}

/// What a read found.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// The read began below the compaction floor.
    Compacted { floor: Revision },
    Read {
        /// Oldest first; previous versions are loaded.
        changes: Vec<Published>,
        /// The first revision that was not looked at.
        until: Revision,
        /// The newest in the store.
        revision: Revision,
    },
}

impl Read {
    pub(crate) fn new(from: Revision, max_bytes: usize) -> Read {
        let (watchers, ranges, previous) = (Vec::new(), Vec::new(), Vec::new());
        Read { from, max_bytes, watchers, ranges, previous }
    }

    pub(crate) fn add(&mut self, participant: Participant, range: &KeyRange, previous: bool) {
        self.watchers.push(participant);
        widen(&mut self.ranges, range);
        if previous {
            widen(&mut self.previous, range);
        }
    }

    /// Floor and data come from the one view.
    pub(crate) fn run(&self, view: &dyn History) -> Result<Chunk, mvcc::Error> {
        if let Some(floor) = view.floor()
            && self.from < floor
        {
            return Ok(Chunk::Compacted { floor });
        }
        let (changes, until) = view.history(&self.ranges, self.from, self.max_bytes)?;
        let changes = changes
            .into_iter()
            .map(|change| {
                let events = change.events.into_iter().map(SharedEvent::new).collect();
                let wants_previous = |key: &[u8]| self.previous.iter().any(|r| r.contains(key));
                Published::new(change.revision, events, wants_previous).with_previous(view)
            })
            .collect::<Result<_, _>>()?;
        Ok(Chunk::Read { changes, until, revision: view.revision() })
    }
}

/// Adds a range; too many become the one that has every key in it.
fn widen(ranges: &mut Vec<KeyRange>, range: &KeyRange) {
    let everything = KeyRange::From(Bytes::new());
    if ranges.first() == Some(&everything) || ranges.contains(range) {
        return;
    }
    if ranges.len() == RANGES_PER_READ {
        *ranges = vec![everything];
    } else {
        ranges.push(range.clone());
    }
}
