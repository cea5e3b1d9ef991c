//! etcd's log, read without changing it.
//!
//! A log is files `<number>-<index of the first entry>.wal` (hex). A file is records, each behind
//! its length (i64, little-endian): the low 56 bits are the bytes of the record, and if the number
//! is negative, bits 56 to 58 say how many bytes fill it up to eight. A length of zero is the end.
//! The checksum of a record (CRC32C) goes on from that of the record before; a record of its own at
//! the start of a file says where that stands.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use prost::Message;

use super::Error;
use crate::proto::etcddisk::{Entry, HardState, Record, Snapshot};

/// Disks write this much at once: a record that was torn has a part of this size that is zero.
const SECTOR_BYTES: u64 = 512;

/// What a log holds behind an index.
#[derive(Debug, Default)]
pub(super) struct Wal {
    /// Without a gap; the first follows the index.
    pub(super) entries: Vec<Entry>,
    /// How far they are known to be committed.
    pub(super) commit: u64,
    /// Snapshots that the log tells of, by their index.
    pub(super) snapshots: Vec<u64>,
}

/// A record's type.
mod kind {
    pub(super) const METADATA: i64 = 1;
    pub(super) const ENTRY: i64 = 2;
    pub(super) const STATE: i64 = 3;
    pub(super) const CRC: i64 = 4;
    pub(super) const SNAPSHOT: i64 = 5;
}

/// Reads what the log holds behind entry `after`.
pub(super) fn read(dir: &Path, after: u64) -> Result<Wal, Error> {
    let files = files(dir)?;
    let gap = |what: String| Error::Gap { path: dir.to_owned(), what };
    // The last file that begins early enough; all before it can be passed over.
    let first = files.iter().rposition(|file| file.index <= after.saturating_add(1));
    let Some(first) = first else {
        return Err(gap(format!("does not reach back to entry {}", after.saturating_add(1))));
    };
    let files = &files[first..];
    if let Some(pair) = files.windows(2).find(|pair| pair[0].number + 1 != pair[1].number) {
        return Err(gap(format!("lacks what comes before {}", pair[1].path.display())));
    }
    let mut wal = Wal::default();
    let mut checksum = 0;
    for (number, file) in files.iter().enumerate() {
        let is_last = number + 1 == files.len();
        let mut records = Records::open(&file.path, checksum, is_last)?;
        while let Some(record) = records.next()? {
            wal.take(record, after, &records, dir)?;
        }
        checksum = records.checksum;
    }
    let last = after.saturating_add(wal.entries.len() as u64);
    if wal.commit > last {
        return Err(gap(format!("ends at entry {last}, and {} is committed", wal.commit)));
    }
    Ok(wal)
}

impl Wal {
    fn take(
        &mut self,
        record: Record,
        after: u64,
        records: &Records,
        dir: &Path,
    ) -> Result<(), Error> {
        let bad = |error: prost::DecodeError| records.damaged(error.to_string());
        match record.r#type {
            kind::ENTRY => {
                let entry = Entry::decode(record.data).map_err(bad)?;
                let Some(place) = entry.index.checked_sub(after.saturating_add(1)) else {
                    return Ok(());
                };
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                if place > self.entries.len() {
                    let what = format!("has no entry before {}", entry.index);
                    return Err(Error::Gap { path: dir.to_owned(), what });
                }
                // A later leader has replaced what was here and behind it.
                self.entries.truncate(place);
                self.entries.push(entry);
            }
            kind::STATE => self.commit = HardState::decode(record.data).map_err(bad)?.commit,
            kind::SNAPSHOT => {
                self.snapshots.push(Snapshot::decode(record.data).map_err(bad)?.index);
            }
            kind::METADATA | kind::CRC => {}
            other => return Err(records.damaged(format!("a record of type {other}"))),
        }
        Ok(())
    }
}

struct LogFile {
    path: PathBuf,
    number: u64,
    /// Of the first entry.
    index: u64,
}

/// The files of a log by their numbers; others that lie there are passed over, as in etcd.
fn files(dir: &Path) -> Result<Vec<LogFile>, Error> {
    let failed = |error| Error::File { path: dir.to_owned(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let numbers = name.strip_suffix(".wal").and_then(|name| name.split_once('-'));
        let Some((number, index)) = numbers else { continue };
        let hex = |text| u64::from_str_radix(text, 16).ok();
        if let (Some(number), Some(index)) = (hex(number), hex(index)) {
            files.push(LogFile { path, number, index });
        }
    }
    files.sort_by_key(|file| file.number);
    Ok(files)
}

/// The records of one file.
struct Records {
    path: PathBuf,
    file: BufReader<File>,
    bytes: u64,
    offset: u64,
    checksum: u32,
    /// Only the last file may end in the middle of a record.
    is_last: bool,
}

impl Records {
    fn open(path: &Path, checksum: u32, is_last: bool) -> Result<Records, Error> {
        let failed = |error| Error::File { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let (path, file) = (path.to_owned(), BufReader::with_capacity(1 << 20, file));
        Ok(Records { path, file, bytes, offset: 0, checksum, is_last })
    }

    fn next(&mut self) -> Result<Option<Record>, Error> {
        let mut length = [0; 8];
        if self.bytes - self.offset < length.len() as u64 {
            return Ok(None);
        }
        self.fill(&mut length)?;
        let length = i64::from_le_bytes(length).cast_unsigned();
        let (bytes, filler) = (length & ((1 << 56) - 1), length >> 56 & 7);
        let filler = if length >> 63 == 1 { filler } else { 0 };
        if bytes == 0 {
            return Ok(None);
        }
        let left = self.bytes - self.offset - 8;
        if bytes + filler > left {
            return self.torn("a record is longer than the file");
        }
        let mut data = vec![0; usize::try_from(bytes + filler).unwrap_or(usize::MAX)];
        self.fill(&mut data)?;
        let is_torn = self.has_empty_sector(&data);
        data.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        let Ok(record) = Record::decode(data.as_slice()) else {
            return if is_torn { self.torn("torn") } else { Err(self.damaged("no record".into())) };
        };
        if !self.verify(&record) {
            let what = "the checksum is wrong";
            return if is_torn { self.torn(what) } else { Err(self.damaged(what.into())) };
        }
        self.offset += 8 + bytes + filler;
        Ok(Some(record))
    }

    /// Takes the checksum further.
    fn verify(&mut self, record: &Record) -> bool {
        if record.r#type == kind::CRC {
            let goes_on = self.checksum == 0 || record.crc == self.checksum;
            self.checksum = record.crc;
            return goes_on;
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &record.data);
        record.crc == self.checksum
    }

    /// Whether a part of the record that the disk writes at once is zero: power was lost before the
    /// record was acknowledged.
    fn has_empty_sector(&self, data: &[u8]) -> bool {
        let mut rest = data;
        let mut place = self.offset + 8;
        while !rest.is_empty() {
            let length = (SECTOR_BYTES - place % SECTOR_BYTES).min(rest.len() as u64);
            let (sector, behind) = rest.split_at(length as usize);
            if sector.iter().all(|byte| *byte == 0) {
                return true;
            }
            rest = behind;
            place += length;
        }
        false
    }

    fn torn(&self, what: &str) -> Result<Option<Record>, Error> {
        match self.is_last {
            true => Ok(None),
            false => Err(self.damaged(what.to_owned())),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let failed = |error| Error::File { path: self.path.clone(), error };
        self.file.read_exact(bytes).map_err(failed)
    }

    fn damaged(&self, what: String) -> Error {
        Error::Log { path: self.path.clone(), offset: self.offset, what }
    }
}
