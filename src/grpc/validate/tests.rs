//! Each check of a request, and which of two faults is reported.

use super::*;
use crate::proto::{
    command::{Command, command::Operation},
    etcdserverpb::Compare,
};

const LIMITS: Limits = Limits { max_request_bytes: 1000, max_txn_ops: 3, ..Limits::DEFAULT };

#[track_caller]
fn check<T>(outcome: Result<T, Invalid>, expected: Option<Invalid>) {
    assert_eq!(outcome.err(), expected);
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

fn set(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

fn operations(requests: impl IntoIterator<Item = Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn gets(count: usize) -> Vec<RequestOp> {
    operations((0..count).map(|_| Request::RequestRange(get("k"))))
}

fn compares(count: usize) -> Vec<Compare> {
    vec![Compare { key: "k".into(), ..Default::default() }; count]
}

#[test]
fn a_range_needs_a_key_and_a_sort_that_exists() {
    check(range(&get("k")), None);
    check(range(&get("\0")), None);
    check(range(&get("")), Some(Invalid::EmptyKey));
    for sort_order in [-1, 3] {
        check(range(&RangeRequest { sort_order, ..get("k") }), Some(Invalid::SortOption));
    }
    for sort_target in [-1, 5] {
        check(range(&RangeRequest { sort_target, ..get("k") }), Some(Invalid::SortOption));
    }
    check(range(&RangeRequest { sort_order: 9, ..get("") }), Some(Invalid::EmptyKey));
    // The store reads these as "the newest" and "no limit".
    check(range(&RangeRequest { revision: -7, limit: -7, ..get("k") }), None);
}

#[test]
fn a_stream_of_ranges_comes_in_order_and_unfiltered() {
    let sorted = |order: SortOrder, target: SortTarget| RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..get("k")
    };
    check(range_stream(&get("k")), None);
    check(range_stream(&sorted(SortOrder::Ascend, SortTarget::Key)), None);
    check(range_stream(&sorted(SortOrder::Descend, SortTarget::Key)), Some(Invalid::StreamSorted));
    check(range_stream(&sorted(SortOrder::Ascend, SortTarget::Mod)), Some(Invalid::StreamSorted));
    check(range_stream(&sorted(SortOrder::None, SortTarget::Value)), None);
    check(
        range_stream(&RangeRequest { max_create_revision: 1, ..get("k") }),
        Some(Invalid::StreamFiltered),
    );
    check(range_stream(&get("")), Some(Invalid::EmptyKey));
}

#[test]
fn a_put_gives_a_key_and_nothing_that_it_says_to_ignore() {
    let check = |request: PutRequest, expected| check(put(&request, &LIMITS), expected);
    check(set("k"), None);
    check(set(""), Some(Invalid::EmptyKey));
    check(
        PutRequest { value: "v".into(), ignore_value: true, ..set("k") },
        Some(Invalid::ValueProvided),
    );
    check(PutRequest { lease: 1, ignore_lease: true, ..set("k") }, Some(Invalid::LeaseProvided));
    check(PutRequest { lease: -1, ignore_value: true, ..set("k") }, None);
    check(PutRequest { value: "v".into(), lease: 1, ..set("k") }, None);
}

#[test]
fn keys_are_any_bytes() {
    for key in [&b"\0"[..], b"\xff\xfe", b"a\0b"] {
        let request = PutRequest { key: key.into(), ..Default::default() };
        check(put(&request, &LIMITS), None);
    }
}

#[test]
fn a_request_is_too_large_past_the_limit_and_not_at_it() {
    let sized = |value: usize| PutRequest { value: vec![7; value].into(), ..set("k") };
    let overhead = sized(900).encoded_len() - 900 + ENTRY_OVERHEAD_BYTES + 2;
    let at_the_limit = sized(LIMITS.max_request_bytes - overhead);
    check(put(&at_the_limit, &LIMITS), None);
    check(
        put(&sized(LIMITS.max_request_bytes - overhead + 1), &LIMITS),
        Some(Invalid::RequestTooLarge),
    );
    let txn_of = |value| TxnRequest {
        success: operations([Request::RequestPut(sized(value))]),
        ..Default::default()
    };
    check(size(&txn_of(900), &LIMITS), None);
    check(size(&txn_of(1000), &LIMITS), Some(Invalid::RequestTooLarge));
    let delete = DeleteRangeRequest { key: vec![7; 1000].into(), ..Default::default() };
    check(delete_range(&delete, &LIMITS), Some(Invalid::RequestTooLarge));
}

#[test]
fn the_longest_list_of_a_transaction_counts() {
    let check = |compare, success, failure, expected| {
        let request = TxnRequest {
            compare: compares(compare),
            success: gets(success),
            failure: gets(failure),
        };
        check(txn(&request, &LIMITS), expected);
    };
    check(3, 3, 3, None);
    check(4, 0, 0, Some(Invalid::TooManyOperations));
    check(0, 4, 0, Some(Invalid::TooManyOperations));
    check(0, 0, 4, Some(Invalid::TooManyOperations));
}

#[test]
fn a_nested_transaction_gets_what_its_parent_left() {
    let check = |outer: usize, inner: usize, expected| {
        let nested = TxnRequest { failure: gets(inner), ..Default::default() };
        let mut success = gets(outer - 1);
        success.extend(operations([Request::RequestTxn(nested)]));
        check(txn(&TxnRequest { success, ..Default::default() }, &LIMITS), expected);
    };
    check(1, 2, None);
    check(2, 1, None);
    check(2, 2, Some(Invalid::TooManyOperations));
    check(3, 0, None);
    check(3, 1, Some(Invalid::TooManyOperations));
}

/// A transaction within a transaction, so many times.
fn nested(times: usize) -> TxnRequest {
    let innermost = TxnRequest { compare: compares(1), success: gets(1), ..Default::default() };
    (0..times).fold(innermost, |inner, _| TxnRequest {
        success: operations([Request::RequestTxn(inner)]),
        ..Default::default()
    })
}

/// What a decoder reads that has no command around it, members could not read in their log.
#[test]
fn what_is_let_in_comes_out_of_the_log() {
    let limits = Limits { max_txn_ops: 1000, max_request_bytes: 1 << 20, ..LIMITS };
    for times in 0..60 {
        let request = nested(times);
        if txn(&request, &limits).is_ok() {
            let operation = Some(Operation::Txn(request));
            let command = Command { operation, ..Default::default() };
            let decoded = Command::decode(command.encode_to_vec().as_slice());
            assert_eq!(decoded, Ok(command), "nested {times} times");
        }
    }
    check(txn(&nested(NESTED_MAX), &limits), None);
    check(txn(&nested(NESTED_MAX + 1), &limits), Some(Invalid::TooManyOperations));
}

#[test]
fn every_operation_of_both_branches_is_checked() {
    let wrong = [
        (Some(Request::RequestRange(get(""))), Invalid::EmptyKey),
        (Some(Request::RequestPut(set(""))), Invalid::EmptyKey),
        (Some(Request::RequestDeleteRange(DeleteRangeRequest::default())), Invalid::EmptyKey),
        (
            Some(Request::RequestRange(RangeRequest { sort_order: 3, ..get("k") })),
            Invalid::SortOption,
        ),
        (None, Invalid::EmptyOperation),
    ];
    for (request, expected) in wrong {
        let faulty = vec![RequestOp { request }];
        let in_success = TxnRequest { success: faulty.clone(), ..Default::default() };
        let in_failure = TxnRequest { failure: faulty, ..Default::default() };
        let nested = TxnRequest {
            success: operations([Request::RequestTxn(in_failure.clone())]),
            ..Default::default()
        };
        for request in [in_success, in_failure, nested] {
            check(txn(&request, &LIMITS), Some(expected));
        }
    }
    let compare = vec![Compare::default()];
    check(txn(&TxnRequest { compare, ..Default::default() }, &LIMITS), Some(Invalid::EmptyKey));
}

#[test]
fn of_two_faults_the_one_that_etcd_sees_first_is_reported() {
    let twice = || operations([Request::RequestPut(set("k")), Request::RequestPut(set("k"))]);
    let check = |request: TxnRequest, expected| check(txn(&request, &LIMITS), Some(expected));
    let empty_key = operations([Request::RequestPut(set(""))]);
    check(
        TxnRequest { compare: compares(4), success: empty_key.clone(), ..Default::default() },
        Invalid::TooManyOperations,
    );
    check(
        TxnRequest { success: twice(), failure: empty_key, ..Default::default() },
        Invalid::EmptyKey,
    );
    let large = PutRequest { value: vec![7; 2000].into(), ..set("z") };
    check(
        TxnRequest {
            success: twice(),
            failure: operations([Request::RequestPut(large)]),
            ..Default::default()
        },
        Invalid::DuplicateKey,
    );
}

#[test]
fn a_lease_may_have_any_id_and_any_time_up_to_the_longest() {
    let grant = |ttl, id| lease_grant(&LeaseGrantRequest { ttl, id });
    for ttl in [i64::MIN, -1, 0, 1, 9_000_000_000] {
        check(grant(ttl, -5), None);
    }
    check(grant(9_000_000_001, 0), Some(Invalid::LeaseTtlTooLarge));
    check(grant(i64::MAX, 0), Some(Invalid::LeaseTtlTooLarge));
    check(lease_revoke(&LeaseRevokeRequest { id: 0 }), Some(Invalid::NoLease));
    check(lease_revoke(&LeaseRevokeRequest { id: -5 }), None);
}

#[test]
fn member_urls_name_a_scheme_a_host_and_a_port() {
    for good in ["http://a:1", "https://10.0.0.1:2380", "http://[::1]:2380", "unix:///tmp/s"] {
        check(member_urls(&[good.to_owned()]), None);
    }
    let bad = [
        "",
        "a:1",
        "http://a",
        "http://a:",
        "http://:x",
        "http://a:1/",
        "http://a:1/p",
        "ftp://a:1",
        "http://a:99999",
        "http://u@a:1",
        "unix://",
    ];
    for bad in bad {
        check(member_urls(&[bad.to_owned()]), Some(Invalid::MemberUrls));
        let beside_a_good_one = ["http://a:1".to_owned(), bad.to_owned()];
        check(member_urls(&beside_a_good_one), Some(Invalid::MemberUrls));
    }
    check(member_urls(&[]), Some(Invalid::MemberUrls));
    let urls = member_urls(&["http://b:1 ".to_owned(), " http://a:1".to_owned()]).unwrap();
    assert_eq!(urls, ["http://a:1", "http://b:1"]);
}
