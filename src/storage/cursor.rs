//! Walking the rows of one table, with a batch's changes laid over what is stored.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound::{Included, Unbounded},
};

use bytes::Bytes;
use rocksdb::{DBRawIterator, ReadOptions};

use super::{Error, Snapshot, engine::engine_error, tables::Table};

/// What a batch changed: whole keys with their new value, or `None` for a row that is gone.
pub(super) type Overlay = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Rows of one table in order of their keys.
pub struct Cursor<'a> {
    table: Table,
    stored: DBRawIterator<'a>,
    overlay: Option<&'a Overlay>,
    changed: btree_map::Range<'a, Vec<u8>, Option<Bytes>>,
    next_changed: Option<(&'a [u8], &'a Option<Bytes>)>,
    at: At<'a>,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Stored,
    Changed(&'a [u8], &'a [u8]),
    End,
}

static NO_OVERLAY: Overlay = Overlay::new();

impl<'a> Cursor<'a> {
    pub(super) fn over(
        snapshot: &'a Snapshot,
        table: Table,
        overlay: Option<&'a Overlay>,
    ) -> Cursor<'a> {
        Cursor::with(ReadOptions::default(), snapshot, table, overlay)
    }

    /// For one pass over everything, which must not push out what requests need.
    pub(super) fn aside(snapshot: &'a Snapshot, table: Table) -> Cursor<'a> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        Cursor::with(options, snapshot, table, None)
    }

    fn with(
        mut options: ReadOptions,
        snapshot: &'a Snapshot,
        table: Table,
        overlay: Option<&'a Overlay>,
    ) -> Cursor<'a> {
        options.set_iterate_upper_bound(vec![table as u8 + 1]);
        Cursor {
            table,
            stored: snapshot.raw_iterator(options),
            overlay,
            changed: NO_OVERLAY.range::<[u8], _>(..),
            next_changed: None,
            at: At::End,
        }
    }

    /// Goes to the first row at or behind `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), Error> {
        let full = self.table.key(key);
        self.stored.seek(&full);
        if let Some(overlay) = self.overlay {
            self.changed = overlay.range::<[u8], _>((Included(full.as_slice()), Unbounded));
            self.step_changed();
        }
        self.settle()
    }

    /// Goes to the next row; stays behind the last one.
    pub fn step(&mut self) -> Result<(), Error> {
        match self.at {
            At::Stored => self.stored.next(),
            At::Changed(..) => self.step_changed(),
            At::End => return Ok(()),
        }
        self.settle()
    }

    /// Key and value of the row it stands on; `None` behind the last one.
    pub fn row(&self) -> Option<(&[u8], &[u8])> {
        let (key, value) = match self.at {
            At::Stored => self.stored.item()?,
            At::Changed(key, value) => (key, value),
            At::End => return None,
        };
        Some((&key[1..], value))
    }

    fn step_changed(&mut self) {
        let next = self.changed.next().map(|(key, value)| (key.as_slice(), value));
        self.next_changed = next.filter(|(key, _)| key[0] == self.table as u8);
    }

    /// Chooses between the stored row and the changed one: the smaller key, or the changed one of
    /// two with the same key.
    fn settle(&mut self) -> Result<(), Error> {
        loop {
            let stored = self.stored.key();
            if stored.is_none() {
                self.stored.status().map_err(engine_error)?;
            }
            let Some((key, value)) = self.next_changed else {
                self.at = if stored.is_some() { At::Stored } else { At::End };
                return Ok(());
            };
            match stored {
                Some(stored) if stored < key => {
                    self.at = At::Stored;
                    return Ok(());
                }
                Some(stored) if stored == key => self.stored.next(),
                Some(_) | None => {}
            }
            match value {
                Some(value) => {
                    self.at = At::Changed(key, value);
                    return Ok(());
                }
                None => self.step_changed(),
            }
        }
    }
}
