//! What happened, revision by revision; and how one change is stored.

use bytes::Bytes;
use prost::Message;

use super::{Change, Error, Head};
use crate::{
    proto::mvccpb::{Event, KeyValue, event::EventType},
    storage::{
        self, Rows,
        tables::{self, Table},
    },
    types::{KeyRange, Revision, SubRevision},
};

const PUT: u8 = b'p';
const TOMBSTONE: u8 = b't';

/// A row of the revisions table.
pub(super) struct Stored {
    pub(super) tombstone: bool,
    /// For a tombstone nothing but the key.
    pub(super) kv: KeyValue,
}

pub(super) fn encode_put(kv: &KeyValue) -> Vec<u8> {
    encode(PUT, kv)
}

pub(super) fn encode_tombstone(key: Bytes) -> Vec<u8> {
    encode(TOMBSTONE, &KeyValue { key, ..KeyValue::default() })
}

fn encode(kind: u8, kv: &KeyValue) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + kv.encoded_len());
    row.push(kind);
    kv.encode_raw(&mut row);
    row
}

/// A row for a message that is encoded already.
pub(super) fn encoded(tombstone: bool, message: &[u8]) -> Vec<u8> {
    let kind = if tombstone { TOMBSTONE } else { PUT };
    [&[kind], message].concat()
}

/// Whether a row is a tombstone, and the message as it is stored.
pub(super) fn split(row: &[u8]) -> Result<(bool, &[u8]), storage::Error> {
    match row.split_first() {
        Some((&PUT, kv)) => Ok((false, kv)),
        Some((&TOMBSTONE, kv)) => Ok((true, kv)),
        Some(_) | None => Err(Table::Revisions.corrupt("neither put nor tombstone")),
    }
}

pub(super) fn decode(row: Bytes) -> Result<Stored, storage::Error> {
    let (tombstone, kv) = split(&row)?;
    let kv = KeyValue::decode(row.slice_ref(kv))
        .map_err(|error| Table::Revisions.corrupt(error.to_string()))?;
    Ok(Stored { tombstone, kv })
}

/// The key that a row is about.
pub(super) fn key(row: &[u8]) -> Result<Bytes, storage::Error> {
    match leading_key(split(row)?.1) {
        Some(key) => Ok(Bytes::copy_from_slice(key)),
        None => Ok(decode(Bytes::copy_from_slice(row))?.kv.key),
    }
}

pub(super) fn parse_key(key: &[u8]) -> Result<SubRevision, storage::Error> {
    tables::parse_revision_key(key).ok_or_else(|| Table::Revisions.corrupt("key"))
}

pub(super) fn put_event(kv: KeyValue) -> Event {
    Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
}

pub(super) fn delete_event(key: Bytes, at: Revision) -> Event {
    let kv = KeyValue { key, mod_revision: at.get(), ..KeyValue::default() };
    Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None }
}

pub(super) fn history(
    rows: &dyn Rows,
    head: Head,
    ranges: &[KeyRange],
    from: Revision,
    max_bytes: usize,
) -> Result<(Vec<Change>, Revision), Error> {
    if let Some(floor) = head.floor
        && from < floor
    {
        return Err(Error::Compacted(floor));
    }
    let mut changes: Vec<Change> = Vec::new();
    let mut bytes = 0;
    let mut newest = from;
    let mut cursor = rows.cursor(Table::Revisions);
    cursor.seek(&tables::revision_key(SubRevision { main: from, sub: 0 }))?;
    while let Some((key, row)) = cursor.row() {
        let at = parse_key(key)?;
        if at.main > newest && bytes >= max_bytes {
            return Ok((changes, at.main));
        }
        newest = at.main;
        bytes += key.len() + row.len();
        if let Some(event) = event_in(ranges, at.main, row)? {
            match changes.last_mut() {
                Some(change) if change.revision == at.main => change.events.push(event),
                Some(_) | None => {
                    changes.push(Change { revision: at.main, events: vec![event] });
                }
            }
        }
        cursor.step()?;
    }
    Ok((changes, from.max(head.revision.next())))
}

/// The event that a row tells of, if its key is in one of the ranges.
fn event_in(
    ranges: &[KeyRange],
    main: Revision,
    row: &[u8],
) -> Result<Option<Event>, storage::Error> {
    let (_, message) = split(row)?;
    if let Some(key) = leading_key(message)
        && !ranges.iter().any(|range| range.contains(key))
    {
        return Ok(None);
    }
    let Stored { tombstone, kv } = decode(Bytes::copy_from_slice(row))?;
    if !ranges.iter().any(|range| range.contains(&kv.key)) {
        return Ok(None);
    }
    Ok(Some(if tombstone { delete_event(kv.key, main) } else { put_event(kv) }))
}

/// The key of an encoded `KeyValue` without decoding the rest: the first field, as we write it.
fn leading_key(mut message: &[u8]) -> Option<&[u8]> {
    const KEY_FIELD: u8 = 1 << 3 | 2;
    message = message.strip_prefix(&[KEY_FIELD])?;
    let length = prost::encoding::decode_varint(&mut message).ok()?;
    message.get(..usize::try_from(length).ok()?)
}
