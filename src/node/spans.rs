//! The spans of a request within a member. Names and attributes are etcd's where etcd has the span.

use bytes::Bytes;
use opentelemetry::Value;
use tracing::Span;

use crate::{
    proto::{
        command::command::Operation,
        etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest, request_op},
        peer::{Trace, request::Request},
    },
    telemetry::traces::{self, Kind},
    types::TraceContext,
};

/// For a range that is read here; none when nothing is recorded.
pub(crate) fn of_range(name: &'static str, range: &RangeRequest) -> Span {
    let span = traces::part(name);
    if !span.is_none() {
        traces::set(&span, "range_begin", text(&range.key));
        traces::set(&span, "range_end", text(&range.range_end));
        traces::set(&span, "rev", range.revision);
        traces::set(&span, "limit", range.limit);
        traces::set(&span, "count_only", range.count_only);
        traces::set(&span, "keys_only", range.keys_only);
    }
    span
}

/// For a transaction that only reads.
pub(crate) fn of_reading_txn(txn: &TxnRequest) -> Span {
    let span = traces::part("txn");
    if !span.is_none() {
        describe_txn(&span, txn);
        traces::set(&span, "read_only", true);
    }
    span
}

/// For a proposal, from the member that received the request to its reply.
pub(super) fn of_proposal(operation: &Operation) -> Span {
    let span = traces::part(name(operation));
    if !span.is_none() {
        describe(&span, operation);
    }
    span
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put(_) => "put",
        Operation::DeleteRange(_) => "delete_range",
        Operation::Txn(_) => "txn",
        Operation::Compact(_) => "compact",
        Operation::LeaseGrant(_) => "lease_grant",
        Operation::LeaseRevoke(_) => "lease_revoke",
        Operation::LeaseCheckpoint(_) => "lease_checkpoint",
        Operation::Bootstrap(_) => "bootstrap",
        Operation::MemberAdd(_) => "member_add",
        Operation::MemberRemove(_) => "member_remove",
        Operation::MemberUpdate(_) => "member_update",
        Operation::MemberPromote(_) => "member_promote",
        Operation::MemberPublish(_) => "member_publish",
        Operation::AuthEnable(_) => "auth_enable",
        Operation::AuthDisable(_) => "auth_disable",
        Operation::Authenticate(_) => "authenticate",
        Operation::UserAdd(_) => "user_add",
        Operation::UserDelete(_) => "user_delete",
        Operation::UserChangePassword(_) => "user_change_password",
        Operation::UserGrantRole(_) => "user_grant_role",
        Operation::UserRevokeRole(_) => "user_revoke_role",
        Operation::RoleAdd(_) => "role_add",
        Operation::RoleDelete(_) => "role_delete",
        Operation::RoleGrantPermission(_) => "role_grant_permission",
        Operation::RoleRevokePermission(_) => "role_revoke_permission",
        Operation::Alarm(_) => "alarm",
        Operation::ClusterVersionSet(_) => "cluster_version_set",
        Operation::DowngradeSet(_) => "downgrade_set",
        Operation::ForceNewCluster(_) => "force_new_cluster",
        Operation::AccountSet(_) => "account_set",
    }
}

/// Other operations than those that etcd describes have a name and nothing else: what is in them is
/// nobody's business.
fn describe(span: &Span, operation: &Operation) {
    if let Operation::Put(put) = operation {
        traces::set(span, "key", text(&put.key));
    } else if let Operation::DeleteRange(delete) = operation {
        traces::set(span, "range_begin", text(&delete.key));
        traces::set(span, "range_end", text(&delete.range_end));
    } else if let Operation::Txn(txn) = operation {
        describe_txn(span, txn);
        traces::set(span, "read_only", false);
    } else if let Operation::Compact(compact) = operation {
        traces::set(span, "is_physical", compact.physical);
        traces::set(span, "rev", compact.revision);
    } else if let Operation::LeaseGrant(grant) = operation {
        traces::set(span, "id", grant.id);
        traces::set(span, "ttl", grant.ttl);
    } else if let Operation::LeaseRevoke(revoke) = operation {
        traces::set(span, "id", revoke.id);
    }
}

fn describe_txn(span: &Span, txn: &TxnRequest) {
    let compared = txn.compare.first().map(|compare: &Compare| text(&compare.key));
    let (key, kind, lease) = txn.success.first().map_or_else(nothing, of_operation);
    traces::set(span, "compare_first_key", compared.unwrap_or_else(|| "".into()));
    traces::set(span, "success_first_key", key);
    traces::set(span, "success_first_type", kind);
    traces::set(span, "success_first_lease", lease);
    for (name, count) in [
        ("compare_len", txn.compare.len()),
        ("success_len", txn.success.len()),
        ("failure_len", txn.failure.len()),
    ] {
        traces::set(span, name, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Key, kind and lease.
fn of_operation(operation: &RequestOp) -> (Value, &'static str, i64) {
    use request_op::Request::{RequestDeleteRange, RequestPut, RequestRange, RequestTxn};
    match &operation.request {
        Some(RequestRange(range)) => (text(&range.key), "range", 0),
        Some(RequestPut(put)) => (text(&put.key), "put", put.lease),
        Some(RequestDeleteRange(delete)) => (text(&delete.key), "delete_range", 0),
        Some(RequestTxn(_)) => ("".into(), "txn", 0),
        None => nothing(),
    }
}

fn nothing() -> (Value, &'static str, i64) {
    ("".into(), "", 0)
}

/// An attribute is text, which a key need not be.
fn text(key: &Bytes) -> Value {
    String::from_utf8_lossy(key).into_owned().into()
}

/// Proposals of a batch whose traces are recorded, by their position.
#[derive(Default)]
pub(super) struct Traced(Vec<(u32, TraceContext)>);

impl Traced {
    /// Allocates nothing when none is.
    pub(super) fn new(batch: impl Iterator<Item = Option<TraceContext>>) -> Traced {
        let traced = (0..).zip(batch).filter_map(|(at, context)| Some((at, context?)));
        Traced(traced.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Spans of the way to the leader in place of those that they follow from.
    pub(super) fn forward(&mut self) -> Vec<Span> {
        let follow = |(_, context): &mut (u32, TraceContext)| {
            let span = traces::follow(*context, "forward", Kind::Client);
            *context = traces::context(&span).unwrap_or(*context);
            span
        };
        self.0.iter_mut().map(follow).collect()
    }

    pub(super) fn into_wire(self) -> Vec<Trace> {
        let wire = |(position, context): (u32, TraceContext)| Trace {
            position,
            context: Bytes::copy_from_slice(&context.encode()),
        };
        self.0.into_iter().map(wire).collect()
    }
}

/// Spans of answering another member, which take the places of those that they follow from.
pub(super) fn of_answer(request: &mut Request) -> Vec<Span> {
    if !traces::is_on() {
        return Vec::new();
    }
    match request {
        Request::Propose(propose) => {
            let contexts = propose.traces.iter_mut().map(|trace| &mut trace.context);
            contexts.filter_map(|context| answering("propose", context)).collect()
        }
        Request::ReadIndex(ask) => {
            ask.traces.iter_mut().filter_map(|context| answering("read_index", context)).collect()
        }
        Request::LeaseRenew(_)
        | Request::LeaseTimeToLive(_)
        | Request::MemberPromote(_)
        | Request::LeaseOrder(_)
        | Request::Versions(_)
        | Request::HashKv(_)
        | Request::RegionLead(_)
        | Request::MembersSeen(_)
        | Request::Campaign(_) => Vec::new(),
    }
}

fn answering(name: &'static str, context: &mut Bytes) -> Option<Span> {
    let span = traces::follow(TraceContext::decode(context)?, name, Kind::Internal);
    *context = Bytes::copy_from_slice(&traces::context(&span)?.encode());
    Some(span)
}
