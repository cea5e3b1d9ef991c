//! The replicated lease table, and which keys are attached to which lease.

use bytes::Bytes;

use super::Lease;
use crate::{
    storage::{
        Batch, Error, Rows,
        tables::{LeaseRow, Table, lease_key, parse_lease_key},
    },
    types::LeaseId,
};

pub fn get(rows: &dyn Rows, id: LeaseId) -> Result<Option<Lease>, Error> {
    match rows.get(Table::Leases, &lease_key(id))? {
        Some(row) => Ok(Some(decode(id, &row)?)),
        None => Ok(None),
    }
}

/// All leases, by id.
pub fn all(rows: &dyn Rows) -> Result<Vec<Lease>, Error> {
    let mut cursor = rows.cursor(Table::Leases);
    cursor.seek(&[])?;
    let mut leases = Vec::new();
    while let Some((key, row)) = cursor.row() {
        let (id, _) = parse_lease_key(key).ok_or_else(|| Table::Leases.corrupt("key"))?;
        leases.push(decode(id, row)?);
        cursor.step()?;
    }
    Ok(leases)
}

/// Keys attached to a lease, sorted.
pub fn keys(rows: &dyn Rows, id: LeaseId) -> Result<Vec<Bytes>, Error> {
    let mut cursor = rows.cursor(Table::LeaseKeys);
    cursor.seek(&lease_key(id))?;
    let mut keys = Vec::new();
    while let Some((row_key, _)) = cursor.row() {
        let (of, key) = parse_lease_key(row_key).ok_or_else(|| Table::LeaseKeys.corrupt("key"))?;
        if of != id {
            break;
        }
        keys.push(Bytes::copy_from_slice(key));
        cursor.step()?;
    }
    Ok(keys)
}

pub fn put(batch: &mut Batch<'_>, lease: &Lease) {
    let row = LeaseRow { ttl_secs: lease.ttl_secs, remaining_secs: lease.remaining_secs };
    batch.put(Table::Leases, &lease_key(lease.id), row.encode());
}

/// Its keys must have been detached.
pub fn remove(batch: &mut Batch<'_>, id: LeaseId) {
    batch.delete(Table::Leases, &lease_key(id));
}

pub fn attach(batch: &mut Batch<'_>, id: LeaseId, key: &[u8]) {
    batch.put(Table::LeaseKeys, &attachment(id, key), Bytes::new());
}

pub fn detach(batch: &mut Batch<'_>, id: LeaseId, key: &[u8]) {
    batch.delete(Table::LeaseKeys, &attachment(id, key));
}

fn attachment(id: LeaseId, key: &[u8]) -> Vec<u8> {
    [&lease_key(id), key].concat()
}

fn decode(id: LeaseId, row: &[u8]) -> Result<Lease, Error> {
    let row = LeaseRow::decode(row).ok_or_else(|| Table::Leases.corrupt("lease"))?;
    Ok(Lease { id, ttl_secs: row.ttl_secs, remaining_secs: row.remaining_secs })
}
