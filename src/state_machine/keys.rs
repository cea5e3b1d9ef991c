//! Putting and deleting keys, with the leases that they are attached to.

use bytes::Bytes;

use super::{Failure, Rejection};
use crate::{
    lease,
    mvcc::{self, Edit, Head, Live, Version},
    proto::etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
    },
    storage::{self, Rows},
    types::{KeyRange, LeaseId},
};

pub(super) fn check_put(rows: &dyn Rows, head: Head, request: &PutRequest) -> Result<(), Failure> {
    if request.key.is_empty() {
        return Err(Rejection::Malformed("a put without a key").into());
    }
    if let Some(id) = LeaseId::from_wire(request.lease)
        && lease::table::get(rows, id)?.is_none()
    {
        return Err(Rejection::LeaseNotFound(id).into());
    }
    if (request.ignore_value || request.ignore_lease)
        && mvcc::live(rows, &request.key, head.revision)?.is_none()
    {
        return Err(Rejection::KeyNotFound.into());
    }
    Ok(())
}

pub(super) fn put(
    edit: &mut Edit<'_, '_>,
    request: PutRequest,
) -> Result<PutResponse, storage::Error> {
    let previous = edit.live(&request.key)?;
    let previous_kv = match previous {
        Some(version) if request.prev_kv || request.ignore_value => {
            Some(version.read(edit.rows())?)
        }
        Some(_) | None => None,
    };
    let value = match &previous_kv {
        Some(kv) if request.ignore_value => kv.value.clone(),
        Some(_) | None => request.value,
    };
    let old_lease = previous.and_then(|version| version.lease);
    let lease = match request.ignore_lease {
        true => old_lease,
        false => LeaseId::from_wire(request.lease),
    };
    if lease != old_lease {
        if let Some(old_lease) = old_lease {
            lease::table::detach(edit.batch(), old_lease, &request.key);
        }
        if let Some(lease) = lease {
            lease::table::attach(edit.batch(), lease, &request.key);
        }
    }
    edit.put(request.key, value, lease, previous);
    let prev_kv = previous_kv.filter(|_| request.prev_kv);
    Ok(PutResponse { header: header(edit.head()), prev_kv })
}

pub(super) fn delete_range(
    edit: &mut Edit<'_, '_>,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, storage::Error> {
    let range = KeyRange::from_wire(request.key, request.range_end);
    let mut live = Live::over(edit.rows(), &range, edit.head().revision)?;
    let (mut keys, mut versions) = (Vec::new(), Vec::new());
    while let Some(version) = live.step()? {
        keys.push(live.key()?);
        versions.push(version);
    }
    drop(live);
    let prev_kvs = match request.prev_kv {
        true => Version::read_all(&versions, edit.rows())?,
        false => Vec::new(),
    };
    let deleted = i64::try_from(keys.len()).expect("keys fit into memory");
    for (key, version) in keys.into_iter().zip(versions) {
        delete(edit, key, version.lease);
    }
    Ok(DeleteRangeResponse { header: header(edit.head()), deleted, prev_kvs })
}

/// Deletes a key that exists, and detaches it.
pub(super) fn delete(edit: &mut Edit<'_, '_>, key: Bytes, lease: Option<LeaseId>) {
    if let Some(lease) = lease {
        lease::table::detach(edit.batch(), lease, &key);
    }
    edit.delete(key);
}

/// A header with the revision alone: the edge knows the rest.
pub(super) fn header(head: Head) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: head.revision.get(), ..ResponseHeader::default() })
}
