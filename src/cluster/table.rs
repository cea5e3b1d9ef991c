//! The replicated list of members.

use prost::Message;

use super::{Labels, Members, Row, Versions};
use crate::{
    proto::etcdserverpb::Member,
    storage::{
        Batch, Error, Rows,
        tables::{MetaKey, Table, member_key, parse_member_key},
    },
    types::{ClusterId, MemberId, Version},
};

pub(super) fn read(rows: &dyn Rows) -> Result<Members, Error> {
    let cluster = match rows.get(Table::Meta, &MetaKey::ClusterId.key())? {
        Some(row) => {
            let row = row.as_ref().try_into().map_err(|_| Table::Meta.corrupt("cluster id"))?;
            Some(ClusterId(u64::from_be_bytes(row)))
        }
        None => None,
    };
    let versions = Versions {
        cluster: version(rows, MetaKey::ClusterVersion)?,
        downgrade: version(rows, MetaKey::Downgrade)?,
    };
    let mut members = Members { cluster, versions, ..Members::default() };
    let mut cursor = rows.cursor(Table::Members);
    cursor.seek(&[])?;
    while let Some((_, row)) = cursor.row() {
        members.rows.push(decode(row)?);
        cursor.step()?;
    }
    let mut cursor = rows.cursor(Table::RemovedMembers);
    cursor.seek(&[])?;
    while let Some((_, row)) = cursor.row() {
        members.removed.push(decode(row)?);
        cursor.step()?;
    }
    let mut cursor = rows.cursor(Table::MemberLabels);
    cursor.seek(&[])?;
    while let Some((key, row)) = cursor.row() {
        let corrupt = || Table::MemberLabels.corrupt("labels");
        let id = parse_member_key(key).ok_or_else(corrupt)?;
        members.labels.insert(id, Labels::decode(row).map_err(|_| corrupt())?);
        cursor.step()?;
    }
    Ok(members)
}

fn version(rows: &dyn Rows, key: MetaKey) -> Result<Option<Version>, Error> {
    let Some(row) = rows.get(Table::Meta, &key.key())? else { return Ok(None) };
    let version = str::from_utf8(&row).ok().and_then(Version::parse);
    version.map(Some).ok_or_else(|| Table::Meta.corrupt("a version"))
}

pub fn put_version(batch: &mut Batch<'_>, version: Version) {
    let row = version.to_string().into_bytes();
    batch.put(Table::Meta, &MetaKey::ClusterVersion.key(), row);
}

pub fn put_downgrade(batch: &mut Batch<'_>, target: Option<Version>) {
    let key = MetaKey::Downgrade.key();
    match target {
        Some(target) => batch.put(Table::Meta, &key, target.to_string().into_bytes()),
        None => batch.delete(Table::Meta, &key),
    }
}

pub fn put_cluster(batch: &mut Batch<'_>, id: ClusterId) {
    batch.put(Table::Meta, &MetaKey::ClusterId.key(), id.0.to_be_bytes().to_vec());
}

pub fn put(batch: &mut Batch<'_>, row: &Row) {
    batch.put(Table::Members, &member_key(MemberId(row.member.id)), encode(row));
}

/// Says where a member stands.
pub fn put_labels(batch: &mut Batch<'_>, id: MemberId, labels: &Labels) {
    match *labels == Labels::default() {
        true => batch.delete(Table::MemberLabels, &member_key(id)),
        false => batch.put(Table::MemberLabels, &member_key(id), labels.encode_to_vec()),
    }
}

/// Puts a member back on the list that was taken from it.
pub fn readmit(batch: &mut Batch<'_>, row: &Row) {
    batch.delete(Table::RemovedMembers, &member_key(MemberId(row.member.id)));
    put(batch, row);
}

/// Takes a member from the list, for good.
pub fn remove(batch: &mut Batch<'_>, row: &Row) {
    let key = member_key(MemberId(row.member.id));
    batch.delete(Table::Members, &key);
    batch.delete(Table::MemberLabels, &key);
    batch.put(Table::RemovedMembers, &key, encode(row));
}

fn encode(row: &Row) -> Vec<u8> {
    let mut value = match row.incarnation {
        None => vec![0],
        Some(incarnation) => [&[1], &incarnation.to_be_bytes()[..]].concat(),
    };
    value.extend(row.member.encode_to_vec());
    value
}

fn decode(row: &[u8]) -> Result<Row, Error> {
    let corrupt = || Table::Members.corrupt("member");
    let (incarnation, message) = match row.split_first().ok_or_else(corrupt)? {
        (0, message) => (None, message),
        (1, rest) => {
            let (incarnation, message) = rest.split_first_chunk().ok_or_else(corrupt)?;
            (Some(u64::from_be_bytes(*incarnation)), message)
        }
        _ => return Err(corrupt()),
    };
    let member = Member::decode(message).map_err(|_| corrupt())?;
    Ok(Row { member, incarnation })
}
