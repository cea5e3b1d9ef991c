//! The tables as buckets of etcd.

use std::io::{Seek, Write};

use prost::Message;
use serde::Serialize;

use super::{Error, names};
use crate::{
    alarm::Alarms,
    bbolt::Writer,
    cluster::{Members, Row, Versions},
    lease,
    mvcc::{
        Head,
        transfer::{Kept, etcd_key},
    },
    proto::{etcddisk, etcdserverpb::Member},
    storage::{
        Rows, Snapshot,
        tables::{MetaKey, Table},
    },
    types::{SubRevision, Version},
};

/// Rows of a bucket that is small.
type Small = Vec<(Vec<u8>, Vec<u8>)>;

/// Writes the state as a file of etcd to `out`, which is empty. The file's size.
pub fn save<W: Write + Seek>(snapshot: &Snapshot, out: W) -> Result<(W, u64), Error> {
    let members = Members::read(snapshot)?;
    let mut writer = Writer::new(out)?;
    put_small(&mut writer, names::ALARM, alarms(snapshot)?)?;
    put_small(&mut writer, names::AUTH, auth(snapshot)?)?;
    put_table(&mut writer, names::AUTH_ROLES, snapshot, Table::Roles)?;
    put_table(&mut writer, names::AUTH_USERS, snapshot, Table::Users)?;
    put_small(&mut writer, names::CLUSTER, cluster(members.versions))?;
    put_keys(&mut writer, snapshot)?;
    put_small(&mut writer, names::LEASE, leases(snapshot)?)?;
    put_small(&mut writer, names::MEMBERS, member_rows(&members))?;
    put_small(&mut writer, names::MEMBERS_REMOVED, removed(&members))?;
    put_small(&mut writer, names::META, meta(snapshot, &members)?)?;
    Ok(writer.finish()?)
}

/// Sorts the rows as bbolt does: by the bytes of their keys.
fn put_small<W: Write + Seek>(
    writer: &mut Writer<W>,
    name: &str,
    mut rows: Small,
) -> Result<(), Error> {
    rows.sort();
    let mut bucket = writer.bucket(name);
    for (key, value) in &rows {
        bucket.put(key, value)?;
    }
    Ok(bucket.finish()?)
}

/// A table whose rows are etcd's.
fn put_table<W: Write + Seek>(
    writer: &mut Writer<W>,
    name: &str,
    rows: &dyn Rows,
    table: Table,
) -> Result<(), Error> {
    let mut bucket = writer.bucket(name);
    let mut cursor = rows.cursor(table);
    cursor.seek(&[])?;
    while let Some((key, value)) = cursor.row() {
        bucket.put(key, value)?;
        cursor.step()?;
    }
    Ok(bucket.finish()?)
}

/// What etcd would hold once it has compacted at the floor, so that HashKV is the same.
fn put_keys<W: Write + Seek>(writer: &mut Writer<W>, rows: &Snapshot) -> Result<(), Error> {
    let mut bucket = writer.bucket(names::KEY);
    let mut kept = Kept::of(rows)?;
    while let Some(stored) = kept.step()? {
        bucket.put(&etcd_key(stored.at, stored.tombstone), stored.message)?;
    }
    Ok(bucket.finish()?)
}

fn leases(rows: &dyn Rows) -> Result<Small, Error> {
    let row = |lease: lease::Lease| {
        let message = etcddisk::Lease {
            id: lease.id.get(),
            ttl: lease.ttl_secs,
            remaining_ttl: lease.remaining_secs.unwrap_or(0),
        };
        (lease.id.get().to_be_bytes().to_vec(), message.encode_to_vec())
    };
    Ok(lease::table::all(rows)?.into_iter().map(row).collect())
}

/// An alarm is the key; there is no value.
fn alarms(rows: &dyn Rows) -> Result<Small, Error> {
    let alarms = Alarms::read(rows)?.list(None);
    Ok(alarms.iter().map(|alarm| (alarm.encode_to_vec(), Vec::new())).collect())
}

/// Nothing where auth was never touched: etcd fills that in.
fn auth(rows: &dyn Rows) -> Result<Small, Error> {
    let Some(row) = rows.get(Table::Meta, &MetaKey::Auth.key())? else { return Ok(Small::new()) };
    let (enabled, revision) = row.split_first().ok_or_else(|| Table::Meta.corrupt("auth"))?;
    Ok(vec![
        (names::AUTH_ENABLED.into(), vec![*enabled]),
        (names::AUTH_REVISION.into(), revision.to_vec()),
    ])
}

/// A downgrade that is under way is not carried on: a restored cluster is a new one.
fn cluster(versions: Versions) -> Small {
    let row = |version: Version| (names::CLUSTER_VERSION.into(), version.to_string().into());
    versions.cluster.map(row).into_iter().collect()
}

fn member_rows(members: &Members) -> Small {
    let row = |row: &Row| (member_key(row), MemberJson::encode(&row.member));
    members.rows.iter().map(row).collect()
}

fn removed(members: &Members) -> Small {
    members.removed.iter().map(|row| (member_key(row), b"removed".to_vec())).collect()
}

fn member_key(row: &Row) -> Vec<u8> {
    format!("{:x}", row.member.id).into_bytes()
}

fn meta(rows: &Snapshot, members: &Members) -> Result<Small, Error> {
    let mut meta: Small = vec![(names::CONF_STATE.into(), ConfState::encode(members))];
    if let Some(version) = members.versions.storage() {
        meta.push((names::STORAGE_VERSION.into(), version.to_string().into()));
    }
    if let Some(applied) = rows.position()?.applied {
        meta.push((names::CONSISTENT_INDEX.into(), applied.index.to_be_bytes().into()));
        meta.push((names::TERM.into(), applied.term.to_be_bytes().into()));
    }
    if let Some(floor) = Head::read(rows)?.floor {
        let key = etcd_key(SubRevision { main: floor, sub: 0 }, false);
        meta.push((names::FINISHED_COMPACTION.into(), key.clone()));
        meta.push((names::SCHEDULED_COMPACTION.into(), key));
    }
    Ok(meta)
}

/// A member as etcd writes it in its bucket.
#[derive(Serialize)]
struct MemberJson<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

impl MemberJson<'_> {
    fn encode(member: &Member) -> Vec<u8> {
        let json = MemberJson {
            id: member.id,
            peer_urls: &member.peer_ur_ls,
            is_learner: member.is_learner,
            name: &member.name,
            client_urls: &member.client_ur_ls,
        };
        serde_json::to_vec(&json).expect("numbers and texts can be written")
    }
}

/// Who votes, as etcd writes it in its bucket.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

impl ConfState {
    fn encode(members: &Members) -> Vec<u8> {
        let ids = |learners: bool| {
            let rows = members.rows.iter().filter(|row| row.member.is_learner == learners);
            rows.map(|row| row.member.id).collect()
        };
        let state = ConfState { voters: ids(false), learners: ids(true), auto_leave: false };
        serde_json::to_vec(&state).expect("numbers can be written")
    }
}
