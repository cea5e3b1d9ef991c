//! Segments: the header that starts one, and the one that is written to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use super::{
    Error, File, State,
    outline::Outline,
    record::{self, MARK_BYTES, Malformed, Mark, Record},
};

/// One sector: a header is on disk or it is not.
pub(crate) const HEADER_BYTES: usize = 512;

/// Format of segments and records that this release writes and reads.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"ORRYLOG\n";

/// In a file that is new, zeros are written this far ahead of the records, along with them: the
/// fdatasyncs that follow find blocks that are already written. The price is one longer write now
/// and then, about 1 ms each; a recycled file needs none.
const ZERO_AHEAD_BYTES: u64 = 256 << 10;

const BLOCK_BYTES: u64 = 4096;

/// Where a segment ends, and the chain there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) offset: u64,
    pub(crate) chain: u32,
}

/// First bytes of a segment. Durable before the file has a segment's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) group: u32,
    pub(crate) sequence: u64,
    /// Unlike that of any other use of this file, and unknown to whoever sends payloads.
    pub(crate) salt: u64,
    /// The file has at least this size.
    pub(crate) capacity: u64,
    /// Of the segment before this one; what stands behind that was never acknowledged.
    pub(crate) previous: Option<End>,
    /// What the log was when the segment began.
    pub(crate) outline: Outline,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged,
    Format(u32),
}

/// A file that holds records. Readers share it; it is used again only when none is left.
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// The segment that is written to.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) header: Header,
    /// Where the next record goes.
    pub(crate) tail: End,
    /// Where the segment ends as far as it is durable.
    pub(crate) durable: End,
    /// Up to here the file's blocks have been written before.
    pub(crate) zeroed: u64,
}

pub(crate) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// The number in a segment's name; `None` for other files.
pub(crate) fn sequence_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    // The last number is left out: it would have no successor.
    u64::from_str_radix(digits, 16).ok().filter(|sequence| *sequence < u64::MAX)
}

/// Size of a segment that is to hold a record of this size.
pub(crate) fn capacity_for(segment_bytes: u64, record_bytes: usize) -> u64 {
    let least = (HEADER_BYTES + record_bytes + MARK_BYTES) as u64;
    segment_bytes.max(least).next_multiple_of(HEADER_BYTES as u64)
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_u32_le(self.group);
        bytes.put_u64_le(self.sequence);
        bytes.put_u64_le(self.salt);
        bytes.put_u64_le(self.capacity);
        bytes.put_u64_le(self.previous.map_or(0, |end| end.offset));
        bytes.put_u32_le(self.previous.map_or(0, |end| end.chain));
        let Outline { state: State { vote, committed, purged, last }, first } = self.outline;
        bytes.put_u64_le(first);
        record::put_vote(&mut bytes, vote);
        for id in [committed, purged, last] {
            record::put_log_id(&mut bytes, id);
        }
        bytes.resize(HEADER_BYTES - 4, 0);
        bytes.put_u32_le(crc32c(&bytes));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, HeaderFault> {
        let (mut body, mut checksum) = match bytes.get(..HEADER_BYTES) {
            Some(bytes) if bytes.starts_with(&MAGIC) => bytes.split_at(HEADER_BYTES - 4),
            Some(_) | None => return Err(HeaderFault::Damaged),
        };
        let intact = checksum.get_u32_le() == crc32c(body);
        body.advance(MAGIC.len());
        match body.get_u32_le() {
            FORMAT if intact => {
                Header::decode_fields(body).map_err(|Malformed| HeaderFault::Damaged)
            }
            FORMAT | 0 => Err(HeaderFault::Damaged),
            // Another format may keep its checksum elsewhere.
            other => Err(HeaderFault::Format(other)),
        }
    }

    fn decode_fields(mut body: &[u8]) -> Result<Header, Malformed> {
        let body = &mut body;
        Ok(Header {
            group: body.try_get_u32_le()?,
            sequence: body.try_get_u64_le()?,
            salt: body.try_get_u64_le()?,
            capacity: body.try_get_u64_le()?,
            previous: {
                let end = End { offset: body.try_get_u64_le()?, chain: body.try_get_u32_le()? };
                (end.offset != 0).then_some(end)
            },
            outline: Outline {
                first: body.try_get_u64_le()?,
                state: State {
                    vote: record::take_vote(body)?,
                    committed: record::take_log_id(body)?,
                    purged: record::take_log_id(body)?,
                    last: record::take_log_id(body)?,
                },
            },
        })
    }

    /// Where the records start, and the chain that they continue: the header's own checksum. (The
    /// checksum of a header *with* its checksum would be the same for all headers.)
    pub(crate) fn start(&self) -> End {
        let bytes = self.encode();
        let (_, mut checksum) = bytes.split_at(HEADER_BYTES - 4);
        End { offset: HEADER_BYTES as u64, chain: checksum.get_u32_le() }
    }
}

impl HeaderFault {
    pub(crate) fn of_file(self, path: &Path) -> Error {
        let file = path.to_owned();
        match self {
            HeaderFault::Damaged => {
                Error::Corrupt { file, offset: 0, reason: "the segment header is damaged" }
            }
            HeaderFault::Format(found) => Error::Format { file, found, known: FORMAT },
        }
    }
}

impl Active {
    /// Bytes of records that still fit, with the mark that closes every write.
    pub(crate) fn room(&self) -> usize {
        let used = self.tail.offset + MARK_BYTES as u64;
        usize::try_from(self.header.capacity.saturating_sub(used)).unwrap_or(usize::MAX)
    }

    /// Writes whole records that continue the tail, syncs them and leaves a mark that says so.
    ///
    /// `buffer` holds the records, and zeros behind them afterwards.
    pub(crate) fn write(&mut self, buffer: &mut Vec<u8>, chain: u32) -> io::Result<()> {
        let start = self.tail.offset;
        let end = start + buffer.len() as u64;
        let marked = end + MARK_BYTES as u64;
        if marked > self.zeroed {
            let ahead = (marked + ZERO_AHEAD_BYTES).next_multiple_of(BLOCK_BYTES);
            self.zeroed = ahead.min(self.header.capacity);
            buffer.resize((self.zeroed - start) as usize, 0);
        }
        self.segment.file.write_at(buffer, start)?;
        self.segment.file.sync()?;
        self.tail = End { offset: end, chain };
        self.mark_durable()
    }

    /// Notes in the file that everything before the tail is durable.
    pub(crate) fn mark_durable(&mut self) -> io::Result<()> {
        self.durable = self.tail;
        let End { offset, chain } = self.tail;
        let mark = Mark { salt: self.header.salt, offset, durable: offset };
        let mut buffer = Vec::with_capacity(MARK_BYTES);
        let chain = record::encode(&mut buffer, chain, self.header.group, &Record::Mark(mark));
        self.segment.file.write_at(&buffer, offset)?;
        self.tail = End { offset: offset + MARK_BYTES as u64, chain };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogId, Vote};

    fn header() -> Header {
        let id = |index| Some(LogId { term: 4, node: 2, index });
        Header {
            group: 9,
            sequence: 12,
            salt: 0x0123_4567_89ab_cdef,
            capacity: 1 << 20,
            previous: Some(End { offset: 4096, chain: 77 }),
            outline: Outline {
                state: State {
                    vote: Some(Vote { term: 5, node: 3, committed: true }),
                    committed: id(8),
                    purged: None,
                    last: id(10),
                },
                first: 3,
            },
        }
    }

    #[test]
    fn a_header_comes_back_and_notices_every_flipped_bit() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&bytes[..length]), Err(HeaderFault::Damaged));
        }
    }

    #[test]
    fn each_header_starts_a_chain_of_its_own() {
        let other = Header { salt: 1, ..header() };
        assert_ne!(header().start().chain, other.start().chain);
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes), Err(HeaderFault::Format(2)));
    }

    #[test]
    fn names_carry_the_sequence() {
        assert_eq!(file_name(255), "00000000000000ff.log");
        assert_eq!(sequence_of("00000000000000ff.log"), Some(255));
        for other in ["ff.log", "spare-1", "00000000000000fg.log", "00000000000000ff.tmp"] {
            assert_eq!(sequence_of(other), None);
        }
    }
}
