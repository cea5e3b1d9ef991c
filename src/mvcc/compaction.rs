//! Removing what lies below the compaction floor, a little at a time.
//!
//! Each member does this at its own pace, so nothing that a client can see may depend on how far it
//! has come. A round works towards the floor that it found at its start:
//!
//! ```text
//! floor 8, keys a and b:   a: 2 5 9   b: 3 6x       (x: tombstone)
//! removed:                 a: 2       b: 3 6x
//! ```
//!
//! Of each key the newest version at or below the floor stays, but for a tombstone below the floor.
//! A tombstone exactly at the floor stays until the next round: a watch that opens there must be
//! told.

use super::{Head, history, index};
use crate::{
    storage::{
        Batch, Error, Rows, Storage,
        tables::{self, CompactionRow, MetaKey, Table, VersionRow},
    },
    types::{Revision, SubRevision},
};

/// Revisions that one step looks at if nothing else is said, as in etcd: a few milliseconds of
/// work.
const REVISIONS_PER_STEP: usize = 1000;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// There is more to do.
    pub more: bool,
    /// Versions that were removed.
    pub removed: u64,
}

/// Does one step of the present round, or begins the next one. `Ok(true)` asks to be called again.
/// Steps run one at a time, beside anything else.
pub fn step(storage: &Storage) -> Result<bool, Error> {
    let floor = Head::read(&storage.snapshot())?.floor;
    floor.map_or(Ok(false), |floor| Ok(step_towards(storage, floor)?.more))
}

/// As [`step`], towards a floor that the store has or has had.
pub fn step_towards(storage: &Storage, floor: Revision) -> Result<Step, Error> {
    step_of(storage, floor, REVISIONS_PER_STEP)
}

/// As [`step_towards`], looking at so many revisions.
pub fn step_of(storage: &Storage, floor: Revision, revisions: usize) -> Result<Step, Error> {
    let snapshot = storage.snapshot();
    let Some(mut round) = begin(&snapshot, floor)? else {
        return Ok(Step { more: false, removed: 0 });
    };
    let mut batch = snapshot.batch();
    let removed;
    (round.next, removed) = remove(&snapshot, &mut batch, &round, revisions)?;
    batch.put(Table::Meta, &MetaKey::Compaction.key(), round.encode());
    batch.write()?;
    Ok(Step { more: round.next.main <= round.target || round.target < floor, removed })
}

/// Whether everything below this floor is gone.
pub(super) fn is_done(rows: &dyn Rows, floor: Revision) -> Result<bool, Error> {
    Ok(begin(rows, floor)?.is_none())
}

/// Notes that nothing below the floor is left, in a store that was filled so.
pub(super) fn put_done(batch: &mut Batch<'_>, floor: Revision) {
    if floor < Revision::EMPTY_STORE {
        return;
    }
    let round = next_round(floor, floor);
    let round = CompactionRow { next: round.end(), ..round };
    batch.put(Table::Meta, &MetaKey::Compaction.key(), round.encode());
}

/// The round to go on with; `None` when everything below the floor is gone.
fn begin(rows: &dyn Rows, floor: Revision) -> Result<Option<CompactionRow>, Error> {
    let round = match rows.get(Table::Meta, &MetaKey::Compaction.key())? {
        Some(row) => {
            CompactionRow::decode(&row).ok_or_else(|| Table::Meta.corrupt("compaction"))?
        }
        None => next_round(Revision::EMPTY_STORE, floor),
    };
    if round.next.main <= round.target {
        Ok(Some(round))
    } else if round.target < floor {
        Ok(Some(next_round(round.target, floor)))
    } else {
        Ok(None)
    }
}

/// Starts at the floor of the round before, where that left tombstones.
fn next_round(done: Revision, target: Revision) -> CompactionRow {
    CompactionRow { done, target, next: SubRevision { main: done, sub: 0 } }
}

/// Removes what one step finds. Where the next step starts, and how many versions were removed.
fn remove(
    rows: &dyn Rows,
    batch: &mut Batch<'_>,
    round: &CompactionRow,
    revisions: usize,
) -> Result<(SubRevision, u64), Error> {
    let mut removed = 0;
    let mut cursor = rows.cursor(Table::Revisions);
    cursor.seek(&tables::revision_key(round.next))?;
    for _ in 0..revisions {
        let Some((row_key, row)) = cursor.row() else { return Ok((round.end(), removed)) };
        let at = history::parse_key(row_key)?;
        if at.main > round.target {
            return Ok((round.end(), removed));
        }
        removed += remove_around(batch, round, at, &history::key(row)?)?;
        cursor.step()?;
    }
    let next = match cursor.row() {
        Some((row_key, _)) => history::parse_key(row_key)?,
        None => round.end(),
    };
    Ok((next, removed))
}

/// Removes one change if no read can see it, and else what it has replaced; how many versions. What
/// it replaced since the round before needs no search: it removes itself when its turn comes.
fn remove_around(
    batch: &mut Batch<'_>,
    round: &CompactionRow,
    at: SubRevision,
    key: &[u8],
) -> Result<u64, Error> {
    let Some((main, newest)) = index::newest(batch, key, round.target)? else {
        return Err(Table::Versions.corrupt(format!("no version for the change at {at:?}")));
    };
    if main > at.main {
        remove_version(batch, key, at);
        return Ok(1);
    }
    let mut removed = 0;
    let before = at.main.previous().map(|before| before.min(round.done));
    if let Some(before) = before
        && let Some((main, replaced)) = index::newest(batch, key, before)?
    {
        remove_version(batch, key, SubRevision { main, sub: replaced.sub() });
        removed += 1;
    }
    match newest {
        VersionRow::Tombstone { .. } if at.main < round.target => {
            remove_version(batch, key, at);
            removed += 1;
        }
        VersionRow::Tombstone { .. } | VersionRow::Put { .. } => {}
    }
    Ok(removed)
}

fn remove_version(batch: &mut Batch<'_>, key: &[u8], at: SubRevision) {
    batch.delete(Table::Revisions, &tables::revision_key(at));
    batch.delete(Table::Versions, &tables::version_key(&tables::escaped(key), at.main));
}
