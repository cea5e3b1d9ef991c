//! Opening a log: what its files say, whether that can be trusted, and where writing goes on.
//!
//! Nothing is changed before all of it has been read and found good.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::Bytes;

use super::{
    Error, File,
    extents::{Extent, Extents},
    folder::Folder,
    outline::{Outline, after},
    record::{self, ALIGNMENT, Frame, MARK_BYTES, RECORD_HEADER_BYTES, Record},
    segment::{Active, End, HEADER_BYTES, Header, Segment},
};

/// Read at a time; a longer record is read as a whole.
const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Recovered {
    pub(crate) outline: Outline,
    pub(crate) extents: Extents,
    /// In use, the active one last.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: Active,
}

/// What the records so far amount to.
struct Replay {
    group: u32,
    outline: Outline,
    extents: Extents,
    /// Entries before this index that are not purged stood in segments that are gone.
    unseen_before: u64,
}

/// How a segment ends.
struct Tail {
    end: End,
    /// Everything before this offset was durable when it was written.
    durable: u64,
    /// The last record is a mark.
    marked: bool,
}

/// What stands behind the last record.
enum Rest {
    Zeros,
    /// A torn write, or what an earlier use of the file has left.
    Other,
}

pub(crate) fn recover(folder: &mut Folder) -> Result<Recovered, Error> {
    let sequences = folder.scan()?;
    // Segments are removed oldest first, but a crash may bring an older one back.
    let consecutive = sequences.windows(2).rev().take_while(|pair| pair[0] + 1 == pair[1]).count();
    let (left_over, run) = sequences.split_at(sequences.len().saturating_sub(consecutive + 1));
    let mut opened = Vec::with_capacity(run.len());
    for sequence in run {
        let segment = folder.open(*sequence)?;
        let header = read_header(&segment, folder.group)?;
        opened.push((segment, header));
    }
    let Some((newest, newest_header)) = opened.pop() else {
        return start(folder);
    };
    let oldest = opened.first().map_or(&newest_header, |(_, header)| header);
    let mut replay = Replay::new(folder.group, oldest.outline);
    for (position, (segment, header)) in opened.iter().enumerate() {
        let next = opened.get(position + 1).map_or((&newest, &newest_header), |(s, h)| (s, h));
        replay.closed_segment(segment, header, next)?;
    }
    let tail = replay.segment(&newest, &newest_header, None)?;
    let rest = check_rest(&newest, &newest_header, &tail)?;
    replay.check_complete(folder)?;

    let mut segments: VecDeque<_> = opened.into_iter().map(|(segment, _)| segment.into()).collect();
    let newest = Arc::new(newest);
    segments.push_back(newest.clone());
    let active = go_on(folder, &newest, newest_header, tail, rest, replay.outline)?;
    if !Arc::ptr_eq(&newest, &active.segment) {
        segments.push_back(active.segment.clone());
    }
    drop(newest);
    folder.remove(left_over)?;
    folder.retire(replay.unneeded(&mut segments))?;
    folder.keep_spares()?;
    let Replay { mut outline, extents, .. } = replay;
    let state = &mut outline.state;
    // The entries up to the committed one stood in the log when it was noted. If the newest of them
    // were not durable, those that are left are committed still.
    if state.committed.map(|id| id.index) > state.last.map(|id| id.index) {
        state.committed = state.last;
    }
    Ok(Recovered { outline, extents, segments, active })
}

/// A log that has nothing in it.
fn start(folder: &mut Folder) -> Result<Recovered, Error> {
    let outline = Outline::default();
    let active = folder.activate(1, None, outline, 0)?;
    folder.keep_spares()?;
    let segments = VecDeque::from([active.segment.clone()]);
    Ok(Recovered { outline, extents: Extents::default(), segments, active })
}

fn read_header(segment: &Segment, group: u32) -> Result<Header, Error> {
    let file = segment.path.clone();
    let mut bytes = vec![0; (HEADER_BYTES as u64).min(segment.file.size()?) as usize];
    segment.file.read_at(&mut bytes, 0)?;
    let header = Header::decode(&bytes).map_err(|fault| fault.of_file(&segment.path))?;
    if header.group != group {
        return Err(Error::Group { file, found: header.group, expected: group });
    }
    if header.sequence != segment.sequence {
        return Err(corrupt(segment, 0, "the segment header is that of another segment"));
    }
    Ok(header)
}

/// Makes sure that everything recovered is on disk, and decides where the next record goes.
fn go_on(
    folder: &mut Folder,
    newest: &Arc<Segment>,
    header: Header,
    tail: Tail,
    rest: Rest,
    outline: Outline,
) -> io::Result<Active> {
    // What no mark vouches for may be in the page cache only, where even an fsync would not find
    // it after one that failed. Writing the same bytes again makes the pages dirty.
    let mut unsure = vec![0; (tail.end.offset - tail.durable) as usize];
    newest.file.read_at(&mut unsure, tail.durable)?;
    newest.file.write_at(&unsure, tail.durable)?;
    newest.file.sync()?;
    folder.sync()?;
    match rest {
        Rest::Zeros => {
            let zeroed = tail.end.offset;
            let segment = newest.clone();
            let mut active = Active { segment, header, tail: tail.end, durable: tail.end, zeroed };
            if !tail.marked {
                active.mark_durable()?;
            }
            Ok(active)
        }
        Rest::Other => {
            let end = Some(tail.end);
            let active = folder.activate(newest.sequence + 1, end, outline, 0)?;
            // The rest of the file will not be used.
            newest.file.truncate(tail.end.offset)?;
            Ok(active)
        }
    }
}

/// Looks behind the last record for a mark that vouches for more than was read, which shows that
/// the chain was broken by damage and not by a torn write.
fn check_rest(segment: &Segment, header: &Header, tail: &Tail) -> Result<Rest, Error> {
    let mut window = Window::new(&segment.file, header.capacity);
    let (mut offset, mut rest) = (tail.end.offset, Rest::Zeros);
    while offset < header.capacity {
        let bytes = window.get(offset, WINDOW_BYTES)?;
        if bytes.iter().fold(0, |any, byte| any | byte) != 0 {
            rest = Rest::Other;
            let vouched = record::marks(&bytes, offset, header.salt)
                .any(|mark| mark.durable > tail.end.offset);
            if vouched {
                let reason = "a record that was durable is damaged";
                return Err(corrupt(segment, tail.end.offset, reason));
            }
        }
        // A mark may lie across the end of the window.
        let overlap = if bytes.len() > 2 * MARK_BYTES { MARK_BYTES } else { 0 };
        let last = offset + bytes.len() as u64 >= header.capacity;
        offset += (bytes.len() - if last { 0 } else { overlap }) as u64;
    }
    Ok(rest)
}

impl Replay {
    fn new(group: u32, outline: Outline) -> Replay {
        let unseen_before = outline.next_index();
        Replay { group, outline, extents: Extents::default(), unseen_before }
    }

    /// A segment that another follows: its end is known, and so is the state there.
    fn closed_segment(
        &mut self,
        segment: &Segment,
        header: &Header,
        (next, next_header): (&Segment, &Header),
    ) -> Result<(), Error> {
        let Some(end) = next_header.previous else {
            return Err(corrupt(next, 0, "the header does not know of the segment before it"));
        };
        self.segment(segment, header, Some(end))?;
        // What was committed may have been noted with more than is left of the log.
        let mut expected = self.outline;
        expected.state.committed = next_header.outline.state.committed;
        if next_header.outline != expected {
            return Err(corrupt(next, 0, "the header contradicts the segment before it"));
        }
        Ok(())
    }

    /// Applies the records of a segment up to `end`, or up to the first that is not intact.
    fn segment(
        &mut self,
        segment: &Segment,
        header: &Header,
        end: Option<End>,
    ) -> Result<Tail, Error> {
        let limit = end.map_or(header.capacity, |end| end.offset);
        let size = segment.file.size()?;
        if size < limit {
            return Err(corrupt(segment, size, "the file has been cut"));
        }
        let mut window = Window::new(&segment.file, limit);
        let start = header.start();
        let mut tail = Tail { end: start, durable: start.offset, marked: false };
        while let Some(frame) = window.frame(tail.end)? {
            let at = tail.end;
            let damaged = |reason| corrupt(segment, at.offset, reason);
            tail.end = End { offset: at.offset + frame.size as u64, chain: frame.chain };
            match self.record(&frame, at, segment.sequence).map_err(damaged)? {
                Some(mark) if (mark.salt, mark.offset) != (header.salt, at.offset) => {
                    return Err(damaged("a mark stands where it does not belong"));
                }
                Some(mark) => (tail.durable, tail.marked) = (mark.durable, true),
                None => tail.marked = false,
            }
        }
        match end {
            Some(end) if end != tail.end => {
                Err(corrupt(segment, tail.end.offset, "a record that was durable is damaged"))
            }
            Some(_) | None => Ok(tail),
        }
    }

    /// Applies one record that starts at `at`; returns it if it is a mark.
    fn record(
        &mut self,
        frame: &Frame,
        at: End,
        sequence: u64,
    ) -> Result<Option<record::Mark>, &'static str> {
        if frame.group != self.group {
            return Err("a record belongs to another Raft group");
        }
        match frame.decode().map_err(|record::Malformed| "a record has an unknown form")? {
            Record::Entries(entries) => {
                if !self.outline.accepts(&entries) {
                    return Err("entries do not continue the log");
                }
                let first = entries[0].id.index;
                self.extents.push(Extent {
                    first,
                    count: entries.len() as u32,
                    chain: at.chain,
                    sequence,
                    offset: at.offset,
                    size: frame.size as u32,
                });
                self.unseen_before = self.unseen_before.min(first);
                self.outline.append(&entries);
            }
            Record::Vote(vote) => self.outline.state.vote = Some(vote),
            Record::TruncateAfter(last) => {
                self.outline.truncate_after(last);
                self.extents.cut(after(last));
                self.unseen_before = self.unseen_before.min(after(last));
            }
            Record::PurgeTo(upto) => {
                self.outline.purge(upto);
                self.extents.drop_before(after(Some(upto)));
            }
            Record::Committed(committed) => self.outline.state.committed = committed,
            Record::Mark(mark) => return Ok(Some(mark)),
        }
        Ok(None)
    }

    fn check_complete(&self, folder: &Folder) -> Result<(), Error> {
        let first = self.outline.first;
        if first < self.unseen_before {
            return Err(Error::Missing { dir: folder.dir(), first, last: self.unseen_before - 1 });
        }
        Ok(())
    }

    /// Takes out the oldest segments that hold no entry any more.
    fn unneeded(&self, segments: &mut VecDeque<Arc<Segment>>) -> Vec<Arc<Segment>> {
        let needed = self.extents.oldest_sequence().unwrap_or(u64::MAX);
        let others = segments.len().saturating_sub(1);
        let count = segments.iter().take(others).take_while(|s| s.sequence < needed).count();
        segments.drain(..count).collect()
    }
}

/// Part of a file in memory, read ahead of the records.
struct Window<'a> {
    file: &'a Arc<dyn File>,
    /// Nothing from here on is read.
    limit: u64,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    fn new(file: &Arc<dyn File>, limit: u64) -> Window<'_> {
        Window { file, limit, start: 0, bytes: Bytes::new() }
    }

    /// `size` bytes, or fewer at the limit.
    fn get(&mut self, offset: u64, size: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let size = size.min(left);
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + size as u64 > held.end {
            let mut bytes = vec![0; size.max(WINDOW_BYTES).min(left)];
            self.file.read_at(&mut bytes, offset)?;
            (self.start, self.bytes) = (offset, Bytes::from(bytes));
        }
        let skip = (offset - self.start) as usize;
        Ok(self.bytes.slice(skip..skip + size))
    }

    /// The record at this place, if it is intact.
    fn frame(&mut self, at: End) -> io::Result<Option<Frame>> {
        debug_assert!(at.offset.is_multiple_of(ALIGNMENT as u64));
        let header = self.get(at.offset, RECORD_HEADER_BYTES)?;
        let Some(size) = record::claimed_size(&header) else { return Ok(None) };
        if size as u64 > self.limit - at.offset {
            return Ok(None);
        }
        let bytes = self.get(at.offset, size)?;
        Ok(record::frame(&bytes, at.chain))
    }
}

fn corrupt(segment: &Segment, offset: u64, reason: &'static str) -> Error {
    Error::Corrupt { file: segment.path.clone(), offset, reason }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        log::{Entry, EntryKind, FaultyFiles, Log, Options, State, record::Mark, segment},
        types::{LogId, Vote},
    };

    /// Numbers that are likely to be near something.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, 500..600u64, (u64::MAX - 3)..=u64::MAX, any::<u64>()]
    }

    fn log_id() -> impl Strategy<Value = LogId> {
        (number(), number()).prop_map(|(term, index)| LogId { term, node: 1, index })
    }

    fn outline() -> impl Strategy<Value = Outline> {
        let id = || prop::option::of(log_id());
        (id(), id(), id(), number()).prop_map(|(committed, purged, last, first)| {
            let vote = Some(Vote { term: first, node: 1, committed: false });
            Outline { state: State { vote, committed, purged, last }, first }
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (log_id(), 1..4u64).prop_map(|(first, count)| {
                let entry = |index| Entry {
                    id: LogId { index, ..first },
                    kind: EntryKind::Command,
                    payload: Bytes::new(),
                };
                let end = first.index.saturating_add(count);
                Record::Entries((first.index..end).map(entry).collect())
            }),
            prop::option::of(log_id()).prop_map(Record::TruncateAfter),
            log_id().prop_map(Record::PurgeTo),
            prop::option::of(log_id()).prop_map(Record::Committed),
            (number(), number()).prop_map(|(offset, durable)| Record::Mark(Mark {
                salt: 7,
                offset,
                durable
            })),
        ]
    }

    /// A file whose checksums are right and whose numbers are not.
    fn file(sequence: u64) -> impl Strategy<Value = Vec<u8>> {
        let records = prop::collection::vec(record(), 0..5);
        let previous = prop::option::of(number());
        let right = (any::<bool>(), outline(), prop::option::of(0..1usize << 11));
        (number(), previous, right, records).prop_map(
            move |(capacity, previous, (plain, outline, cut), records)| {
                let header = Header {
                    group: 0,
                    sequence,
                    salt: 7,
                    capacity: if plain { 2048 } else { capacity },
                    previous: previous.map(|offset| End { offset, chain: 0 }),
                    outline: if plain { Outline::default() } else { outline },
                };
                let (mut bytes, mut chain) = (header.encode(), header.start().chain);
                for record in &records {
                    chain = record::encode(&mut bytes, chain, 0, record);
                }
                bytes.resize(2048, 0);
                bytes.truncate(cut.unwrap_or(2048));
                bytes
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_content_makes_opening_or_reading_panic(
            one in file(1), two in prop::option::of(file(2)),
        ) {
            let (files, dir) = (FaultyFiles::new(1), PathBuf::from("/log"));
            for (sequence, bytes) in [(1, Some(one)), (2, two)] {
                if let Some(bytes) = bytes {
                    files.set_content(&Path::new(&dir).join(segment::file_name(sequence)), bytes);
                }
            }
            let options = Options { dir, group: 0, segment_bytes: 4096, cache_bytes: 0 };
            if let Ok((log, writer)) = Log::open(Arc::new(files), options) {
                let _ = log.entries(0..u64::MAX, usize::MAX);
                let last = log.state().last;
                let id = LogId { term: 9, node: 1, index: after(last) };
                let entry = Entry { id, kind: EntryKind::Blank, payload: Bytes::new() };
                log.append(vec![entry], Box::new(|_| ()));
                log.truncate_after(last);
                log.purge(id);
                drop(log);
                futures::executor::block_on(writer.run());
            }
        }
    }
}
