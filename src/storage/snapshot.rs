//! An unchanging picture of the whole store.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DBRawIterator, ReadOptions};
use self_cell::self_cell;

use super::{
    Batch, Cursor, Error, Export, Found, Position, Rows,
    engine::{Generation, engine_error},
    tables::{self, MetaKey, Table},
};
use crate::types::Revision;

type Pinned<'a> = rocksdb::Snapshot<'a>;

// RocksDB's snapshot borrows the database; the two live in one box so that a snapshot can be handed
// on.
self_cell!(
    struct Owned {
        owner: Arc<Generation>,
        #[covariant]
        dependent: Pinned,
    }
);

/// An unchanging picture of the whole store, held by reference; keep it only as long as a request.
pub struct Snapshot {
    owned: Owned,
}

impl Snapshot {
    pub(super) fn of(generation: Arc<Generation>) -> Snapshot {
        Snapshot { owned: Owned::new(generation, |generation| generation.db.snapshot()) }
    }

    pub(super) fn generation(&self) -> &Generation {
        self.owned.borrow_owner()
    }

    /// Changes on top of this picture, to be written at once.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// The whole store as a stream of chunks, for [`super::Import`].
    pub fn export(&self) -> Export<'_> {
        Export::new(self)
    }

    /// As [`Rows::cursor`], for one pass over a whole table.
    pub fn cursor_over_all(&self, table: Table) -> Cursor<'_> {
        Cursor::aside(self, table)
    }

    /// CRC32C of all rows, with their lengths, in order.
    pub fn checksum(&self) -> Result<u32, Error> {
        let mut export = self.export();
        export.by_ref().try_for_each(|chunk| chunk.map(drop))?;
        Ok(export.checksum())
    }

    /// How far the state had come.
    pub fn position(&self) -> Result<Position, Error> {
        position(self)
    }

    /// Options for reading this picture.
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.owned.borrow_dependent());
        options
    }

    /// Walks all rows in order.
    pub(super) fn raw_iterator(&self, mut options: ReadOptions) -> DBRawIterator<'_> {
        options.set_snapshot(self.owned.borrow_dependent());
        self.generation().db.raw_iterator_opt(options)
    }

    /// For [`seek_version`].
    pub(super) fn version_seeker(&self) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        // The table behind may begin with many removed rows, which a search for a key behind all
        // others would pass over one by one.
        options.set_iterate_upper_bound([Table::Versions as u8 + 1]);
        self.raw_iterator(options)
    }

    /// Rows by their full keys.
    pub(super) fn get_stored(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let generation = self.generation();
        generation
            .db
            .batched_multi_get_cf_opt(generation.rows(), keys, keys.is_sorted(), &self.options())
            .into_iter()
            .map(|row| Ok(row.map_err(engine_error)?.map(|row| Bytes::copy_from_slice(&row))))
            .collect()
    }
}

/// [`Rows::newest_version`] by a [`Snapshot::version_seeker`].
pub(super) fn seek_version(
    seeker: &mut DBRawIterator<'_>,
    key: &[u8],
    at: Revision,
) -> Result<Option<Found>, Error> {
    seeker.seek(Table::Versions.key(&tables::version_key(key, at)));
    let Some((row_key, row)) = seeker.item() else {
        seeker.status().map_err(engine_error)?;
        return Ok(None);
    };
    let main = version_of(key, row_key)?;
    Ok(main.map(|main| (main, Bytes::copy_from_slice(row))))
}

/// When the version was written whose row has the full key `row_key`; `None` if it is none of
/// `key`.
pub(super) fn version_of(key: &[u8], row_key: &[u8]) -> Result<Option<Revision>, Error> {
    let Some(row_key) = row_key.strip_prefix(&[Table::Versions as u8]) else { return Ok(None) };
    let parsed = tables::parse_version_key(row_key);
    let (found, main) = parsed.ok_or_else(|| Table::Versions.corrupt("key"))?;
    Ok((found == key).then_some(main))
}

/// The position that a snapshot or a batch holds.
pub(super) fn position(rows: &dyn Rows) -> Result<Position, Error> {
    let corrupt = || Table::Meta.corrupt("log id");
    let row = rows.get(Table::Meta, &MetaKey::Applied.key())?;
    let applied = match row {
        Some(row) => Some(tables::decode_log_id(&row).ok_or_else(corrupt)?.0),
        None => None,
    };
    let row = rows.get(Table::Meta, &MetaKey::Membership.key())?;
    let membership = match row {
        Some(row) => {
            let (id, membership) = tables::decode_log_id(&row).ok_or_else(corrupt)?;
            Some((id, row.slice_ref(membership)))
        }
        None => None,
    };
    Ok(Position { applied, membership })
}

impl Rows for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let row = self.generation().db.get_pinned_opt(table.key(key), &self.options());
        Ok(row.map_err(engine_error)?.map(|row| Bytes::copy_from_slice(&row)))
    }

    fn get_all(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| table.key(key)).collect();
        self.get_stored(&keys)
    }

    fn newest_version(&self, key: &[u8], at: Revision) -> Result<Option<Found>, Error> {
        seek_version(&mut self.version_seeker(), key, at)
    }

    fn cursor(&self, table: Table) -> Cursor<'_> {
        Cursor::over(self, table, None)
    }
}
