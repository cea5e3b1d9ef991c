//! What the handles of a log and its writer share: the log as it will be when all is written, and
//! the queue of what is not.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    Entry, Flushed, State,
    cache::Cache,
    extents::{Extent, Extents},
    outline::{Outline, after},
    record::{self, Record},
    segment::Segment,
};
use crate::types::{LogId, Vote};

/// What the handles of a log have in common; when the last is gone the writer ends.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    wake: Notify,
}

/// Work for the writer, in the order in which it must reach the disk.
pub(crate) enum Request {
    /// Appends are numbered from 1.
    Append {
        entries: Vec<Entry>,
        number: u64,
        flushed: Flushed,
    },
    TruncateAfter(Option<LogId>),
    PurgeTo(LogId),
    Vote(Vote, Flushed),
}

/// Everything that was queued.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    /// To be noted, if it has changed.
    pub(crate) committed: Option<Option<LogId>>,
    /// No more will come.
    pub(crate) last: bool,
}

/// What a durable write means for the index of the files.
pub(crate) enum Effect {
    Record(Extent),
    /// Entries from this index on are gone.
    Cut(u64),
    /// Entries before this index are gone.
    DropBefore(u64),
}

struct Inner {
    /// As the callers see it; the disk follows.
    outline: Outline,
    cache: Cache,
    /// Bounded by admission control above the log.
    queue: Vec<Request>,
    appends: u64,
    committed_changed: bool,
    /// How often entries have been dropped at either end: a reader that let go of the lock sees by
    /// it that it must not go on.
    drops: u64,
    /// Every handle is gone.
    closed: bool,
    /// The writer is gone.
    stopped: bool,
    /// Entries on disk. Right for all that are older than the cache; newer ones may be missing or
    /// replaced.
    extents: Extents,
    /// Segments in use by their sequence, without a gap.
    segments: VecDeque<Arc<Segment>>,
}

/// Where the next entry is to be read.
struct Place {
    extent: Extent,
    segment: Arc<Segment>,
    /// Index up to which the record may be used.
    end: u64,
    drops: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    pub(crate) fn new(
        outline: Outline,
        cache_bytes: usize,
        extents: Extents,
        segments: VecDeque<Arc<Segment>>,
    ) -> Shared {
        let inner = Inner {
            outline,
            cache: Cache::new(outline.next_index(), cache_bytes),
            queue: Vec::new(),
            appends: 0,
            committed_changed: false,
            drops: 0,
            closed: false,
            stopped: false,
            extents,
            segments,
        };
        Shared { inner: Mutex::new(inner), wake: Notify::new() }
    }

    pub(crate) fn state(&self) -> State {
        self.lock().outline.state
    }

    pub(crate) fn is_in_memory(&self, index: u64) -> bool {
        let inner = self.lock();
        // What was purged is not read either.
        index.max(inner.outline.first) >= inner.cache.first()
    }

    pub(crate) fn excess(&self, bytes_max: u64) -> Option<u64> {
        self.lock().extents.excess(bytes_max)
    }

    pub(crate) fn append(&self, entries: Vec<Entry>, flushed: Flushed) {
        let mut inner = self.lock();
        if inner.stopped || !inner.outline.accepts(&entries) {
            let error = if inner.stopped { stopped() } else { io::ErrorKind::InvalidInput.into() };
            drop(inner);
            return flushed(Err(error));
        }
        inner.appends += 1;
        let number = inner.appends;
        if inner.outline.append(&entries) {
            inner.drops += 1;
        }
        inner.cache.push(&entries, number);
        self.enqueue(inner, Request::Append { entries, number, flushed });
    }

    pub(crate) fn truncate_after(&self, last: Option<LogId>) {
        let mut inner = self.lock();
        if inner.outline.truncate_after(last) {
            inner.drops += 1;
            let next = inner.outline.next_index();
            inner.cache.cut(next);
            let last = inner.outline.state.last;
            self.enqueue(inner, Request::TruncateAfter(last));
        }
    }

    pub(crate) fn purge(&self, upto: LogId) {
        let mut inner = self.lock();
        if inner.outline.purge(upto) {
            inner.drops += 1;
            inner.cache.drop_before(after(Some(upto)));
            self.enqueue(inner, Request::PurgeTo(upto));
        }
    }

    pub(crate) fn save_vote(&self, vote: Vote, flushed: Flushed) {
        let mut inner = self.lock();
        if inner.stopped {
            drop(inner);
            return flushed(Err(stopped()));
        }
        inner.outline.state.vote = Some(vote);
        self.enqueue(inner, Request::Vote(vote, flushed));
    }

    pub(crate) fn save_committed(&self, committed: Option<LogId>) {
        let mut inner = self.lock();
        inner.committed_changed |= inner.outline.state.committed != committed;
        inner.outline.state.committed = committed;
    }

    pub(crate) fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut taken = Taken { entries: Vec::new(), bytes: 0, bytes_max: max_bytes };
        let mut next = range.start;
        let mut drops = None;
        loop {
            let place = {
                let inner = self.lock();
                if drops.is_some_and(|drops| drops != inner.drops) {
                    break;
                }
                next = next.max(inner.outline.first);
                let end = range.end.min(inner.outline.next_index());
                if next >= end {
                    break;
                }
                if next >= inner.cache.first() {
                    let mut cached = inner.cache.range(next..end);
                    let _ = cached.try_for_each(|entry| taken.take(entry));
                    break;
                }
                inner.place(next, end)?
            };
            drops = Some(place.drops);
            let entries = place.read()?;
            let skip = usize::try_from(next - place.extent.first).unwrap_or(usize::MAX);
            next = place.end;
            let count = usize::try_from(next - place.extent.first).unwrap_or(usize::MAX);
            let mut wanted = entries.iter().take(count).skip(skip);
            if wanted.try_for_each(|entry| taken.take(entry)).is_none() {
                break;
            }
        }
        Ok(taken.entries)
    }

    /// Waits until there is something to do and takes all of it.
    pub(crate) async fn work(&self) -> Work {
        loop {
            if let Some(work) = self.take_work() {
                return work;
            }
            self.wake.notified().await;
        }
    }

    fn take_work(&self) -> Option<Work> {
        let mut inner = self.lock();
        if inner.queue.is_empty() && !inner.closed {
            return None;
        }
        let committed = std::mem::take(&mut inner.committed_changed);
        Some(Work {
            requests: std::mem::take(&mut inner.queue),
            committed: committed.then_some(inner.outline.state.committed),
            last: inner.closed,
        })
    }

    /// A segment has been started.
    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        self.lock().segments.push_back(segment);
    }

    /// Notes what has become durable; returns the segments that nothing needs any more.
    pub(crate) fn settle(&self, effects: Vec<Effect>, durable_append: u64) -> Vec<Arc<Segment>> {
        let mut inner = self.lock();
        for effect in effects {
            match effect {
                Effect::Record(extent) => inner.extents.push(extent),
                Effect::Cut(index) => inner.extents.cut(index),
                Effect::DropBefore(index) => inner.extents.drop_before(index),
            }
        }
        inner.cache.set_durable(durable_append);
        inner.unneeded()
    }

    /// The writer is gone: what is queued and what comes will not be written.
    pub(crate) fn stop(&self) {
        let queue = {
            let mut inner = self.lock();
            inner.stopped = true;
            std::mem::take(&mut inner.queue)
        };
        for request in queue {
            match request {
                Request::Append { flushed, .. } | Request::Vote(_, flushed) => {
                    flushed(Err(stopped()));
                }
                Request::TruncateAfter(_) | Request::PurgeTo(_) => (),
            }
        }
    }

    fn enqueue(&self, mut inner: MutexGuard<'_, Inner>, request: Request) {
        if !inner.stopped {
            inner.queue.push(request);
        }
        drop(inner);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while holding the lock")
    }
}

impl Inner {
    fn place(&self, index: u64, end: u64) -> io::Result<Place> {
        let extent = self.extents.find(index).ok_or_else(|| unreadable(index))?;
        let oldest = self.segments.front().map_or(0, |segment| segment.sequence);
        let position = usize::try_from(extent.sequence.wrapping_sub(oldest)).ok();
        let segment = position.and_then(|position| self.segments.get(position));
        Ok(Place {
            extent,
            segment: segment.ok_or_else(|| unreadable(index))?.clone(),
            // What the cache holds may differ from what is on disk, and is newer.
            end: extent.end().min(end).min(self.cache.first()),
            drops: self.drops,
        })
    }

    /// The oldest segments, as far as they hold no entry; never the newest, which is written to.
    fn unneeded(&mut self) -> Vec<Arc<Segment>> {
        let oldest_needed = self.extents.oldest_sequence().unwrap_or(u64::MAX);
        let holds_nothing = |segment: &Arc<Segment>| segment.sequence < oldest_needed;
        let others = self.segments.len().saturating_sub(1);
        let count = self.segments.iter().take(others).take_while(|s| holds_nothing(s)).count();
        self.segments.drain(..count).collect()
    }
}

impl Place {
    /// All entries of the record.
    fn read(&self) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; self.extent.size as usize];
        self.segment.file.read_at(&mut bytes, self.extent.offset)?;
        let frame = record::frame(&Bytes::from(bytes), self.extent.chain);
        match frame.as_ref().map(record::Frame::decode) {
            Some(Ok(Record::Entries(entries))) => Ok(entries),
            Some(Ok(_) | Err(_)) | None => Err(unreadable(self.extent.first)),
        }
    }
}

/// Entries that are being collected.
struct Taken {
    entries: Vec<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Taken {
    /// `None` once it would be too much.
    fn take(&mut self, entry: &Entry) -> Option<()> {
        self.bytes = self.bytes.saturating_add(entry.payload.len());
        if self.bytes > self.bytes_max && !self.entries.is_empty() {
            return None;
        }
        self.entries.push(entry.clone());
        Some(())
    }
}

pub(crate) fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the writer of the log has stopped")
}

fn unreadable(index: u64) -> io::Error {
    let text = format!("the log record of entry {index} is damaged or missing");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
