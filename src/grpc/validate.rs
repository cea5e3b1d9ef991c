//! What is wrong with a request that can be seen without looking at the store.
//!
//! The checks and their order are etcd's, so that of two faults the same one is reported.

mod overlap;

use prost::{Message, length_delimiter_len};

use crate::{
    grpc::Limits,
    lease,
    proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RangeRequest, RequestOp, TxnRequest,
        range_request::{SortOrder, SortTarget},
        request_op::Request,
    },
    types::Version,
};

/// How many transactions may stand within each other. Each is two messages deep and the decoder
/// reads at most 100, also when the transaction comes out of the log as a part of its command: one
/// that got in and can't be read there would end every member. etcd's decoder goes deeper, and its
/// only bound is `max-txn-ops`.
const NESTED_MAX: usize = 32;

/// etcd measures not the request but its log entry, which holds it in a field (its tag is 1 byte,
/// its length comes on top), beside a header: tag and length (3), the tag of an id (1), and the id.
/// That has nine bytes or ten, by the member; here nine, so that nothing is refused that some etcd
/// takes.
const ENTRY_OVERHEAD_BYTES: usize = 1 + 3 + 1 + 9;

/// Why a request makes no sense, whatever the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    EmptyKey,
    /// An operation of a transaction that says nothing. etcd's answer to it is "key not found".
    EmptyOperation,
    /// With `ignore_value`.
    ValueProvided,
    /// With `ignore_lease`.
    LeaseProvided,
    TooManyOperations,
    /// Two operations that can both run change the same key.
    DuplicateKey,
    SortOption,
    StreamSorted,
    StreamFiltered,
    /// More than `max-request-bytes`.
    RequestTooLarge,
    /// Lease id 0, which no lease has.
    NoLease,
    LeaseTtlTooLarge,
    MemberUrls,
    /// What is to be downgraded to is no version.
    DowngradeVersion,
    /// An action that the method does not have.
    UnknownMethod,
}

pub(crate) fn range(request: &RangeRequest) -> Result<(), Invalid> {
    if request.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Invalid::SortOption);
    }
    Ok(())
}

/// Chunks can be cut only from keys in ascending order with nothing filtered out.
pub(crate) fn range_stream(request: &RangeRequest) -> Result<(), Invalid> {
    range(request)?;
    // As in etcd, a target without an order is let through.
    match (request.sort_order(), request.sort_target()) {
        (SortOrder::None, _) | (SortOrder::Ascend, SortTarget::Key) => {}
        (SortOrder::Ascend | SortOrder::Descend, _) => return Err(Invalid::StreamSorted),
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(Invalid::StreamFiltered);
    }
    Ok(())
}

pub(crate) fn put(request: &PutRequest, limits: &Limits) -> Result<(), Invalid> {
    put_fields(request)?;
    size(request, limits)
}

pub(crate) fn delete_range(request: &DeleteRangeRequest, limits: &Limits) -> Result<(), Invalid> {
    delete_range_fields(request)?;
    size(request, limits)
}

/// Its size is looked at only where it goes through the log: see [`size`].
pub(crate) fn txn(request: &TxnRequest, limits: &Limits) -> Result<(), Invalid> {
    txn_fields(request, limits.max_txn_ops, NESTED_MAX)?;
    overlap::check(&request.success)?;
    overlap::check(&request.failure)
}

/// Any revision may be asked for: what the store makes of it is its answer.
pub(crate) fn compact(request: &CompactionRequest, limits: &Limits) -> Result<(), Invalid> {
    size(request, limits)
}

/// Times below the shortest one that can be granted, negative ones too, are raised to it later.
pub(crate) fn lease_grant(request: &LeaseGrantRequest) -> Result<(), Invalid> {
    match u64::try_from(request.ttl) {
        Ok(secs) if secs > lease::TTL_MAX.as_secs() => Err(Invalid::LeaseTtlTooLarge),
        Ok(_) | Err(_) => Ok(()),
    }
}

pub(crate) fn lease_revoke(request: &LeaseRevokeRequest) -> Result<(), Invalid> {
    if request.id == 0 { Err(Invalid::NoLease) } else { Ok(()) }
}

/// The URLs as they are kept: trimmed and sorted.
pub(crate) fn downgrade_target(version: &str) -> Result<Version, Invalid> {
    Version::parse(version).ok_or(Invalid::DowngradeVersion)
}

pub(crate) fn member_urls(urls: &[String]) -> Result<Vec<String>, Invalid> {
    let mut urls: Vec<String> = urls.iter().map(|url| url.trim().to_owned()).collect();
    if urls.is_empty() || !urls.iter().all(|url| is_member_url(url)) {
        return Err(Invalid::MemberUrls);
    }
    urls.sort();
    Ok(urls)
}

/// `http` and `https` need host and port and take no path; `unix` and `unixs` name a socket file.
fn is_member_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme {
        "http" | "https" => {
            !rest.contains(['/', '?', '#', '@'])
                && rest.parse::<http::uri::Authority>().is_ok_and(|it| it.port_u16().is_some())
        }
        "unix" | "unixs" => !rest.is_empty(),
        _ => false,
    }
}

fn put_fields(request: &PutRequest) -> Result<(), Invalid> {
    if request.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(())
}

fn delete_range_fields(request: &DeleteRangeRequest) -> Result<(), Invalid> {
    if request.key.is_empty() { Err(Invalid::EmptyKey) } else { Ok(()) }
}

/// `allowance` is how many operations a level may have; a nested transaction gets what its parent
/// left. `depth` is how many may be nested in it.
fn txn_fields(request: &TxnRequest, allowance: usize, depth: usize) -> Result<(), Invalid> {
    let TxnRequest { compare, success, failure } = request;
    let used = compare.len().max(success.len()).max(failure.len());
    let left = allowance.checked_sub(used).ok_or(Invalid::TooManyOperations)?;
    if compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Invalid::EmptyKey);
    }
    let mut operations = success.iter().chain(failure);
    operations.try_for_each(|operation| operation_fields(operation, left, depth))
}

fn operation_fields(operation: &RequestOp, allowance: usize, depth: usize) -> Result<(), Invalid> {
    match &operation.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put_fields(request),
        Some(Request::RequestDeleteRange(request)) => delete_range_fields(request),
        Some(Request::RequestTxn(request)) => {
            let depth = depth.checked_sub(1).ok_or(Invalid::TooManyOperations)?;
            txn_fields(request, allowance, depth)
        }
        None => Err(Invalid::EmptyOperation),
    }
}

/// For all that goes through the log. What is only read may be as large as a message.
pub(crate) fn size(request: &impl Message, limits: &Limits) -> Result<(), Invalid> {
    let length = request.encoded_len();
    if ENTRY_OVERHEAD_BYTES + length_delimiter_len(length) + length > limits.max_request_bytes {
        return Err(Invalid::RequestTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
