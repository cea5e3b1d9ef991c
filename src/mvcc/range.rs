//! Range with all of its options, as etcd answers it.

use std::cmp::Ordering;

use super::{
    Error, Head,
    index::{Live, Version},
};
use crate::{
    proto::{
        etcdserverpb::{
            RangeRequest, RangeResponse, ResponseHeader,
            range_request::{SortOrder, SortTarget},
        },
        mvccpb::KeyValue,
    },
    storage::Rows,
    types::KeyRange,
};

/// Answers with header.revision set to the newest revision of `head`.
pub fn range(rows: &dyn Rows, head: Head, request: &RangeRequest) -> Result<RangeResponse, Error> {
    let at = head.readable(request.revision)?;
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let without_values = request.keys_only && request.sort_target() != SortTarget::Value;
    let wanted = scan_limit(request);

    let mut live = Live::over(rows, &range, at)?;
    let (mut kvs, mut versions, mut count) = (Vec::new(), Vec::new(), 0);
    while let Some(version) = live.step()? {
        count += 1;
        if kvs.len() + versions.len() < wanted {
            match without_values {
                true => kvs.push(version.key_only(live.key()?)),
                false => versions.push(version),
            }
        }
    }
    if !without_values {
        kvs = Version::read_all(&versions, rows)?;
    }

    kvs.retain(|kv| passes(request, kv));
    sort(request, &mut kvs);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    let header = Some(ResponseHeader { revision: head.revision.get(), ..Default::default() });
    Ok(RangeResponse { header, kvs, more, count })
}

/// How many keys have to be read. One over the limit, to know whether there are more; all of them
/// when filters or an order choose which ones come first.
fn scan_limit(request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    // Without an order the limit cuts first and the sort comes behind, whatever the target (etcd).
    let by_key = match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 && by_key && !filtered => limit.saturating_add(1),
        Ok(_) | Err(_) => usize::MAX,
    }
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |number: i64, min: i64, max: i64| {
        (min == 0 || number >= min) && (max == 0 || number <= max)
    };
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Keys that are alike in what is sorted by stay in their order, also where it descends: so they
/// do in etcd, as long as there are few.
fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let compare = |one: &KeyValue, other: &KeyValue| match request.sort_target() {
        SortTarget::Key => Ordering::Equal, // They come sorted.
        SortTarget::Version => one.version.cmp(&other.version),
        SortTarget::Create => one.create_revision.cmp(&other.create_revision),
        SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
        SortTarget::Value => one.value.cmp(&other.value),
    };
    match (request.sort_order(), request.sort_target()) {
        (SortOrder::Descend, SortTarget::Key) => kvs.reverse(),
        (SortOrder::Descend, _) => kvs.sort_by(|one, other| compare(other, one)),
        (SortOrder::None | SortOrder::Ascend, _) => kvs.sort_by(compare),
    }
}
