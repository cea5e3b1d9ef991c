//! A whole store as a stream of rows, from one member to another.
//!
//! A chunk is a checksum (CRC32C, u32), then rows: key length, key, value length, value (lengths
//! u32, all big-endian). The checksum goes on from that of the chunk before, so a chunk that is
//! lost, doubled or out of order shows. A chunk without rows is the last one.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rocksdb::{DBRawIterator, ReadOptions, WriteBatch};

use super::{
    Error, Position, Snapshot, Storage,
    engine::{Generation, engine_error},
};

/// A chunk is sent when it has grown to this: large enough that a checksum and a message per chunk
/// cost nothing, small enough that a transfer needs little memory at both ends.
pub const CHUNK_BYTES: usize = 1 << 20;

const CHECKSUM_BYTES: usize = 4;

/// Chunks of a snapshot, in order.
pub struct Export<'a> {
    snapshot: &'a Snapshot,
    /// The first key of the next chunk; `None` when the last chunk is out.
    next: Option<Vec<u8>>,
    checksum: u32,
}

/// A snapshot on its way in: a generation that nobody reads yet. Dropped, it leaves nothing behind.
pub struct Import {
    storage: Storage,
    generation: Arc<Generation>,
    checksum: u32,
    complete: bool,
    /// Its files stay when the import is dropped.
    kept: bool,
}

impl<'a> Export<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Export<'a> {
        Export { snapshot, next: Some(Vec::new()), checksum: 0 }
    }

    /// CRC32C of the rows that are out.
    pub(super) fn checksum(&self) -> u32 {
        self.checksum
    }

    fn chunk(&mut self, from: Vec<u8>) -> Result<Bytes, Error> {
        let mut options = ReadOptions::default();
        // One pass over everything must not push out what requests need.
        options.fill_cache(false);
        // An iterator holds on to buffers that were flushed meanwhile, so each chunk has its own.
        let mut rows = self.snapshot.raw_iterator(options);
        rows.seek(&from);
        let mut chunk = BytesMut::zeroed(CHECKSUM_BYTES);
        while chunk.len() < CHUNK_BYTES && put_row(&mut chunk, &rows) {
            rows.next();
            skip_leases(&mut rows);
        }
        rows.status().map_err(engine_error)?;
        let behind = || rows.key().map_or(vec![u8::MAX], <[u8]>::to_vec);
        self.next = (chunk.len() > CHECKSUM_BYTES).then(behind);
        self.checksum = crc32c::crc32c_append(self.checksum, &chunk[CHECKSUM_BYTES..]);
        chunk[..CHECKSUM_BYTES].copy_from_slice(&self.checksum.to_be_bytes());
        Ok(chunk.freeze())
    }
}

/// Does nothing in a build that people run.
fn skip_leases(_rows: &mut DBRawIterator<'_>) {
    fail::fail_point!("leases-not-exported", |_| {
        while _rows
            .key()
            .is_some_and(|key| key.first() == Some(&(super::tables::Table::Leases as u8)))
        {
            _rows.next();
        }
    });
}

/// Adds the row that the iterator stands on; `false` when there is none.
fn put_row(chunk: &mut BytesMut, rows: &DBRawIterator<'_>) -> bool {
    let Some((key, value)) = rows.item() else { return false };
    for part in [key, value] {
        chunk.put_u32(u32::try_from(part.len()).expect("RocksDB's own limit on a key or value"));
        chunk.put_slice(part);
    }
    true
}

impl Iterator for Export<'_> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let from = self.next.take()?;
        Some(self.chunk(from))
    }
}

impl Import {
    pub(super) fn new(storage: Storage, generation: Generation) -> Import {
        let generation = Arc::new(generation);
        Import { storage, generation, checksum: 0, complete: false, kept: false }
    }

    /// Takes in the next chunk. After an error the import is of no more use.
    pub fn chunk(&mut self, chunk: Bytes) -> Result<(), Error> {
        if self.complete {
            return Err(Error::Import("a chunk behind the last one"));
        }
        let Some((checksum, rows)) = chunk.split_first_chunk() else {
            return Err(Error::Import("a chunk without a checksum"));
        };
        self.checksum = crc32c::crc32c_append(self.checksum, rows);
        if self.checksum != u32::from_be_bytes(*checksum) {
            return Err(Error::Import("a chunk is damaged or out of order"));
        }
        self.complete = rows.is_empty();
        self.generation.write(parse_rows(rows)?)
    }

    /// Puts the snapshot in force: everything that is read or written from now on is about it.
    /// Whoever applies entries must start again from its position. Readers of the old state keep it
    /// till they are done.
    ///
    /// # Errors With [`Error::Import`] the present state stays in force.
    pub fn finish(self, expected: &Position) -> Result<(), Error> {
        self.finish_observed(expected, &mut |_| ())
    }

    /// As `finish`; `step` is told after each step that a crash could come behind.
    pub(super) fn finish_observed(
        mut self,
        expected: &Position,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), Error> {
        if !self.complete {
            return Err(Error::Import("its end is missing"));
        }
        self.generation.flush()?;
        step("flushed");
        self.generation.check_format()?;
        if Snapshot::of(self.generation.clone()).position()? != *expected {
            return Err(Error::Import("it is not at the position that was announced"));
        }
        // From here on CURRENT may name it, even if that fails half-way.
        self.kept = true;
        self.storage.switch(self.generation.clone(), step)
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if !self.kept {
            self.generation.retire();
        }
    }
}

fn parse_rows(mut rest: &[u8]) -> Result<WriteBatch, Error> {
    let mut part = || -> Result<Option<&[u8]>, Error> {
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = Error::Import("a row is cut off");
        let length = rest.try_get_u32().map_err(|_| cut.clone())?;
        let (part, behind) = rest.split_at_checked(length as usize).ok_or(cut)?;
        rest = behind;
        Ok(Some(part))
    };
    let mut batch = WriteBatch::default();
    while let Some(key) = part()? {
        let value = part()?.ok_or(Error::Import("a row is cut off"))?;
        if key.is_empty() {
            return Err(Error::Import("a row has no key"));
        }
        batch.put(key, value);
    }
    Ok(batch)
}
