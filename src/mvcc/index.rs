//! Which version of a key was current at a revision. Nobody else knows how that is found.
//!
//! A key's versions stand side by side, newest first, so the version at a revision is one seek
//! away. A key changes at most once per main revision: whoever writes has checked that.

use bytes::Bytes;

use super::history;
use crate::{
    proto::mvccpb::KeyValue,
    storage::{
        Cursor, Error, Rows, Snapshot,
        tables::{self, Table, VersionRow},
    },
    types::{KeyRange, LeaseId, Revision, SubRevision},
};

/// Rows that are stepped over before a seek is tried: a seek costs about as much as this many
/// steps.
const NEAR: usize = 8;

/// Versions that are read from the store at once: enough to save, and few enough that the blocks
/// held meanwhile stay small.
const READ_AT_ONCE: usize = 256;

/// A version of a key that is not a tombstone, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub at: SubRevision,
    pub create_revision: Revision,
    /// 1 for the first version of a generation.
    pub version: i64,
    pub lease: Option<LeaseId>,
}

impl Version {
    fn new(main: Revision, row: VersionRow) -> Option<Version> {
        match row {
            VersionRow::Put { sub, create_revision, version, lease } => {
                Some(Version { at: SubRevision { main, sub }, create_revision, version, lease })
            }
            VersionRow::Tombstone { .. } => None,
        }
    }

    /// The version with its key and value.
    pub fn read(&self, rows: &dyn Rows) -> Result<KeyValue, Error> {
        self.decode(rows.get(Table::Revisions, &tables::revision_key(self.at))?)
    }

    /// Versions with their keys and values, in the same order.
    pub fn read_all(versions: &[Version], rows: &dyn Rows) -> Result<Vec<KeyValue>, Error> {
        if let [version] = versions {
            return Ok(vec![version.read(rows)?]);
        }
        // Neighbours in the table of revisions are found together.
        let mut order: Vec<usize> = (0..versions.len()).collect();
        order.sort_unstable_by_key(|number| versions[*number].at);
        let mut kvs = vec![KeyValue::default(); versions.len()];
        for numbers in order.chunks(READ_AT_ONCE) {
            let keys: Vec<_> =
                numbers.iter().map(|number| tables::revision_key(versions[*number].at)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
            for (number, row) in numbers.iter().zip(rows.get_all(Table::Revisions, &keys)?) {
                kvs[*number] = versions[*number].decode(row)?;
            }
        }
        Ok(kvs)
    }

    fn decode(&self, row: Option<Bytes>) -> Result<KeyValue, Error> {
        let missing = || Table::Revisions.corrupt(format!("{:?} is missing", self.at));
        Ok(history::decode(row.ok_or_else(missing)?)?.kv)
    }

    /// The version as a keys-only range shows it, which etcd answers from its index alone: without
    /// value, and without lease.
    pub fn key_only(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision.get(),
            mod_revision: self.at.main.get(),
            version: self.version,
            value: Bytes::new(),
            lease: 0,
        }
    }
}

/// The version of a key that was current at a revision; `None` when the key did not exist.
pub fn live(rows: &dyn Rows, key: &[u8], at: Revision) -> Result<Option<Version>, Error> {
    Ok(newest(rows, key, at)?.and_then(|(main, row)| Version::new(main, row)))
}

/// The newest version of a key at or before a revision, tombstones included.
pub(super) fn newest(
    rows: &dyn Rows,
    key: &[u8],
    at: Revision,
) -> Result<Option<(Revision, VersionRow)>, Error> {
    let key = tables::escaped(key);
    let Some((main, row)) = rows.newest_version(&key, at)? else { return Ok(None) };
    Ok(Some((main, decode(&row)?)))
}

/// Keys of a range that exist at one revision, in order.
pub struct Live<'a>(Source<'a>);

enum Source<'a> {
    One { key: Bytes, version: Option<Version> },
    Many(Box<Walk<'a>>),
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    /// The first escaped key behind the range.
    end: Option<Vec<u8>>,
    at: Revision,
    /// The key that was found last, escaped.
    key: Vec<u8>,
}

impl<'a> Live<'a> {
    pub fn over(rows: &'a dyn Rows, range: &KeyRange, at: Revision) -> Result<Live<'a>, Error> {
        let (start, end) = match range {
            KeyRange::One(key) => {
                let version = live(rows, key, at)?;
                return Ok(Live(Source::One { key: key.clone(), version }));
            }
            KeyRange::Between(start, end) => (start, Some(tables::escaped(end))),
            KeyRange::From(start) => (start, None),
        };
        let mut cursor = rows.cursor(Table::Versions);
        cursor.seek(&tables::escaped(start))?;
        let walk = Walk { cursor, end, at, key: Vec::new() };
        Ok(Live(Source::Many(Box::new(walk))))
    }

    /// All keys, for one pass that must not push out of memory what requests need.
    pub fn over_all(snapshot: &'a Snapshot, at: Revision) -> Result<Live<'a>, Error> {
        let mut cursor = snapshot.cursor_over_all(Table::Versions);
        cursor.seek(&[])?;
        Ok(Live(Source::Many(Box::new(Walk { cursor, end: None, at, key: Vec::new() }))))
    }

    /// The next key's version; [`Live::key`] says which key it is.
    pub fn step(&mut self) -> Result<Option<Version>, Error> {
        match &mut self.0 {
            Source::One { version, .. } => Ok(version.take()),
            Source::Many(walk) => walk.step(),
        }
    }

    /// The key whose version [`Live::step`] returned last.
    pub fn key(&self) -> Result<Bytes, Error> {
        match &self.0 {
            Source::One { key, .. } => Ok(key.clone()),
            Source::Many(walk) => tables::unescaped(&walk.key)
                .map(Bytes::from)
                .ok_or_else(|| Table::Versions.corrupt("key")),
        }
    }
}

impl Walk<'_> {
    fn step(&mut self) -> Result<Option<Version>, Error> {
        while let Some((row_key, row)) = self.cursor.row() {
            let (key, main, row) = parse(row_key, row)?;
            if self.end.as_ref().is_some_and(|end| key >= end.as_slice()) {
                return Ok(None);
            }
            self.key.clear();
            self.key.extend_from_slice(key);
            if main > self.at {
                self.skip_to(&tables::version_key(&self.key, self.at))?;
                continue;
            }
            let version = Version::new(main, row);
            self.skip_to(&tables::behind(&self.key))?;
            if version.is_some() {
                return Ok(version);
            }
        }
        Ok(None)
    }

    /// Goes to the first row at or behind `target`.
    fn skip_to(&mut self, target: &[u8]) -> Result<(), Error> {
        for _ in 0..NEAR {
            self.cursor.step()?;
            match self.cursor.row() {
                Some((row, _)) if row < target => {}
                Some(_) | None => return Ok(()),
            }
        }
        self.cursor.seek(target)
    }
}

fn parse<'a>(key: &'a [u8], row: &[u8]) -> Result<(&'a [u8], Revision, VersionRow), Error> {
    let (key, main) =
        tables::parse_version_key(key).ok_or_else(|| Table::Versions.corrupt("key"))?;
    Ok((key, main, decode(row)?))
}

fn decode(row: &[u8]) -> Result<VersionRow, Error> {
    VersionRow::decode(row).ok_or_else(|| Table::Versions.corrupt("version"))
}
