//! Records: what the log writes, as bytes. Pure functions that accept any input.
//!
//! A record, all numbers little-endian, padded with zeros to a multiple of 8 bytes:
//!
//! | bytes | |
//! | --- | --- |
//! | 0..4 | length of the payload, without padding |
//! | 4..8 | CRC32C of all other bytes, padding too, continued from the record before |
//! | 8..12 | Raft group |
//! | 12 | kind |
//! | 13..16 | zero |
//! | 16.. | payload |

use bytes::{Buf, BufMut, Bytes};
use crc32c::{crc32c, crc32c_append};

use super::{Entry, EntryKind};
use crate::types::{LogId, Vote};

/// Bytes before the payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 16;

/// Where records start. A search for marks needs to look at these offsets only.
pub(crate) const ALIGNMENT: usize = 8;

/// Size of a mark with its record header.
pub(crate) const MARK_BYTES: usize = RECORD_HEADER_BYTES + MARK_PAYLOAD_BYTES;

/// Largest payload of an entry; keeps every length within 32 bits with room to spare.
pub(crate) const ENTRY_BYTES_MAX: usize = 1 << 29;

const MARK_PAYLOAD_BYTES: usize = 32;

/// Term, node, index, kind and length before the payload of an entry.
const ENTRY_HEADER_BYTES: usize = 29;

/// Longer lists of entries are split over several records: to read one entry, its record is read.
const ENTRIES_PAYLOAD_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Entries(Vec<Entry>),
    Vote(Vote),
    TruncateAfter(Option<LogId>),
    PurgeTo(LogId),
    Committed(Option<LogId>),
    Mark(Mark),
}

/// Says how far a segment is durable. Verifies without the chain, at one place in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The segment's.
    pub(crate) salt: u64,
    /// Of the mark's own record in the segment.
    pub(crate) offset: u64,
    /// Everything before this offset was durable when the mark was written.
    pub(crate) durable: u64,
}

/// An intact record with what stands in its header.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) group: u32,
    pub(crate) payload: Bytes,
    /// Of the whole record.
    pub(crate) size: usize,
    /// What the next record continues.
    pub(crate) chain: u32,
    kind: u8,
}

/// The checksum is right and the content is not: a newer release, or our bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Clone, Copy)]
enum Kind {
    // Zero is not a kind, so zeros are not a record.
    Entries = 1,
    Vote = 2,
    TruncateAfter = 3,
    PurgeTo = 4,
    Committed = 5,
    Mark = 6,
}

/// Appends a record; returns the chain that the next one continues.
pub(crate) fn encode(buffer: &mut Vec<u8>, chain: u32, group: u32, record: &Record) -> u32 {
    match record {
        Record::Entries(entries) => encode_entries(buffer, chain, group, entries),
        Record::Vote(vote) => frame_up(buffer, chain, group, Kind::Vote, |buffer| {
            put_vote(buffer, Some(*vote));
        }),
        Record::TruncateAfter(last) => {
            frame_up(buffer, chain, group, Kind::TruncateAfter, |buffer| put_log_id(buffer, *last))
        }
        Record::PurgeTo(upto) => {
            frame_up(buffer, chain, group, Kind::PurgeTo, |buffer| put_log_id(buffer, Some(*upto)))
        }
        Record::Committed(committed) => {
            frame_up(buffer, chain, group, Kind::Committed, |buffer| put_log_id(buffer, *committed))
        }
        Record::Mark(mark) => frame_up(buffer, chain, group, Kind::Mark, |buffer| {
            let start = buffer.len();
            buffer.put_u64_le(mark.salt);
            buffer.put_u64_le(mark.offset);
            buffer.put_u64_le(mark.durable);
            buffer.put_u32_le(mark_checksum(&buffer[start..]));
            buffer.put_u32_le(0);
        }),
    }
}

/// As [`encode`] does it for [`Record::Entries`].
pub(crate) fn encode_entries(
    buffer: &mut Vec<u8>,
    chain: u32,
    group: u32,
    entries: &[Entry],
) -> u32 {
    buffer.reserve(entries_size(entries));
    frame_up(buffer, chain, group, Kind::Entries, |buffer| {
        buffer.put_u32_le(entries.len() as u32);
        for Entry { id, kind, payload } in entries {
            buffer.put_u64_le(id.term);
            buffer.put_u64_le(id.node);
            buffer.put_u64_le(id.index);
            buffer.put_u8(*kind as u8);
            buffer.put_u32_le(payload.len() as u32);
            buffer.put_slice(payload);
        }
    })
}

/// Size of the record that holds these entries.
pub(crate) fn entries_size(entries: &[Entry]) -> usize {
    let payloads: usize =
        entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.payload.len()).sum();
    (RECORD_HEADER_BYTES + 4 + payloads).next_multiple_of(ALIGNMENT)
}

/// Cuts a list of entries into those that make one record each.
pub(crate) fn split(mut entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += ENTRY_HEADER_BYTES + entry.payload.len();
            bytes <= ENTRIES_PAYLOAD_BYTES
        };
        let count = entries.iter().take_while(fits).count().max(1).min(entries.len());
        let (record, rest) = entries.split_at(count);
        entries = rest;
        (!record.is_empty()).then_some(record)
    })
}

/// Size that the record starting with these bytes claims to have; `None` if they are too few.
pub(crate) fn claimed_size(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(..RECORD_HEADER_BYTES)?.get_u32_le();
    (RECORD_HEADER_BYTES + length as usize).checked_next_multiple_of(ALIGNMENT)
}

/// The record that `bytes` start with, if it is intact and continues `chain`.
pub(crate) fn frame(bytes: &Bytes, chain: u32) -> Option<Frame> {
    let size = claimed_size(bytes)?;
    let record = bytes.get(..size)?;
    let mut header = &record[..RECORD_HEADER_BYTES];
    let (length, stored, group) = (header.get_u32_le(), header.get_u32_le(), header.get_u32_le());
    let kind = header.get_u8();
    if kind == 0 || stored != checksum(record, chain) {
        return None;
    }
    let payload = bytes.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length as usize);
    Some(Frame { group, payload, size, chain: stored, kind })
}

impl Frame {
    pub(crate) fn decode(&self) -> Result<Record, Malformed> {
        let mut payload = &self.payload[..];
        let kind = Kind::from_disk(self.kind).ok_or(Malformed)?;
        let record = match kind {
            Kind::Entries => return decode_entries(&self.payload).map(Record::Entries),
            Kind::Vote => take_vote(&mut payload)?.map(Record::Vote),
            Kind::TruncateAfter => Some(Record::TruncateAfter(take_log_id(&mut payload)?)),
            Kind::PurgeTo => take_log_id(&mut payload)?.map(Record::PurgeTo),
            Kind::Committed => Some(Record::Committed(take_log_id(&mut payload)?)),
            Kind::Mark => {
                let mark = take_mark(payload).map(Record::Mark);
                payload = &[];
                mark
            }
        };
        record.filter(|_| payload.is_empty()).ok_or(Malformed)
    }
}

/// Marks of the segment with this salt, found without the chain. `start` is where `bytes` stand in
/// the segment, a multiple of [`ALIGNMENT`].
pub(crate) fn marks(bytes: &[u8], start: u64, salt: u64) -> impl Iterator<Item = Mark> {
    let pattern = salt.to_le_bytes();
    let words = bytes.chunks_exact(ALIGNMENT).enumerate();
    words.filter(move |(_, word)| **word == pattern).filter_map(move |(word, _)| {
        let at = word * ALIGNMENT;
        let mark = take_mark(bytes.get(at..at + MARK_PAYLOAD_BYTES)?)?;
        let stands_there = mark.offset + RECORD_HEADER_BYTES as u64 == start + at as u64;
        stands_there.then_some(mark)
    })
}

/// Entries of a record's payload, which they share.
fn decode_entries(payload: &Bytes) -> Result<Vec<Entry>, Malformed> {
    let mut rest = payload.clone();
    let count = rest.try_get_u32_le()? as usize;
    // Every entry takes its header at least, so a wrong count can't make us allocate much.
    if count == 0 || count > rest.len() / ENTRY_HEADER_BYTES {
        return Err(Malformed);
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..count {
        let term = rest.try_get_u64_le()?;
        let node = rest.try_get_u64_le()?;
        let index = rest.try_get_u64_le()?;
        let kind = EntryKind::from_disk(rest.try_get_u8()?).ok_or(Malformed)?;
        let length = rest.try_get_u32_le()? as usize;
        let consecutive =
            entries.last().is_none_or(|entry| entry.id.index.checked_add(1) == Some(index));
        if length > rest.len() || !consecutive || index == u64::MAX {
            return Err(Malformed);
        }
        let id = LogId { term, node, index };
        entries.push(Entry { id, kind, payload: rest.split_to(length) });
    }
    if rest.is_empty() { Ok(entries) } else { Err(Malformed) }
}

pub(crate) fn put_log_id(buffer: &mut Vec<u8>, id: Option<LogId>) {
    buffer.put_u8(id.is_some().into());
    let LogId { term, node, index } = id.unwrap_or(LogId { term: 0, node: 0, index: 0 });
    for number in [term, node, index] {
        buffer.put_u64_le(number);
    }
}

pub(crate) fn take_log_id(bytes: &mut &[u8]) -> Result<Option<LogId>, Malformed> {
    let present = bytes.try_get_u8()?;
    let (term, node) = (bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
    let id = LogId { term, node, index: bytes.try_get_u64_le()? };
    match present {
        0 => Ok(None),
        1 if id.index < u64::MAX => Ok(Some(id)),
        _ => Err(Malformed),
    }
}

pub(crate) fn put_vote(buffer: &mut Vec<u8>, vote: Option<Vote>) {
    buffer.put_u8(vote.map_or(0, |vote| if vote.committed { 2 } else { 1 }));
    buffer.put_u64_le(vote.map_or(0, |vote| vote.term));
    buffer.put_u64_le(vote.map_or(0, |vote| vote.node));
}

pub(crate) fn take_vote(bytes: &mut &[u8]) -> Result<Option<Vote>, Malformed> {
    let form = bytes.try_get_u8()?;
    let (term, node) = (bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
    match form {
        0 => Ok(None),
        1 | 2 => Ok(Some(Vote { term, node, committed: form == 2 })),
        _ => Err(Malformed),
    }
}

fn take_mark(payload: &[u8]) -> Option<Mark> {
    let mut rest = payload;
    if payload.len() != MARK_PAYLOAD_BYTES {
        return None;
    }
    let (salt, offset, durable) = (rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le());
    let intact = rest.get_u32_le() == mark_checksum(&payload[..24]) && rest.get_u32_le() == 0;
    // A mark can't know of bytes after itself.
    (intact && durable <= offset && offset < i64::MAX as u64).then_some(Mark {
        salt,
        offset,
        durable,
    })
}

/// Turned, because bytes followed by their plain CRC32C leave the record's own CRC32C as it is
/// whatever the bytes are: a mark from an earlier use of the file would continue the chain.
fn mark_checksum(fields: &[u8]) -> u32 {
    crc32c(fields).rotate_right(15)
}

/// Writes header, payload and padding around what `put_payload` appends.
fn frame_up(
    buffer: &mut Vec<u8>,
    chain: u32,
    group: u32,
    kind: Kind,
    put_payload: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = buffer.len();
    buffer.put_bytes(0, 8);
    buffer.put_u32_le(group);
    buffer.put_u8(kind as u8);
    buffer.put_bytes(0, 3);
    put_payload(buffer);
    let length = buffer.len() - start - RECORD_HEADER_BYTES;
    let size = (RECORD_HEADER_BYTES + length).next_multiple_of(ALIGNMENT);
    buffer.resize(start + size, 0);
    buffer[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    let chain = checksum(&buffer[start..], chain);
    buffer[start + 4..start + 8].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// Of a whole record, except the four bytes that hold it.
fn checksum(record: &[u8], chain: u32) -> u32 {
    crc32c_append(crc32c_append(chain, &record[..4]), &record[8..])
}

impl Kind {
    fn from_disk(raw: u8) -> Option<Kind> {
        let all = [
            Kind::Entries,
            Kind::Vote,
            Kind::TruncateAfter,
            Kind::PurgeTo,
            Kind::Committed,
            Kind::Mark,
        ];
        all.into_iter().find(|kind| *kind as u8 == raw)
    }
}

impl EntryKind {
    fn from_disk(raw: u8) -> Option<EntryKind> {
        let all = [EntryKind::Blank, EntryKind::Command, EntryKind::Membership];
        all.into_iter().find(|kind| *kind as u8 == raw)
    }
}

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Malformed {
        Malformed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_id() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any::<u64>(), 0..u64::MAX - 10).prop_map(|(term, node, index)| LogId {
            term,
            node,
            index,
        })
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5);
        (log_id(), payloads).prop_map(|(first, payloads)| {
            let numbered = payloads.into_iter().zip(first.index..);
            let entry = |(payload, index)| Entry {
                id: LogId { index, ..first },
                kind: EntryKind::Command,
                payload: Bytes::from(payload),
            };
            numbered.map(entry).collect()
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            entries().prop_map(Record::Entries),
            (any::<u64>(), any::<u64>(), any::<bool>())
                .prop_map(|(term, node, committed)| Record::Vote(Vote { term, node, committed })),
            prop::option::of(log_id()).prop_map(Record::TruncateAfter),
            log_id().prop_map(Record::PurgeTo),
            prop::option::of(log_id()).prop_map(Record::Committed),
            (any::<u64>(), 0..1u64 << 40, 0..1u64 << 20).prop_map(|(salt, offset, below)| {
                Record::Mark(Mark { salt, offset, durable: offset.saturating_sub(below) })
            }),
        ]
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec(record(), 0..6), seed: u32) {
            let mut buffer = Vec::new();
            let mut chain = seed;
            for record in &records {
                chain = encode(&mut buffer, chain, 3, record);
            }
            let (mut rest, mut found, mut read) = (Bytes::from(buffer), Vec::new(), seed);
            while let Some(frame) = frame(&rest, read) {
                prop_assert_eq!(frame.group, 3);
                found.push(frame.decode().unwrap());
                read = frame.chain;
                rest.advance(frame.size);
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read, chain);
            prop_assert_eq!(found, records);
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0u8..8,
        ) {
            let _ = frame(&Bytes::from(bytes.clone()), 0);
            let _ = marks(&bytes, 0, 0).count();
            let payload = Bytes::from(bytes);
            let _ = Frame { group: 0, size: 0, chain: 0, payload, kind }.decode();
        }

        #[test]
        fn a_record_verifies_only_behind_the_one_that_it_was_written_behind(
            record in record(), chain: u32, other: u32,
        ) {
            let mut buffer = Vec::new();
            encode(&mut buffer, chain, 0, &record);
            prop_assert_eq!(frame(&Bytes::from(buffer), other).is_some(), chain == other);
        }
    }

    #[test]
    fn a_mark_is_found_only_where_it_was_written_and_with_its_salt() {
        let mut buffer = vec![0xEE; 64];
        let mark = Mark { salt: 77, offset: 512 + 64, durable: 560 };
        encode(&mut buffer, 5, 0, &Record::Mark(mark));
        assert_eq!(buffer.len(), 64 + MARK_BYTES);
        assert_eq!(marks(&buffer, 512, 77).collect::<Vec<_>>(), [mark]);
        assert_eq!(marks(&buffer, 520, 77).count(), 0, "elsewhere");
        assert_eq!(marks(&buffer, 512, 78).count(), 0, "another segment's");
        buffer[64 + 40] ^= 1;
        assert_eq!(marks(&buffer, 512, 77).count(), 0, "damaged");
    }

    #[test]
    fn a_mark_of_an_earlier_use_does_not_continue_the_chain() {
        let encoded = |salt| {
            let mut buffer = Vec::new();
            encode(&mut buffer, 5, 0, &Record::Mark(Mark { salt, offset: 512, durable: 512 }));
            buffer
        };
        let (mut mixed, old) = (encoded(1), encoded(2));
        mixed[8..].copy_from_slice(&old[8..]);
        assert!(frame(&Bytes::from(mixed), 5).is_none());
    }

    #[test]
    fn long_lists_are_split_and_nothing_is_lost() {
        let entry = |index, size| Entry {
            id: LogId { term: 1, node: 1, index },
            kind: EntryKind::Command,
            payload: Bytes::from(vec![0; size]),
        };
        let entries = [entry(1, 10), entry(2, 3 << 20), entry(3, 600_000), entry(4, 600_000)];
        let sizes: Vec<_> = split(&entries).map(<[Entry]>::len).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
        assert_eq!(split(&entries[..1]).count(), 1);
        assert_eq!(split(&[]).count(), 0);
        assert_eq!(split(&[entry(1, 1), entry(2, 1)]).count(), 1);
    }
}
