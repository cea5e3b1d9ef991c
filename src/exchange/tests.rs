//! What is saved is restored, and what is damaged is refused.

mod left_behind;

use std::{
    fs,
    io::{Cursor, Write},
    path::PathBuf,
};

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;

use super::*;
use crate::{
    alarm::{Alarm, Alarms, Kind},
    bbolt::{Database, Writer},
    cluster::{self, Members},
    lease,
    mvcc::{View, compaction},
    proto::{
        authpb::{Role, User},
        command::{ClusterVersionSet, Command, command::Operation},
        etcdserverpb::{
            CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, Member, PutRequest,
        },
    },
    state_machine::{Entry, Payload, StateMachine},
    storage::{
        Place, Rows, Snapshot, Storage,
        tables::{MetaKey, Table},
    },
    types::{ClusterId, LeaseId, LogId, MemberId, Revision},
};

fn put(key: &str, value: &str, lease: i64) -> Operation {
    let (key, value) =
        (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Operation::Put(PutRequest { key, value, lease, ..PutRequest::default() })
}

fn delete(key: &'static str) -> Operation {
    Operation::DeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
}

fn compact(revision: i64) -> Operation {
    Operation::Compact(CompactionRequest { revision, physical: false })
}

fn grant(id: i64, ttl: i64) -> Operation {
    Operation::LeaseGrant(LeaseGrantRequest { id, ttl })
}

/// A store on which these were carried out.
fn store(operations: impl IntoIterator<Item = Operation>) -> Storage {
    let storage = Storage::open(Place::Memory).unwrap();
    let mut machine = StateMachine::open(storage.clone()).unwrap();
    let entry = |(index, operation): (usize, Operation)| {
        let id = LogId { term: 3, node: 1, index: index as u64 };
        let command = Command { operation: Some(operation), ..Command::default() };
        Entry { id, payload: Payload::Command(command) }
    };
    machine.apply(operations.into_iter().enumerate().map(entry).collect()).unwrap();
    storage
}

/// Revision 2 to 9: keys put, changed, deleted and attached, with a lease of a negative id.
fn history() -> Vec<Operation> {
    vec![
        grant(7, 100),
        grant(-7, 200),
        put("a", "1", 0),
        put("b", "1", 7),
        put("a", "2", -7),
        delete("b"),
        put("c", "1", 7),
        delete("a"),
        put("d", "1", -7),
        put("b", "3", 0),
    ]
}

fn saved(storage: &Storage) -> Vec<u8> {
    let (out, size) = save(&storage.snapshot(), Cursor::new(Vec::new())).unwrap();
    assert_eq!(out.get_ref().len() as u64, size);
    out.into_inner()
}

fn cluster() -> Restored {
    let member = Member { id: 5, name: "new".into(), ..Member::default() };
    Restored { cluster: ClusterId(4), members: vec![member], membership: "voters".into() }
}

fn database(bytes: &[u8]) -> Database {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Database::open(file).unwrap()
}

fn file(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("saved.db");
    fs::write(&path, bytes).unwrap();
    path
}

fn restored(source: Source<'_>, bump: Option<Bump>) -> Result<Storage, Error> {
    let storage = Storage::open(Place::Memory).unwrap();
    restore(source, &storage, bump, &cluster(), &mut |_, _| ())?;
    Ok(storage)
}

fn from_bytes(bytes: &[u8], bump: Option<Bump>) -> Result<Storage, Error> {
    let folder = TempDir::new().unwrap();
    restored(Source::File(&file(&folder, bytes)), bump)
}

/// All rows of a table.
fn rows(snapshot: &Snapshot, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = snapshot.cursor(table);
    cursor.seek(&[]).unwrap();
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.row() {
        rows.push((key.to_vec(), value.to_vec()));
        cursor.step().unwrap();
    }
    rows
}

const CARRIED: [Table; 7] = [
    Table::Revisions,
    Table::Versions,
    Table::Leases,
    Table::LeaseKeys,
    Table::Users,
    Table::Roles,
    Table::Alarms,
];

#[track_caller]
fn expect_same(one: &Storage, other: &Storage) {
    for table in CARRIED {
        assert_eq!(rows(&one.snapshot(), table), rows(&other.snapshot(), table), "{table:?}");
    }
    let (one, other) = (View::new(one.snapshot()).unwrap(), View::new(other.snapshot()).unwrap());
    assert_eq!((one.revision(), one.floor()), (other.revision(), other.floor()));
    let floor = one.floor().map_or(1, Revision::get);
    for revision in floor..=one.revision().get() {
        let hash = one.hash_kv(revision).unwrap();
        assert_eq!(other.hash_kv(revision).unwrap(), hash);
    }
}

#[test]
fn what_was_saved_is_restored() {
    let storage = store(history());
    let bytes = saved(&storage);
    let again = from_bytes(&bytes, None).unwrap();
    expect_same(&storage, &again);
    let view = View::new(again.snapshot()).unwrap();
    for revision in 2..=view.revision().get() {
        let found = hash_kv(&database(&bytes), revision).unwrap();
        assert_eq!(found, view.hash_kv(revision).unwrap());
    }
    let empty = store([]);
    expect_same(&empty, &from_bytes(&saved(&empty), None).unwrap());
}

/// However far the compaction has come, the file holds what it leaves.
#[test]
fn a_compacted_history_is_saved_as_the_compaction_leaves_it() {
    for floor in [2, 5, 7, 9] {
        let begun = store(history().into_iter().chain([compact(floor)]));
        let done = store(history().into_iter().chain([compact(floor)]));
        while compaction::step(&done).unwrap() {}
        let bytes = saved(&begun);
        assert_eq!(bytes, saved(&done));
        let again = from_bytes(&bytes, None).unwrap();
        expect_same(&done, &again);
        assert!(!compaction::step(&again).unwrap());
        let view = View::new(done.snapshot()).unwrap();
        for revision in floor..=view.revision().get() {
            let found = hash_kv(&database(&bytes), revision).unwrap();
            assert_eq!(found, view.hash_kv(revision).unwrap(), "at {revision} above {floor}");
        }
        hash_kv(&database(&bytes), floor - 1).unwrap_err();
    }
}

#[test]
fn the_restored_state_belongs_to_the_new_cluster() {
    let old = store(history());
    let snapshot = old.snapshot();
    let mut batch = snapshot.batch();
    let member = Member { id: 9, name: "old".into(), ..Member::default() };
    cluster::table::put_cluster(&mut batch, ClusterId(8));
    cluster::table::put(&mut batch, &cluster::Row { member, incarnation: Some(1) });
    batch.write().unwrap();
    let snapshot = from_bytes(&saved(&old), None).unwrap().snapshot();
    let members = Members::read(&snapshot).unwrap();
    assert_eq!(members.cluster, Some(ClusterId(4)));
    assert_eq!((members.list(), members.removed), (cluster().members, vec![]));
    assert_eq!(members.rows[0].incarnation, None);
    let position = snapshot.position().unwrap();
    let applied = LogId { term: 0, node: 0, index: 1 };
    assert_eq!(position.applied, Some(applied));
    assert_eq!(position.membership, Some((applied, "voters".into())));
}

#[test]
fn users_roles_and_alarms_come_along_as_they_are() {
    let storage = store(history());
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    let user = |name: &'static str| User { name: name.into(), ..User::default() }.encode_to_vec();
    batch.put(Table::Users, b"root", user("root"));
    batch.put(Table::Users, b"someone", user("someone"));
    let role = Role { name: "root".into(), ..Role::default() };
    batch.put(Table::Roles, b"root", role.encode_to_vec());
    let no_space = Alarm { kind: Kind::NO_SPACE, member: MemberId(9) };
    Alarms::default().activate(&mut batch, no_space);
    batch.put(Table::Meta, &MetaKey::Auth.key(), &[1, 0, 0, 0, 0, 0, 0, 0, 12][..]);
    batch.write().unwrap();
    let bytes = saved(&storage);
    let users = database(&bytes).small_bucket(names::AUTH_USERS).unwrap();
    assert_eq!(users[&b"root"[..]], user("root"));
    let again = from_bytes(&bytes, None).unwrap();
    expect_same(&storage, &again);
    let row = again.snapshot().get(Table::Meta, &MetaKey::Auth.key()).unwrap();
    assert_eq!(row.as_deref(), Some(&[1, 0, 0, 0, 0, 0, 0, 0, 12][..]));
}

#[test]
fn a_raised_revision_is_the_floor_and_no_key() {
    let storage = store(history());
    let again = from_bytes(&saved(&storage), Some(Bump(1000))).unwrap();
    let view = View::new(again.snapshot()).unwrap();
    let raised = Revision::from_wire(9 + 1000);
    assert_eq!((Some(view.revision()), view.floor()), (raised, raised));
    while compaction::step(&again).unwrap() {}
    // It is carried on as it is.
    expect_same(&again, &from_bytes(&saved(&again), None).unwrap());
    let too_far = from_bytes(&saved(&storage), Some(Bump(u64::MAX))).unwrap_err();
    assert_eq!(too_far.to_string(), "bucket key: the revision is too large");
}

#[test]
fn the_status_counts_keys_that_exist() {
    let decided = ClusterVersionSet { from: String::new(), to: "3.7.0".to_owned() };
    let decided = Operation::ClusterVersionSet(decided);
    let storage = store(history().into_iter().chain([decided]).collect::<Vec<_>>());
    let bytes = saved(&storage);
    let status = status(&database(&bytes), &mut |_, _| ()).unwrap();
    assert_eq!((status.revision, status.total_keys), (9, 3));
    assert_eq!((status.total_bytes, status.version.as_str()), (bytes.len() as u64, "3.7.0"));
}

#[test]
fn rows_that_make_no_sense_are_refused() {
    let file = |bucket: &str, key: &[u8], value: &[u8]| {
        let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
        let mut rows = writer.bucket(bucket);
        rows.put(key, value).unwrap();
        rows.finish().unwrap();
        writer.finish().unwrap().0.into_inner()
    };
    let revision = b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0";
    for (bucket, key, value, words) in [
        ("key", &b"k"[..], &b""[..], "bucket key: 6b: no revision"),
        ("key", revision, b"\xFF", "bucket key: 00000000000000025f0000000000000000: "),
        ("lease", b"k", b"", "bucket lease: 6b: no id"),
        ("lease", b"k", b"\xFF", "bucket lease: 6b: "),
        ("alarm", b"\xFF", b"", "bucket alarm: "),
        ("auth", b"authRevision", b"1", "bucket auth: authRevision is no number"),
        ("meta", b"finishedCompactRev", b"1", "bucket meta: finishedCompactRev is no revision"),
    ] {
        let error = from_bytes(&file(bucket, key, value), None).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn leases_are_carried_with_what_is_left_of_them() {
    let storage = store(history());
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    let id = LeaseId::from_wire(7).unwrap();
    let lease = lease::Lease { id, ttl_secs: 100, remaining_secs: Some(30) };
    lease::table::put(&mut batch, &lease);
    batch.write().unwrap();
    let again = from_bytes(&saved(&storage), None).unwrap().snapshot();
    assert_eq!(lease::table::get(&again, id).unwrap(), Some(lease));
    assert_eq!(lease::table::keys(&again, id).unwrap(), ["c"]);
    let negative = LeaseId::from_wire(-7).unwrap();
    assert_eq!(lease::table::keys(&again, negative).unwrap(), ["d"]);
}
