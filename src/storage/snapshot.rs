//! An unchanging picture of the whole store.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DBPinnableSlice, DBRawIterator, ReadOptions};
use self_cell::self_cell;

use super::{
    Batch, Cursor, Error, Export, Position, Rows,
    engine::{Generation, engine_error},
    tables::{self, MetaKey, Table},
};

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

    /// How far the state had come.
    pub fn position(&self) -> Result<Position, Error> {
        position(self)
    }

    pub(super) fn raw_iterator(&self, mut options: ReadOptions) -> DBRawIterator<'_> {
        options.set_snapshot(self.owned.borrow_dependent());
        self.generation().db.raw_iterator_opt(options)
    }

    pub(super) fn get_stored(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.owned.borrow_dependent());
        self.generation().db.get_pinned_opt(key, &options).map_err(engine_error)
    }
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
        Ok(self.get_stored(&table.key(key))?.map(|row| Bytes::copy_from_slice(&row)))
    }

    fn first(&self, table: Table, from: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let mut cursor = self.cursor(table);
        cursor.seek(from)?;
        Ok(cursor
            .row()
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))))
    }

    fn cursor(&self, table: Table) -> Cursor<'_> {
        Cursor::over(self, table, None)
    }
}
