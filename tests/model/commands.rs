//! Commands for property tests: few keys, few leases and small numbers, so that they meet each other.

use bytes::Bytes;
use orrery::proto::{
    command::command::Operation,
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest,
        LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::{CompareTarget, TargetUnion},
        request_op::Request,
    },
};
use proptest::prelude::*;

/// Keys that begin one another, and with bytes that the index has to escape.
const KEYS: [&[u8]; 7] = [b"a", b"a\0", b"a\0\x01", b"a\xFF", b"aa", b"b", b"\0"];

pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(&KEYS[..]).prop_map(Bytes::from_static)
}

/// A key, with the end of a range or without.
fn range() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![
        4 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        2 => key(),
        1 => Just(Bytes::from_static(b"z")),
    ];
    (key(), end)
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => put().prop_map(Operation::Put),
        4 => delete_range().prop_map(Operation::DeleteRange),
        6 => txn().prop_map(Operation::Txn),
        2 => (-1..40i64).prop_map(|revision| {
            Operation::Compact(CompactionRequest { revision, physical: false })
        }),
        2 => (1..4i64, 1..100i64)
            .prop_map(|(id, ttl)| Operation::LeaseGrant(LeaseGrantRequest { id, ttl })),
        1 => (1..4i64).prop_map(|id| Operation::LeaseRevoke(LeaseRevokeRequest { id })),
        1 => (1..4i64, 0..100i64).prop_map(|(id, remaining_ttl)| {
            let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
            Operation::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
        }),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let value = (0..4u8).prop_map(|value| Bytes::from(vec![b'0' + value]));
    let lease = prop_oneof![2 => Just(0), 1 => 1..4i64];
    let ignore = || prop::bool::weighted(0.1);
    (key(), value, lease, any::<bool>(), ignore(), ignore()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (range(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

pub(crate) fn range_request() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![2 => Just(0), 1 => 1..20i64];
    let revision = prop_oneof![2 => Just(0), 2 => 1..30i64, 1 => -3..0i64];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (range(), revision, -1..5i64, 0..3, 0..5, bound(), bound(), flags).prop_map(
        |((key, range_end), revision, limit, sort_order, sort_target, min, max, flags)| {
            RangeRequest {
                key,
                range_end,
                revision,
                limit,
                sort_order,
                sort_target,
                min_mod_revision: min,
                max_mod_revision: max,
                keys_only: flags.0,
                count_only: flags.1,
                ..RangeRequest::default()
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    (range(), 0..4, 0..5, 0..8i64).prop_map(|((key, range_end), result, target, number)| {
        let union = match CompareTarget::try_from(target).unwrap() {
            CompareTarget::Version => TargetUnion::Version(number),
            CompareTarget::Create => TargetUnion::CreateRevision(number),
            CompareTarget::Mod => TargetUnion::ModRevision(number),
            CompareTarget::Lease => TargetUnion::Lease(number % 4),
            CompareTarget::Value => TargetUnion::Value(Bytes::from(vec![b'0' + number as u8])),
        };
        Compare { result, target, key, range_end, target_union: Some(union) }
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        3 => range_request().prop_map(Request::RequestRange),
        3 => put().prop_map(Request::RequestPut),
        1 => delete_range().prop_map(Request::RequestDeleteRange),
    ];
    let request =
        leaf.prop_recursive(2, 12, 4, |request| of(request).prop_map(Request::RequestTxn).boxed());
    of(request.boxed())
}

fn of(request: BoxedStrategy<Request>) -> impl Strategy<Value = TxnRequest> {
    let branch = prop::collection::vec(
        request.prop_map(|request| RequestOp { request: Some(request) }),
        0..4,
    );
    (prop::collection::vec(compare(), 0..3), branch.clone(), branch)
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}
