//! The buckets of a file of etcd as tables.

use std::{collections::BTreeSet, fs::File, path::Path};

use bytes::Bytes;
use prost::Message;

use super::{Error, LeftBehind, names, replay};
use crate::{
    alarm::{Alarm, Alarms, Kind},
    bbolt::Database,
    cluster::{Row, table},
    lease::{self, Lease},
    mvcc::{
        Head, Live,
        transfer::{self, Stored, parse_etcd_key},
    },
    proto::{
        etcddisk,
        etcdserverpb::{AlarmMember, Member},
    },
    state_machine::StateMachine,
    storage::{
        Batch, Storage,
        tables::{MetaKey, Table},
    },
    types::{ClusterId, LeaseId, LogId, MemberId, Revision, SubRevision},
};

/// Bytes of rows that are written at once.
const BATCH_BYTES: usize = 4 << 20;

/// Keys of leases that are written at once.
const BATCH_ATTACHMENTS: usize = 10_000;

/// Where a state comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A saved file.
    File(&'a Path),
    /// What etcd left behind.
    DataDir(&'a LeftBehind),
}

/// How far to raise the revision, so that clients never see it fall. All that was before is
/// compacted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump(pub u64);

/// The cluster that a restored state belongs to.
#[derive(Clone, Debug)]
pub struct Restored {
    pub cluster: ClusterId,
    pub members: Vec<Member>,
    /// The same members, as Raft's layer writes them.
    pub membership: Bytes,
}

/// The position of a restored state. Every member of the new cluster stands there at its start and
/// none has the entry, so one that is added later is sent the state.
const POSITION: LogId = LogId { term: 0, node: 0, index: 1 };

/// Fills an empty store. `progress` is told how many bytes of the file have been read, of how many.
/// The newest revision.
pub fn restore(
    source: Source<'_>,
    storage: &Storage,
    bump: Option<Bump>,
    restored: &Restored,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Revision, Error> {
    let (database, entries) = match source {
        Source::File(path) => {
            let failed = |error| Error::File { path: path.to_owned(), error };
            (Database::open(File::open(path).map_err(failed)?)?, Vec::new())
        }
        Source::DataDir(left) => {
            let opened = left.open()?;
            (opened.database, opened.entries)
        }
    };
    let head = load(&database, storage, progress)?;
    replay::replay(&mut StateMachine::open(storage.clone())?, &entries)?;
    drop(database);
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    let mut revision =
        if entries.is_empty() { head.revision } else { Head::read(&snapshot)?.revision };
    if let Some(bump) = bump {
        revision = raise(&mut batch, revision, bump)?;
    }
    table::put_cluster(&mut batch, restored.cluster);
    for member in &restored.members {
        table::put(&mut batch, &Row { member: member.clone(), incarnation: None });
    }
    batch.put_applied(POSITION);
    batch.put_membership(POSITION, &restored.membership);
    batch.write()?;
    storage.flush()?;
    Ok(revision)
}

/// Takes over all that does not belong to the old cluster.
fn load(
    database: &Database,
    storage: &Storage,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Head, Error> {
    let (floor, is_compacted) = floor(database)?;
    let newest = keys(database, storage, progress)?;
    let revision = newest.into_iter().chain(floor).fold(Revision::EMPTY_STORE, Ord::max);
    let head = Head { revision, floor };
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    transfer::put_head(&mut batch, head, is_compacted);
    let leases = leases(database, &mut batch)?;
    alarms(database, &mut batch)?;
    auth(database, &mut batch)?;
    same_rows(database, &mut batch, names::AUTH_USERS, Table::Users)?;
    same_rows(database, &mut batch, names::AUTH_ROLES, Table::Roles)?;
    batch.write()?;
    attach(storage, head, &leases)?;
    Ok(head)
}

/// The compaction floor, and whether etcd had removed everything below it.
pub(super) fn floor(database: &Database) -> Result<(Option<Revision>, bool), Error> {
    let meta = database.small_bucket(names::META)?;
    let revision = |name: &str| match meta.get(name.as_bytes()) {
        None => Ok(None),
        // Revision 0 is no revision, but a floor can be there.
        Some(key) if key.starts_with(&[0; 8]) => Ok(Some(Revision::BEFORE_ALL)),
        Some(key) => match parse_etcd_key(key) {
            Some((at, _)) => Ok(Some(at.main)),
            None => Err(row(names::META, format!("{name} is no revision"))),
        },
    };
    let finished = revision(names::FINISHED_COMPACTION)?;
    let floor = finished.max(revision(names::SCHEDULED_COMPACTION)?);
    Ok((floor, floor == finished))
}

/// The newest revision that has a row.
fn keys(
    database: &Database,
    storage: &Storage,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Revision>, Error> {
    let Some(mut rows) = database.bucket(names::KEY.as_bytes())? else { return Ok(None) };
    let (mut newest, mut read) = (None, 0);
    loop {
        let snapshot = storage.snapshot();
        let (mut batch, mut bytes) = (snapshot.batch(), 0);
        while bytes < BATCH_BYTES
            && let Some((key, message)) = rows.next_row()?
        {
            bytes += key.len() + message.len();
            let bad = |what: &str| row(names::KEY, format!("{}: {what}", hex(key)));
            let (at, tombstone) = parse_etcd_key(key).ok_or_else(|| bad("no revision"))?;
            transfer::put(&mut batch, Stored { at, tombstone, message })
                .map_err(|error| bad(&error.to_string()))?;
            newest = Some(at.main);
        }
        batch.write()?;
        if bytes == 0 {
            return Ok(newest);
        }
        read += bytes as u64;
        progress(read, database.size());
    }
}

fn leases(database: &Database, batch: &mut Batch<'_>) -> Result<BTreeSet<LeaseId>, Error> {
    let mut ids = BTreeSet::new();
    let Some(mut rows) = database.bucket(names::LEASE.as_bytes())? else { return Ok(ids) };
    while let Some((key, message)) = rows.next_row()? {
        let bad = |what: String| row(names::LEASE, format!("{}: {what}", hex(key)));
        let message = etcddisk::Lease::decode(message).map_err(|error| bad(error.to_string()))?;
        let id = LeaseId::from_wire(message.id).ok_or_else(|| bad("no id".to_owned()))?;
        let remaining_secs = (message.remaining_ttl > 0).then_some(message.remaining_ttl);
        lease::table::put(batch, &Lease { id, ttl_secs: message.ttl, remaining_secs });
        ids.insert(id);
    }
    Ok(ids)
}

/// Which keys are attached to which lease follows from the keys.
fn attach(storage: &Storage, head: Head, leases: &BTreeSet<LeaseId>) -> Result<(), Error> {
    let snapshot = storage.snapshot();
    let mut live = Live::over_all(&snapshot, head.revision)?;
    let (mut batch, mut count) = (snapshot.batch(), 0);
    while let Some(version) = live.step()? {
        let Some(id) = version.lease.filter(|id| leases.contains(id)) else { continue };
        lease::table::attach(&mut batch, id, &live.key()?);
        count += 1;
        if count % BATCH_ATTACHMENTS == 0 {
            std::mem::replace(&mut batch, snapshot.batch()).write()?;
        }
    }
    Ok(batch.write()?)
}

fn alarms(database: &Database, batch: &mut Batch<'_>) -> Result<(), Error> {
    let mut alarms = Alarms::default();
    for key in database.small_bucket(names::ALARM)?.into_keys() {
        let alarm = AlarmMember::decode(key.as_slice())
            .map_err(|error| row(names::ALARM, error.to_string()))?;
        if let Some(kind) = Kind::from_wire(alarm.alarm) {
            alarms.activate(batch, Alarm { kind, member: MemberId(alarm.member_id) });
        }
    }
    Ok(())
}

fn auth(database: &Database, batch: &mut Batch<'_>) -> Result<(), Error> {
    let rows = database.small_bucket(names::AUTH)?;
    let Some(revision) = rows.get(names::AUTH_REVISION.as_bytes()) else { return Ok(()) };
    if revision.len() != 8 {
        return Err(row(names::AUTH, format!("{} is no number", names::AUTH_REVISION)));
    }
    let enabled = rows.get(names::AUTH_ENABLED.as_bytes()).is_some_and(|row| row == &[1]);
    let value = [&[u8::from(enabled)], revision.as_slice()].concat();
    batch.put(Table::Meta, &MetaKey::Auth.key(), value);
    Ok(())
}

/// A bucket whose rows are those of a table.
fn same_rows(
    database: &Database,
    batch: &mut Batch<'_>,
    bucket: &'static str,
    table: Table,
) -> Result<(), Error> {
    let Some(mut rows) = database.bucket(bucket.as_bytes())? else { return Ok(()) };
    while let Some((key, value)) = rows.next_row()? {
        batch.put(table, key, value.to_vec());
    }
    Ok(())
}

/// Raises the revision as etcd does: by a row with nothing in it. So HashKV stays the same as
/// etcd's.
fn raise(batch: &mut Batch<'_>, latest: Revision, bump: Bump) -> Result<Revision, Error> {
    let raised = i64::try_from(bump.0).ok().and_then(|by| latest.get().checked_add(by));
    let raised = raised.filter(|raised| *raised < i64::MAX).and_then(Revision::from_wire);
    let raised = raised.ok_or_else(|| row(names::KEY, "the revision is too large".to_owned()))?;
    let at = SubRevision { main: raised, sub: 0 };
    transfer::put(batch, Stored { at, tombstone: false, message: &[] })
        .expect("a message without fields decodes");
    transfer::put_head(batch, Head { revision: raised, floor: Some(raised) }, false);
    Ok(raised)
}

fn row(bucket: &'static str, what: String) -> Error {
    Error::Row { bucket, what }
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}
