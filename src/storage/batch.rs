//! Changes that are written at once, and can be read before they are.

use std::cell::RefCell;

use bytes::Bytes;
use rocksdb::{DBRawIterator, ReadOptions, WriteBatch};

use super::{
    Cursor, Error, Rows, Snapshot,
    cursor::Overlay,
    engine::engine_error,
    tables::{self, MetaKey, Table},
};
use crate::types::LogId;

/// Changes on top of a snapshot. Nothing is stored before [`Batch::write`].
pub struct Batch<'a> {
    snapshot: &'a Snapshot,
    changes: Overlay,
    /// Kept between look-ups: making an iterator costs more than a seek.
    seeker: RefCell<Option<DBRawIterator<'a>>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Batch<'a> {
        Batch { snapshot, changes: Overlay::new(), seeker: RefCell::new(None) }
    }

    pub fn put(&mut self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        self.changes.insert(table.key(key), Some(value.into()));
    }

    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.insert(table.key(key), None);
    }

    /// Notes the newest entry that is applied once this batch is written.
    pub fn put_applied(&mut self, id: LogId) {
        self.put(Table::Meta, &MetaKey::Applied.key(), tables::encode_log_id(id).to_vec());
    }

    /// Notes the newest Raft membership, with the entry it came from.
    pub fn put_membership(&mut self, id: LogId, membership: &[u8]) {
        let row = [&tables::encode_log_id(id), membership].concat();
        self.put(Table::Meta, &MetaKey::Membership.key(), row);
    }

    /// Stores all changes or none, in the store that the snapshot was taken of: if another snapshot
    /// was installed meanwhile they are lost with that store.
    pub fn write(self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for (key, value) in &self.changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.snapshot.generation().write(batch)
    }

    /// The first stored row at or behind `from`, whatever this batch has changed.
    fn first_stored(&self, from: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let mut kept = self.seeker.borrow_mut();
        let seeker = kept.get_or_insert_with(|| self.snapshot.raw_iterator(ReadOptions::default()));
        seeker.seek(from);
        let Some((key, value)) = seeker.item() else {
            seeker.status().map_err(engine_error)?;
            return Ok(None);
        };
        if key[0] != from[0] {
            return Ok(None);
        }
        Ok(Some((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(value))))
    }
}

impl Rows for Batch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.changes.get(&table.key(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.snapshot.get(table, key),
        }
    }

    fn first(&self, table: Table, from: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let full = table.key(from);
        let stored = self.first_stored(&full)?;
        let mut changed = self.changes.range(full..).take_while(|(key, _)| key[0] == table as u8);
        let Some((key, value)) = changed.next() else { return Ok(stored) };
        if stored.as_ref().is_some_and(|(stored, _)| stored.as_ref() < &key[1..]) {
            return Ok(stored);
        }
        if let Some(value) = value {
            return Ok(Some((Bytes::copy_from_slice(&key[1..]), value.clone())));
        }
        // Rows that this batch removed stand in the way.
        let mut cursor = self.cursor(table);
        cursor.seek(from)?;
        Ok(cursor
            .row()
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))))
    }

    fn cursor(&self, table: Table) -> Cursor<'_> {
        Cursor::over(self.snapshot, table, Some(&self.changes))
    }
}
