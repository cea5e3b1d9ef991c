//! From the numbers of a case to those of the server.

use orrery::proto::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest, compare::TargetUnion,
    request_op::Request as Operation,
};

use super::{
    answer::Frame,
    request::{CHOSEN, Request},
};

pub(crate) fn in_numbers_of_the_server(mut request: Request, frame: Frame) -> Request {
    let at = |revision: &mut i64| shift(revision, frame);
    let id = |id: &mut i64| choose(id, frame);
    match &mut request {
        Request::Put(put) => id(&mut put.lease),
        Request::Range(request) | Request::RangeStream(request) => range(request, frame),
        Request::Txn(request) => txn(request, frame),
        Request::Compact(compact) => at(&mut compact.revision),
        Request::HashKv(revision) => at(revision),
        Request::Grant(grant) => id(&mut grant.id),
        Request::Revoke(lease) | Request::KeepAlive(lease) => id(lease),
        Request::TimeToLive(ask) => id(&mut ask.id),
        Request::Watch { create, .. } => at(&mut create.start_revision),
        Request::Lock { request, .. } => id(&mut request.lease),
        Request::Campaign { request, .. } => id(&mut request.lease),
        Request::Forge { leader, .. } => {
            at(&mut leader.rev);
            id(&mut leader.lease);
        }
        Request::Delete(_)
        | Request::Leases
        | Request::Alarm(_)
        | Request::Cancel { .. }
        | Request::Progress { .. }
        | Request::Events { .. }
        | Request::Next { .. }
        | Request::Silence { .. }
        | Request::Unlock(_)
        | Request::Proclaim { .. }
        | Request::Leader(_)
        | Request::Resign { .. }
        | Request::Observe(_)
        | Request::Finish(_)
        | Request::Pending(_)
        | Request::Sleep(_)
        | Request::Auth(_) => (),
    }
    request
}

/// 0 and negative numbers name no revision.
fn shift(revision: &mut i64, frame: Frame) {
    if *revision > 0 {
        *revision = revision.saturating_add(frame.base);
    }
}

fn choose(id: &mut i64, frame: Frame) {
    if *id == CHOSEN {
        *id = frame.chosen.expect("a script names the chosen lease after it was chosen");
    }
}

fn range(range: &mut RangeRequest, frame: Frame) {
    for revision in [
        &mut range.revision,
        &mut range.min_mod_revision,
        &mut range.max_mod_revision,
        &mut range.min_create_revision,
        &mut range.max_create_revision,
    ] {
        shift(revision, frame);
    }
}

fn txn(txn: &mut TxnRequest, frame: Frame) {
    txn.compare.iter_mut().for_each(|it| compare(it, frame));
    txn.success.iter_mut().chain(&mut txn.failure).for_each(|it| operation(it, frame));
}

fn compare(compare: &mut Compare, frame: Frame) {
    match &mut compare.target_union {
        Some(TargetUnion::CreateRevision(at) | TargetUnion::ModRevision(at)) => shift(at, frame),
        Some(TargetUnion::Lease(id)) => choose(id, frame),
        Some(TargetUnion::Version(_) | TargetUnion::Value(_)) | None => (),
    }
}

fn operation(operation: &mut RequestOp, frame: Frame) {
    match &mut operation.request {
        Some(Operation::RequestRange(request)) => range(request, frame),
        Some(Operation::RequestPut(put)) => choose(&mut put.lease, frame),
        Some(Operation::RequestTxn(request)) => txn(request, frame),
        Some(Operation::RequestDeleteRange(_)) | None => (),
    }
}
