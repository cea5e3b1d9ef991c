//! Between which revisions the key space can be read.

use super::Error;
use crate::{
    storage::{
        self, Batch, Rows,
        tables::{HeadRow, MetaKey, Table},
    },
    types::Revision,
};

/// The newest revision and the compaction floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub revision: Revision,
    /// The oldest revision that can be read; `None` when nothing was ever compacted.
    pub floor: Option<Revision>,
}

impl Head {
    pub const EMPTY_STORE: Head = Head { revision: Revision::EMPTY_STORE, floor: None };

    pub fn read(rows: &dyn Rows) -> Result<Head, storage::Error> {
        let Some(row) = rows.get(Table::Meta, &MetaKey::Head.key())? else {
            return Ok(Head::EMPTY_STORE);
        };
        let HeadRow { revision, floor } =
            HeadRow::decode(&row).ok_or_else(|| Table::Meta.corrupt("head"))?;
        Ok(Head { revision, floor })
    }

    pub fn put(&self, batch: &mut Batch<'_>) {
        let row = HeadRow { revision: self.revision, floor: self.floor };
        batch.put(Table::Meta, &MetaKey::Head.key(), row.encode());
    }

    /// The revision that a read asks for; zero and less stand for the newest.
    pub fn readable(&self, revision: i64) -> Result<Revision, Error> {
        let Some(revision) = Revision::from_wire(revision) else { return Ok(self.revision) };
        if revision > self.revision {
            return Err(Error::FutureRevision(self.revision));
        }
        match self.floor {
            Some(floor) if revision < floor => Err(Error::Compacted(floor)),
            Some(_) | None => Ok(revision),
        }
    }

    /// The compaction floor that `revision` stands for, if it may become that.
    pub fn check_compact(&self, revision: i64) -> Result<Revision, Error> {
        // etcd's number for "never compacted" is -1, so one may compact an untouched store at 0.
        let floor = self.floor.map_or(-1, Revision::get);
        if revision <= floor {
            return Err(Error::Compacted(self.floor.unwrap_or(Revision::EMPTY_STORE)));
        }
        let revision = Revision::from_wire(revision).unwrap_or(Revision::BEFORE_ALL);
        match revision > self.revision {
            true => Err(Error::FutureRevision(self.revision)),
            false => Ok(revision),
        }
    }
}
