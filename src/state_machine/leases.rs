//! Granting, revoking and checkpointing leases.

use super::{Failure, Rejection, Reply, apply::Effects, keys};
use crate::{
    lease::{self, Lease, TTL_MAX, table},
    mvcc::{Edit, Head},
    proto::etcdserverpb::{
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
    },
    storage::{self, Batch, Rows},
    types::LeaseId,
};

/// Whoever proposes has chosen the id and raised the time to the least that is allowed.
pub(super) fn grant(
    batch: &mut Batch<'_>,
    head: Head,
    request: &LeaseGrantRequest,
) -> Result<Effects, Failure> {
    let (id, ttl_secs) = (LeaseId::from_wire(request.id), request.ttl);
    let id = id.ok_or(Rejection::Malformed("a lease without an id"))?;
    match u64::try_from(ttl_secs) {
        Ok(secs) if secs > TTL_MAX.as_secs() => {
            return Err(Rejection::LeaseTtlTooLarge(ttl_secs).into());
        }
        Ok(1..) => {}
        Ok(0) | Err(_) => return Err(Rejection::Malformed("a lease without time").into()),
    }
    if table::get(batch, id)?.is_some() {
        return Err(Rejection::LeaseExists(id).into());
    }
    let lease = Lease { id, ttl_secs, remaining_secs: None };
    table::put(batch, &lease);
    let reply = Reply::LeaseGrant(LeaseGrantResponse {
        header: keys::header(head),
        id: id.get(),
        ttl: ttl_secs,
        error: String::new(),
    });
    Ok(Effects { reply, leases: vec![lease::Change::Granted(lease)], ..Effects::done() })
}

pub(super) fn check_revoke(
    rows: &dyn Rows,
    request: &LeaseRevokeRequest,
) -> Result<Lease, Failure> {
    let id = LeaseId::from_wire(request.id);
    let id = id.ok_or(Rejection::Malformed("a revocation without an id"))?;
    Ok(table::get(rows, id)?.ok_or(Rejection::LeaseNotFound(id))?)
}

/// Deletes the keys of a lease in order, all in one revision, and the lease.
pub(super) fn revoke(edit: &mut Edit<'_, '_>, id: LeaseId) -> Result<(), storage::Error> {
    for key in table::keys(edit.rows(), id)? {
        keys::delete(edit, key, Some(id));
    }
    table::remove(edit.batch(), id);
    Ok(())
}

/// Notes how much is left of leases. Those that are gone meanwhile are passed over; nothing left
/// stands for the full time, as in etcd.
pub(super) fn checkpoint(
    batch: &mut Batch<'_>,
    request: &LeaseCheckpointRequest,
) -> Result<Effects, storage::Error> {
    let mut leases = Vec::new();
    for checkpoint in &request.checkpoints {
        let Some(id) = LeaseId::from_wire(checkpoint.id) else { continue };
        let Some(mut lease) = table::get(batch, id)? else { continue };
        let remaining = checkpoint.remaining_ttl.min(lease.ttl_secs);
        lease.remaining_secs = (remaining > 0).then_some(remaining);
        table::put(batch, &lease);
        leases.push(lease::Change::Checkpointed(lease));
    }
    Ok(Effects { leases, ..Effects::done() })
}
