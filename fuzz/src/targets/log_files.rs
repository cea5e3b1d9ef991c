//! A folder with any files in it, opened as a log.
//!
//! An input is what there is besides one segment, and the length of the first segment's file in
//! words of eight bytes; then the first file, then the second.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use futures::executor::block_on;

use super::Settings;
use crate::{
    log::{
        Entry, EntryKind, FaultyFiles, Log, Options, State, Writer,
        record::{self, RECORD_HEADER_BYTES, Record},
        segment::{self, HEADER_BYTES, Header},
    },
    memory,
    types::LogId,
};

/// In the first byte of an input.
pub(crate) mod form {
    /// The first file is no longer than what is given of it; else zeros follow.
    pub(crate) const FIRST_CUT: u8 = 1;
    /// The same for the second.
    pub(crate) const SECOND_CUT: u8 = 2;
    /// A number is missing between the two.
    pub(crate) const GAP: u8 = 4;
    /// There is a spare file, which has been the first segment before.
    pub(crate) const SPARE: u8 = 8;
}

/// Bytes of an input before the files.
const SETTINGS_BYTES: usize = 3;

pub(crate) const SEGMENT_BYTES: u64 = 4096;

/// A window of the recovery, new segments, and a little more.
const MEMORY_BYTES: usize = 4 << 20;
/// An entry without payload has 29 bytes, and 64 in memory, in lists that double while they grow;
/// and everything is written again, which the files in memory keep.
const MEMORY_TIMES: usize = 32;

pub(crate) fn options() -> Options {
    Options { dir: PathBuf::from("/log"), group: 0, segment_bytes: SEGMENT_BYTES, cache_bytes: 0 }
}

pub fn run(input: &[u8]) {
    let mut settings = Settings(input);
    let (form, words) = (settings.byte(), settings.number());
    let (one, two) = settings.0.split_at((words * 8).min(settings.0.len()));
    let files = FaultyFiles::new(1);
    let (mut verified, mut all_sound) = (Vec::new(), true);
    let mut put = |name: &str, bytes: &[u8], is_cut: bool| {
        let mut content = bytes.to_vec();
        if !is_cut {
            content.resize(content.len().next_multiple_of(SEGMENT_BYTES as usize), 0);
        }
        verified.extend(entries_in(&content));
        all_sound &= is_sound(&content);
        files.set_content(&options().dir.join(name), content);
    };
    put(&segment::file_name(1), one, form & form::FIRST_CUT != 0);
    if !two.is_empty() {
        let sequence = if form & form::GAP == 0 { 2 } else { 3 };
        put(&segment::file_name(sequence), two, form & form::SECOND_CUT != 0);
    }
    if form & form::SPARE != 0 {
        let content = files.content(&Path::new("/log").join(segment::file_name(1)));
        files.set_content(&options().dir.join("spare-0"), content.expect("it was put there"));
    }
    let bytes_max = MEMORY_BYTES + MEMORY_TIMES * (input.len() + SEGMENT_BYTES as usize);
    memory::bounded(bytes_max, || open(&files, &verified, all_sound));
}

fn open(files: &FaultyFiles, verified: &[Entry], is_sound: bool) {
    let Ok((log, writer)) = Log::open(Arc::new(files.clone()), options()) else { return };
    let found = match log.entries(0..u64::MAX, usize::MAX) {
        Ok(found) => found,
        Err(error) if is_sound => panic!("what was checked on opening is not there: {error}"),
        Err(_) => return,
    };
    for pair in found.windows(2) {
        assert_eq!(pair[0].id.index + 1, pair[1].id.index, "there is a gap");
    }
    for entry in &found {
        assert!(verified.contains(entry), "no record holds {entry:?}");
    }
    goes_on(files, log, writer, found, is_sound);
}

/// One more entry can be appended, and what was found counts as written.
fn goes_on(files: &FaultyFiles, log: Log, writer: Writer, found: Vec<Entry>, is_sound: bool) {
    let index = log.state().last.map_or(0, |last| last.index.saturating_add(1));
    let id = LogId { term: u64::MAX, node: 1, index };
    let entry = Entry { id, kind: EntryKind::Blank, payload: Bytes::new() };
    log.append(vec![entry.clone()], Box::new(|_| ())); // refused when there is no next index
    let state = log.state();
    drop(log);
    block_on(writer.run());

    let (log, writer) = Log::open(Arc::new(files.clone()), options()).expect("it has been opened");
    // What was committed may be noted with more than there is; it grows with the log then.
    assert_eq!(State { committed: state.committed, ..log.state() }, state);
    if is_sound {
        let mut expected = found;
        if state.last == Some(id) {
            expected.push(entry);
        }
        assert_eq!(log.entries(0..u64::MAX, usize::MAX).expect("it has been read"), expected);
    }
    drop((log, writer));
}

/// Whether a header says what a log can be. The checksum of one that does not is right by
/// construction here, and by chance of one in four billion elsewhere.
fn is_sound(content: &[u8]) -> bool {
    let Ok(Header { outline, .. }) = Header::decode(content) else { return true };
    let State { purged, last, .. } = outline.state;
    let after = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    after(purged) <= after(last) && after(purged) <= outline.first
}

/// All entries in records whose checksums fit, from the beginning of a segment on.
fn entries_in(content: &[u8]) -> Vec<Entry> {
    let Ok(header) = Header::decode(content) else { return Vec::new() };
    let (bytes, mut at) = (Bytes::copy_from_slice(content), header.start());
    let mut entries = Vec::new();
    while let Some(size) = size_at(&bytes, at.offset as usize) {
        let record = bytes.slice(at.offset as usize..at.offset as usize + size);
        let stored = u32::from_le_bytes(record[4..8].try_into().expect("four bytes"));
        if record[12] == 0 || stored != checksum(&record, at.chain) {
            break;
        }
        let frame = record::frame(&record, at.chain).expect("its checksum fits");
        if let Ok(Record::Entries(more)) = frame.decode() {
            entries.extend(more);
        }
        (at.offset, at.chain) = (at.offset + size as u64, stored);
    }
    entries
}

/// Size of the record at this place, if all of it is there.
fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + RECORD_HEADER_BYTES)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let size = (RECORD_HEADER_BYTES + length).next_multiple_of(8);
    (at + size <= bytes.len()).then_some(size)
}

fn checksum(record: &[u8], chain: u32) -> u32 {
    crc32c_append(crc32c_append(chain, &record[..4]), &record[8..])
}

/// Makes most inputs right again after a mutation: what is behind a checksum would hardly ever be
/// reached otherwise.
pub fn seal(input: &mut [u8], seed: u32) {
    let Some((settings, files)) = input.split_at_mut_checked(SETTINGS_BYTES) else { return };
    if seed.is_multiple_of(4) {
        return;
    }
    let words = usize::from(u16::from_le_bytes([settings[1], settings[2]]));
    let (one, two) = files.split_at_mut((words * 8).min(files.len()));
    let end = seal_segment(one, seed);
    let header = two.first_chunk_mut::<HEADER_BYTES>().zip(end);
    if let Some((header, (offset, chain))) = header.filter(|_| !seed.is_multiple_of(5)) {
        header[40..48].copy_from_slice(&(offset as u64).to_le_bytes());
        header[48..52].copy_from_slice(&chain.to_le_bytes());
    }
    seal_segment(two, seed);
}

/// Where the records end, and the chain there.
fn seal_segment(segment: &mut [u8], seed: u32) -> Option<(usize, u32)> {
    let (header, _) = segment.split_first_chunk_mut::<HEADER_BYTES>()?;
    let salt: [u8; 8] = header[24..32].try_into().expect("eight bytes");
    let (covered, crc) = header.split_at_mut(HEADER_BYTES - 4);
    let mut chain = crc32c(covered);
    crc.copy_from_slice(&chain.to_le_bytes());
    let mut at = HEADER_BYTES;
    while let Some(size) = size_at(segment, at) {
        let record = &mut segment[at..at + size];
        // Where zeros begin, nothing has been written; and some chains stay broken.
        if record[12] == 0 || seed as usize % 97 == at / 8 % 97 {
            break;
        }
        let is_mark = record[12] == 6 && record[..4] == 32u32.to_le_bytes();
        if is_mark {
            record[16..24].copy_from_slice(&salt);
            record[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            let inner = crc32c(&record[16..40]).rotate_right(15);
            record[40..44].copy_from_slice(&inner.to_le_bytes());
        }
        chain = checksum(record, chain);
        record[4..8].copy_from_slice(&chain.to_le_bytes());
        at += size;
    }
    Some((at, chain))
}
