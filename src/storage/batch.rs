//! Changes that are written at once, and can be read before they are.

use std::cell::RefCell;

use bytes::Bytes;
use rocksdb::{DBRawIterator, WriteBatch};

use super::{
    Cursor, Error, Found, Rows, Snapshot,
    cursor::Overlay,
    sizes::Counted,
    snapshot,
    tables::{self, MetaKey, Table},
};
use crate::types::{LogId, Revision};

/// Changes on top of a snapshot. Nothing is stored before [`Batch::write`].
pub struct Batch<'a> {
    snapshot: &'a Snapshot,
    changes: Overlay,
    searches: RefCell<Searches<'a>>,
}

/// Searches for stored versions.
#[derive(Default)]
struct Searches<'a> {
    /// Kept between searches: making an iterator costs more than a seek.
    seeker: Option<DBRawIterator<'a>>,
    /// The search before, since most keys are looked up twice: compared and then written.
    latest: Option<Search>,
}

/// What was stored of a user key at a revision, and thus since the version that was found.
struct Search {
    key: Vec<u8>,
    at: Revision,
    found: Option<Found>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Batch<'a> {
        Batch { snapshot, changes: Overlay::new(), searches: RefCell::default() }
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
        let (mut batch, mut rows) = (WriteBatch::default(), Counted::default());
        for (key, value) in &self.changes {
            rows.add(key, value.as_ref().map_or(0, |value| key.len() + value.len()));
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.snapshot.generation().write_counted(batch, rows)
    }

    /// [`Rows::newest_version`] of what is stored, whatever this batch has changed.
    fn stored_version(&self, key: &[u8], at: Revision) -> Result<Option<Found>, Error> {
        let Searches { seeker, latest } = &mut *self.searches.borrow_mut();
        if let Some(latest) = latest
            && latest.key == key
            && at <= latest.at
            && latest.found.as_ref().is_none_or(|(main, _)| *main <= at)
        {
            return Ok(latest.found.clone());
        }
        let seeker = seeker.get_or_insert_with(|| self.snapshot.version_seeker());
        let found = snapshot::seek_version(seeker, key, at)?;
        *latest = Some(Search { key: key.to_vec(), at, found: found.clone() });
        Ok(found)
    }
}

impl Rows for Batch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.changes.get(&table.key(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.snapshot.get(table, key),
        }
    }

    fn get_all(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| table.key(key)).collect();
        let mut rows = self.snapshot.get_stored(&keys)?;
        for (key, row) in keys.iter().zip(&mut rows) {
            if let Some(changed) = self.changes.get(key) {
                row.clone_from(changed);
            }
        }
        Ok(rows)
    }

    fn newest_version(&self, key: &[u8], at: Revision) -> Result<Option<Found>, Error> {
        let stored = self.stored_version(key, at)?;
        let from = tables::version_key(key, at);
        let changed = self.changes.range(Table::Versions.key(&from)..).next();
        let Some((row_key, row)) = changed else { return Ok(stored) };
        let Some(main) = snapshot::version_of(key, row_key)? else { return Ok(stored) };
        if stored.as_ref().is_some_and(|(stored, _)| *stored > main) {
            return Ok(stored);
        }
        if let Some(row) = row {
            return Ok(Some((main, row.clone())));
        }
        // Rows that this batch removed stand in the way.
        let mut cursor = self.cursor(Table::Versions);
        cursor.seek(&from)?;
        let Some((row_key, row)) = cursor.row() else { return Ok(None) };
        let main = snapshot::version_of(key, &Table::Versions.key(row_key))?;
        Ok(main.map(|main| (main, Bytes::copy_from_slice(row))))
    }

    fn cursor(&self, table: Table) -> Cursor<'_> {
        Cursor::over(self.snapshot, table, Some(&self.changes))
    }
}
