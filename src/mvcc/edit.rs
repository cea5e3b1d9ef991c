//! Writing one revision.

use bytes::Bytes;

use super::{
    Head, history,
    index::{self, Version},
};
use crate::{
    proto::mvccpb::{Event, KeyValue},
    storage::{
        Batch, Error, Rows,
        tables::{self, Table, VersionRow},
    },
    types::{LeaseId, Revision, SubRevision},
};

/// The changes of one revision, on their way into a batch. A revision without changes does not
/// exist.
pub struct Edit<'edit, 'batch> {
    batch: &'edit mut Batch<'batch>,
    before: Head,
    events: Vec<Event>,
}

impl<'edit, 'batch> Edit<'edit, 'batch> {
    pub fn new(batch: &'edit mut Batch<'batch>, before: Head) -> Edit<'edit, 'batch> {
        Edit { batch, before, events: Vec::new() }
    }

    /// The key space with the changes so far.
    pub fn head(&self) -> Head {
        let revision = if self.events.is_empty() { self.before.revision } else { self.revision() };
        Head { revision, ..self.before }
    }

    /// The revision that is being written.
    pub fn revision(&self) -> Revision {
        self.before.revision.next()
    }

    pub fn rows(&self) -> &dyn Rows {
        self.batch
    }

    /// For rows that change together with keys.
    pub fn batch(&mut self) -> &mut Batch<'batch> {
        self.batch
    }

    /// The current version of a key.
    pub fn live(&self, key: &[u8]) -> Result<Option<Version>, Error> {
        index::live(self.rows(), key, self.head().revision)
    }

    /// Writes a new version of a key over `previous`, which is what [`Edit::live`] finds.
    pub fn put(
        &mut self,
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
        previous: Option<Version>,
    ) {
        let at = self.next();
        let (create_revision, version) = match previous {
            Some(previous) => (previous.create_revision, previous.version + 1),
            None => (at.main, 1),
        };
        let row = VersionRow::Put { sub: at.sub, create_revision, version, lease };
        self.put_version(&key, row);
        let kv = KeyValue {
            key,
            create_revision: create_revision.get(),
            mod_revision: at.main.get(),
            version,
            value,
            lease: lease.map_or(0, LeaseId::get),
        };
        self.batch.put(Table::Revisions, &tables::revision_key(at), history::encode_put(&kv));
        self.events.push(history::put_event(kv));
    }

    /// Writes the end of a key, which must exist.
    pub fn delete(&mut self, key: Bytes) {
        let at = self.next();
        self.put_version(&key, VersionRow::Tombstone { sub: at.sub });
        let row = history::encode_tombstone(key.clone());
        self.batch.put(Table::Revisions, &tables::revision_key(at), row);
        self.events.push(history::delete_event(key, at.main));
    }

    /// The key space after the changes, and what they were.
    pub fn finish(self) -> (Head, Vec<Event>) {
        let head = self.head();
        if head != self.before {
            head.put(self.batch);
        }
        (head, self.events)
    }

    fn next(&self) -> SubRevision {
        let sub = i64::try_from(self.events.len()).expect("events fit into memory");
        SubRevision { main: self.revision(), sub }
    }

    fn put_version(&mut self, key: &[u8], row: VersionRow) {
        let row_key = tables::version_key(&tables::escaped(key), self.revision());
        self.batch.put(Table::Versions, &row_key, row.encode());
    }
}
