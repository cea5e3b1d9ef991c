//! What a saved file holds, without a store.

use std::collections::{HashMap, HashSet};

use prost::Message;

use super::{Error, names};
use crate::{
    bbolt::Database,
    mvcc::{HashKv, transfer::parse_etcd_key},
    proto::mvccpb::KeyValue,
    types::{Revision, SubRevision},
};

/// As `etcdutl snapshot status` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC32C of the names of all buckets, each with its rows behind it.
    pub hash: u32,
    pub revision: i64,
    /// Keys that exist at the newest revision.
    pub total_keys: usize,
    pub total_bytes: u64,
    /// Empty before etcd 3.6.
    pub version: String,
}

/// Reads the whole file. `progress` is told how many bytes have been read, of how many.
pub fn status(database: &Database, progress: &mut dyn FnMut(u64, u64)) -> Result<Status, Error> {
    let mut status = Status { total_bytes: database.size(), ..Status::default() };
    let mut read = 0;
    let mut keys: HashSet<Vec<u8>> = HashSet::new();
    for bucket in database.buckets()? {
        status.hash = crc32c::crc32c_append(status.hash, &bucket);
        let is_keys = bucket == names::KEY.as_bytes();
        let Some(mut rows) = database.bucket(&bucket)? else { continue };
        while let Some((key, value)) = rows.next_row()? {
            status.hash = crc32c::crc32c_append(status.hash, key);
            status.hash = crc32c::crc32c_append(status.hash, value);
            read += (key.len() + value.len()) as u64;
            progress(read, status.total_bytes);
            if !is_keys {
                continue;
            }
            let (at, tombstone, kv) = version(key, value)?;
            status.revision = at.main.get();
            match tombstone {
                false => keys.insert(kv.key.to_vec()),
                true => keys.remove(kv.key.as_ref()),
            };
        }
    }
    status.total_keys = keys.len();
    let meta = database.small_bucket(names::META)?;
    if let Some(version) = meta.get(names::STORAGE_VERSION.as_bytes()) {
        status.version = String::from_utf8_lossy(version).into_owned();
    }
    Ok(status)
}

/// HashKV of the file as etcd computes it; `revision` 0 stands for the newest.
///
/// # Errors The revision is compacted, or there is none such yet.
pub fn hash_kv(database: &Database, revision: i64) -> Result<HashKv, Error> {
    use crate::mvcc::Error::{Compacted, FutureRevision};
    let (floor, _) = super::load::floor(database)?;
    let newest = newest(database)?.into_iter().chain(floor).fold(Revision::EMPTY_STORE, Ord::max);
    let at = Revision::from_wire(revision).unwrap_or(newest);
    if at > newest {
        return Err(FutureRevision(newest).into());
    }
    if let Some(floor) = floor.filter(|floor| at < *floor) {
        return Err(Compacted(floor).into());
    }
    let current = current(database, at)?;
    let mut hash = crc32c::crc32c(names::KEY.as_bytes());
    let Some(mut rows) = database.bucket(names::KEY.as_bytes())? else {
        return Ok(HashKv { hash, compact_revision: floor, hash_revision: at.get() });
    };
    while let Some((key, value)) = rows.next_row()? {
        let (found, tombstone) = parse(key)?;
        if found.main > at {
            break;
        }
        // At or below the floor counts what is current; all that is left when nothing is. A
        // deletion exactly there does not: older releases have removed it.
        let is_below = floor.is_some_and(|floor| found.main <= floor);
        let is_dropped = is_below && !current.is_empty() && !current.contains(&found);
        let is_deletion_at_floor = tombstone && Some(found.main) == floor;
        if !is_dropped && !is_deletion_at_floor {
            hash = crc32c::crc32c_append(hash, key);
            hash = crc32c::crc32c_append(hash, value);
        }
    }
    Ok(HashKv { hash, compact_revision: floor, hash_revision: at.get() })
}

fn newest(database: &Database) -> Result<Option<Revision>, Error> {
    let mut newest = None;
    if let Some(mut rows) = database.bucket(names::KEY.as_bytes())? {
        while let Some((key, _)) = rows.next_row()? {
            newest = Some(parse(key)?.0.main);
        }
    }
    Ok(newest)
}

/// The version of each key that exists at a revision.
fn current(database: &Database, at: Revision) -> Result<HashSet<SubRevision>, Error> {
    let mut versions: HashMap<Vec<u8>, SubRevision> = HashMap::new();
    if let Some(mut rows) = database.bucket(names::KEY.as_bytes())? {
        while let Some((key, value)) = rows.next_row()? {
            let (found, tombstone, kv) = version(key, value)?;
            if found.main > at {
                break;
            }
            match tombstone {
                false => versions.insert(kv.key.to_vec(), found),
                true => versions.remove(kv.key.as_ref()),
            };
        }
    }
    Ok(versions.into_values().collect())
}

fn version(key: &[u8], value: &[u8]) -> Result<(SubRevision, bool, KeyValue), Error> {
    let (at, tombstone) = parse(key)?;
    let kv = KeyValue::decode(value)
        .map_err(|error| Error::Row { bucket: names::KEY, what: error.to_string() })?;
    Ok((at, tombstone, kv))
}

fn parse(key: &[u8]) -> Result<(SubRevision, bool), Error> {
    let no_revision = || Error::Row { bucket: names::KEY, what: "no revision".to_owned() };
    parse_etcd_key(key).ok_or_else(no_revision)
}
