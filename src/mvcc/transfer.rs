//! A whole history: out of a store as etcd would hold it, and into an empty one.

use bytes::Bytes;
use prost::Message;

use super::{Head, compaction, history, index};
use crate::{
    proto::mvccpb::KeyValue,
    storage::{
        Batch, Cursor, Error, Rows, Snapshot,
        tables::{self, Table, VersionRow},
    },
    types::{LeaseId, Revision, SubRevision},
};

/// One version of a key as it is stored, here and in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub at: SubRevision,
    pub tombstone: bool,
    /// An encoded `mvccpb.KeyValue`; a tombstone's has nothing but the key.
    pub message: &'a [u8],
}

/// All versions that a store has once it is compacted at its floor, oldest first, however far the
/// compaction has come.
pub struct Kept<'a> {
    rows: &'a dyn Rows,
    cursor: Cursor<'a>,
    /// Up to here versions may be stored that are compacted.
    unsure_up_to: Option<Revision>,
    is_first: bool,
}

impl<'a> Kept<'a> {
    pub fn of(rows: &'a Snapshot) -> Result<Kept<'a>, Error> {
        let floor = Head::read(rows)?.floor;
        let unsure_up_to = match floor {
            Some(floor) if !compaction::is_done(rows, floor)? => Some(floor),
            Some(_) | None => None,
        };
        let mut cursor = rows.cursor_over_all(Table::Revisions);
        cursor.seek(&[])?;
        Ok(Kept { rows, cursor, unsure_up_to, is_first: true })
    }

    pub fn step(&mut self) -> Result<Option<Stored<'_>>, Error> {
        if !std::mem::take(&mut self.is_first) {
            self.cursor.step()?;
        }
        while let Some((key, row)) = self.cursor.row() {
            let at = history::parse_key(key)?;
            if self.unsure_up_to.is_none_or(|floor| at.main > floor)
                || self.is_kept(at, &history::key(row)?)?
            {
                break;
            }
            self.cursor.step()?;
        }
        let Some((key, row)) = self.cursor.row() else { return Ok(None) };
        let at = history::parse_key(key)?;
        let (tombstone, message) = history::split(row)?;
        Ok(Some(Stored { at, tombstone, message }))
    }

    /// Whether a version at or below the floor is what a read there finds, or a deletion that a
    /// watch that opens there is told.
    fn is_kept(&self, at: SubRevision, key: &[u8]) -> Result<bool, Error> {
        let Some(floor) = self.unsure_up_to else { return Ok(true) };
        Ok(match index::newest(self.rows, key, floor)? {
            Some((main, VersionRow::Put { .. })) => main == at.main,
            Some((main, VersionRow::Tombstone { .. })) => main == at.main && main == floor,
            None => false,
        })
    }
}

/// Puts a version into the batch for a store that is being filled, oldest version first. What the
/// key was attached to with it.
///
/// # Errors The message does not decode.
pub fn put(
    batch: &mut Batch<'_>,
    stored: Stored<'_>,
) -> Result<(Bytes, Option<LeaseId>), prost::DecodeError> {
    let Stored { at, tombstone, message } = stored;
    let kv = KeyValue::decode(Bytes::copy_from_slice(message))?;
    let lease = LeaseId::from_wire(kv.lease);
    let version = match tombstone {
        true => VersionRow::Tombstone { sub: at.sub },
        false => VersionRow::Put {
            sub: at.sub,
            // etcd marks a revision that was raised by a row with nothing in it.
            create_revision: Revision::from_wire(kv.create_revision).unwrap_or(at.main),
            version: kv.version,
            lease,
        },
    };
    let version_key = tables::version_key(&tables::escaped(&kv.key), at.main);
    batch.put(Table::Versions, &version_key, version.encode());
    let row = history::encoded(tombstone, message);
    batch.put(Table::Revisions, &tables::revision_key(at), row);
    Ok((kv.key, lease))
}

/// Notes the newest revision and the floor of a store that has been filled. `is_compacted`: nothing
/// was put that lies below the floor and is compacted.
pub fn put_head(batch: &mut Batch<'_>, head: Head, is_compacted: bool) {
    head.put(batch);
    if let Some(floor) = head.floor
        && is_compacted
    {
        compaction::put_done(batch, floor);
    }
}

/// A revision as etcd writes it in its file: `main _ sub`, and a `t` behind a tombstone's.
pub fn etcd_key(revision: SubRevision, tombstone: bool) -> Vec<u8> {
    let ours = tables::revision_key(revision);
    let mut key = Vec::with_capacity(ours.len() + 2);
    key.extend_from_slice(&ours[..8]);
    key.push(b'_');
    key.extend_from_slice(&ours[8..]);
    if tombstone {
        key.push(b't');
    }
    key
}

/// The revision of a row in etcd's file, and whether it is a tombstone's.
pub fn parse_etcd_key(key: &[u8]) -> Option<(SubRevision, bool)> {
    let (main, rest) = key.split_first_chunk()?;
    let (sub, rest) = rest.strip_prefix(b"_")?.split_first_chunk()?;
    let main = Revision::from_wire(i64::from_be_bytes(*main))?;
    let sub = i64::from_be_bytes(*sub);
    let tombstone = match rest {
        [] => false,
        [b't'] => true,
        [..] => return None,
    };
    (sub >= 0).then_some((SubRevision { main, sub }, tombstone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_written_as_etcd_writes_them() {
        let at = SubRevision { main: Revision::from_wire(0x1234).unwrap(), sub: 5 };
        let put = b"\0\0\0\0\0\0\x12\x34_\0\0\0\0\0\0\0\x05";
        assert_eq!(etcd_key(at, false), put);
        assert_eq!(parse_etcd_key(put), Some((at, false)));
        assert_eq!(parse_etcd_key(&etcd_key(at, true)), Some((at, true)));
        for wrong in [&b""[..], &put[..16], b"\0\0\0\0\0\0\x12\x34-\0\0\0\0\0\0\0\x05"] {
            assert_eq!(parse_etcd_key(wrong), None);
        }
        assert_eq!(parse_etcd_key(&[put, &b"x"[..]].concat()), None);
        assert_eq!(parse_etcd_key(&[0xFF; 17]), None);
    }
}
