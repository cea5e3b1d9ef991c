//! HashKV, bit for bit as etcd computes it once its own compaction has finished.
//!
//! What is hashed never depends on how far this member has removed compacted revisions.

use super::{Error, HashKv, Head, history, index::Live, transfer::etcd_key};
use crate::{
    storage::{
        self, Rows, Snapshot,
        tables::{self, Table},
    },
    types::{Revision, SubRevision},
};

/// etcd hashes the name of its bucket first.
const BUCKET: &[u8] = b"key";

pub(super) fn hash_kv(snapshot: &Snapshot, head: Head, revision: i64) -> Result<HashKv, Error> {
    if revision < 0 {
        let hash = crc32c::crc32c(BUCKET);
        return Ok(HashKv { hash, compact_revision: head.floor, hash_revision: revision });
    }
    hash_at(snapshot, head.floor, head.readable(revision)?, false)
}

/// The hash that a compaction at this revision leaves, when the store was compacted at `floor`
/// before.
pub(super) fn hash_before(
    snapshot: &Snapshot,
    floor: Option<Revision>,
    at: Revision,
) -> Result<HashKv, Error> {
    // Of what is current, a compaction counts the deletions at its own revision, too.
    let deletes = deletes_at(snapshot, at)?;
    hash_at(snapshot, floor, at, deletes)
}

/// The same at a revision that is there. `deletes`: etcd counts deletions to what is current then.
fn hash_at(
    snapshot: &Snapshot,
    floor: Option<Revision>,
    at: Revision,
    deletes: bool,
) -> Result<HashKv, Error> {
    let kept = match floor {
        Some(floor) => kept_below(snapshot, floor, at, deletes)?,
        None => Vec::new(),
    };
    let hash = hash(snapshot, floor, at, &kept)?;
    Ok(HashKv { hash, compact_revision: floor, hash_revision: at.get() })
}

/// The versions at or below the floor that are hashed, in order: those that are current at `at`.
///
/// When nothing is current at `at`, etcd hashes whatever its compaction has left: what was current
/// at the floor.
fn kept_below(
    snapshot: &Snapshot,
    floor: Revision,
    at: Revision,
    deletes: bool,
) -> Result<Vec<SubRevision>, storage::Error> {
    let (mut kept, any) = current(snapshot, floor, at)?;
    if !any && !deletes {
        kept = current(snapshot, floor, floor)?.0;
    }
    kept.sort_unstable();
    Ok(kept)
}

/// Versions at or below the floor that are current at `at`, and whether any key exists then.
fn current(
    snapshot: &Snapshot,
    floor: Revision,
    at: Revision,
) -> Result<(Vec<SubRevision>, bool), storage::Error> {
    let mut live = Live::over_all(snapshot, at)?;
    let (mut kept, mut any) = (Vec::new(), false);
    while let Some(version) = live.step()? {
        any = true;
        if version.at.main <= floor {
            kept.push(version.at);
        }
    }
    Ok((kept, any))
}

/// Whether a key was deleted at this revision.
fn deletes_at(snapshot: &Snapshot, at: Revision) -> Result<bool, storage::Error> {
    let mut cursor = snapshot.cursor(Table::Revisions);
    cursor.seek(&tables::revision_key(SubRevision { main: at, sub: 0 }))?;
    while let Some((key, row)) = cursor.row() {
        if history::parse_key(key)?.main > at {
            break;
        }
        if history::split(row)?.0 {
            return Ok(true);
        }
        cursor.step()?;
    }
    Ok(false)
}

fn hash(
    snapshot: &Snapshot,
    floor: Option<Revision>,
    at: Revision,
    kept: &[SubRevision],
) -> Result<u32, storage::Error> {
    let mut hash = crc32c::crc32c(BUCKET);
    let mut kept = kept.iter().peekable();
    let mut cursor = snapshot.cursor_over_all(Table::Revisions);
    cursor.seek(&[])?;
    while let Some((key, row)) = cursor.row() {
        let revision = history::parse_key(key)?;
        if revision.main > at {
            break;
        }
        if floor.is_none_or(|floor| revision.main > floor) || kept.next_if_eq(&&revision).is_some()
        {
            let (tombstone, message) = history::split(row)?;
            hash = crc32c::crc32c_append(hash, &etcd_key(revision, tombstone));
            hash = crc32c::crc32c_append(hash, message);
        }
        cursor.step()?;
    }
    Ok(hash)
}
