//! Transactions that change nothing are answered from a view, without the log.

use crate::proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest, request_op::Request};

/// Whether this member's own state will do to answer the transaction; `None` when it may change
/// something.
///
/// A nested transaction counts as a change, as in etcd. And as there, a transaction is served from
/// this member's own state when all of its ranges are serializable, which is so when it has none,
/// even if it compares.
pub(super) fn is_serializable(txn: &TxnRequest) -> Option<bool> {
    let ranges: Option<Vec<&RangeRequest>> =
        txn.success.iter().chain(&txn.failure).map(range).collect();
    Some(ranges?.iter().all(|range| range.serializable))
}

/// Whether the transaction is served from a view.
pub(crate) fn is_read_only(txn: &TxnRequest) -> bool {
    is_serializable(txn).is_some()
}

/// Reads single keys only.
pub(super) fn is_short(txn: &TxnRequest) -> bool {
    let mut ranges = txn.success.iter().chain(&txn.failure).filter_map(range);
    ranges.all(|range| range.range_end.is_empty())
        && txn.compare.iter().all(|compare| compare.range_end.is_empty())
}

fn range(operation: &RequestOp) -> Option<&RangeRequest> {
    match operation.request.as_ref()? {
        Request::RequestRange(range) => Some(range),
        Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest};

    fn get(key: &'static str, serializable: bool) -> Request {
        Request::RequestRange(RangeRequest { key: key.into(), serializable, ..Default::default() })
    }

    fn list() -> Request {
        Request::RequestRange(RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            ..Default::default()
        })
    }

    fn txn(success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
        let operations = |requests: Vec<Request>| {
            requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
        };
        TxnRequest {
            compare: vec![Compare { key: "k".into(), ..Default::default() }],
            success: operations(success),
            failure: operations(failure),
        }
    }

    #[track_caller]
    fn check(success: Vec<Request>, failure: Vec<Request>, expected: Option<bool>) {
        assert_eq!(is_serializable(&txn(success, failure)), expected);
    }

    #[test]
    fn a_transaction_of_ranges_is_as_fresh_as_the_most_demanding_of_them() {
        check(vec![get("a", false)], vec![], Some(false));
        check(vec![get("a", true)], vec![get("b", false)], Some(false));
        check(vec![get("a", true)], vec![get("b", true)], Some(true));
    }

    #[test]
    fn a_transaction_that_only_compares_is_served_from_this_members_state() {
        check(vec![], vec![], Some(true));
    }

    #[test]
    fn what_may_change_something_is_not_read_only_in_either_branch() {
        let put = || Request::RequestPut(PutRequest::default());
        let delete = || Request::RequestDeleteRange(DeleteRangeRequest::default());
        let nested = || Request::RequestTxn(TxnRequest::default());
        for write in [put, delete, nested] {
            check(vec![get("a", true), write()], vec![], None);
            check(vec![], vec![write()], None);
        }
    }

    #[test]
    fn a_transaction_is_short_when_it_reads_single_keys() {
        assert!(is_short(&txn(vec![get("a", true)], vec![])));
        assert!(!is_short(&txn(vec![], vec![list()])));
        let mut compares_a_range = txn(vec![], vec![]);
        compares_a_range.compare[0].range_end = "z".into();
        assert!(!is_short(&compares_a_range));
    }
}
