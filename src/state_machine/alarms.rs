//! What alarms forbid, and the commands that activate and deactivate them.
//!
//! Applying obeys the replicated table alone. Whether a member is short of space is judged where
//! requests come in, since members differ in it.

use super::{Failure, Rejection, Reply, apply::Effects, keys};
use crate::{
    alarm::{Alarm, Alarms, Kind},
    mvcc::Head,
    proto::{
        command::command::Operation,
        etcdserverpb::{
            AlarmRequest, AlarmResponse, Compare, PutRequest, RequestOp, TxnRequest,
            alarm_request::AlarmAction,
            compare::{CompareResult, CompareTarget},
            request_op::Request,
        },
    },
    storage::Batch,
    types::MemberId,
};

/// Refuses what an active alarm forbids: before all other checks, as in etcd.
pub(super) fn check(alarms: &Alarms, operation: &Operation) -> Result<(), Rejection> {
    let (is_corrupt, is_full) = (alarms.has(Kind::CORRUPT), alarms.has(Kind::NO_SPACE));
    // Nearly always, so that nobody looks through transactions in vain.
    if !is_corrupt && !is_full {
        return Ok(());
    }
    match effect(operation) {
        Effect::OutsideTheStore => Ok(()),
        Effect::TakesSpace | Effect::TakesNoSpace if is_corrupt => Err(Rejection::Corrupt),
        Effect::TakesSpace if is_full => Err(Rejection::NoSpace),
        Effect::TakesSpace | Effect::TakesNoSpace => Ok(()),
    }
}

/// What an operation may do to keys and leases.
enum Effect {
    TakesSpace,
    TakesNoSpace,
    OutsideTheStore,
}

fn effect(operation: &Operation) -> Effect {
    match operation {
        Operation::Put(_) | Operation::LeaseGrant(_) => Effect::TakesSpace,
        Operation::Txn(txn) if txn_takes_space(txn) => Effect::TakesSpace,
        Operation::Txn(_)
        | Operation::DeleteRange(_)
        | Operation::Compact(_)
        | Operation::LeaseRevoke(_) => Effect::TakesNoSpace,
        Operation::LeaseCheckpoint(_)
        | Operation::Bootstrap(_)
        | Operation::MemberAdd(_)
        | Operation::MemberRemove(_)
        | Operation::MemberUpdate(_)
        | Operation::MemberPromote(_)
        | Operation::MemberPublish(_)
        | Operation::Alarm(_)
        | Operation::ClusterVersionSet(_)
        | Operation::DowngradeSet(_)
        | Operation::ForceNewCluster(_)
        | Operation::AccountSet(_)
        | Operation::AuthEnable(_)
        | Operation::AuthDisable(_)
        | Operation::Authenticate(_)
        | Operation::UserAdd(_)
        | Operation::UserDelete(_)
        | Operation::UserChangePassword(_)
        | Operation::UserGrantRole(_)
        | Operation::UserRevokeRole(_)
        | Operation::RoleAdd(_)
        | Operation::RoleDelete(_)
        | Operation::RoleGrantPermission(_)
        | Operation::RoleRevokePermission(_) => Effect::OutsideTheStore,
    }
}

/// Whether a transaction is refused for want of space: it puts something, on either branch, and is
/// not the one by which Kubernetes agrees on what to compact.
pub fn txn_takes_space(txn: &TxnRequest) -> bool {
    puts(txn) && !is_kubernetes_compaction(txn)
}

fn puts(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(txn)) => puts(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
    })
}

/// The key by whose version the API servers agree on which of them compacts.
const COMPACTION_KEY: &[u8] = b"compact_rev_key";

/// Digits of the largest revision.
const REVISION_DIGITS_MAX: usize = 19;

/// `if version(compact_rev_key) == n then put compact_rev_key <revision> else get compact_rev_key`:
/// without it no API server compacts, and a store that is full would stay so.
fn is_kubernetes_compaction(txn: &TxnRequest) -> bool {
    let (Some(if_version), Some(then_put)) = (only(&txn.compare), only(&txn.success)) else {
        return false;
    };
    let Some(or_get) = only(&txn.failure) else { return false };
    compares_the_version(if_version) && puts_a_revision(then_put) && gets_the_key(or_get)
}

fn compares_the_version(compare: &Compare) -> bool {
    compare.key == COMPACTION_KEY
        && compare.range_end.is_empty()
        && compare.target == CompareTarget::Version as i32
        && compare.result == CompareResult::Equal as i32
}

fn puts_a_revision(operation: &RequestOp) -> bool {
    let Some(Request::RequestPut(put)) = &operation.request else { return false };
    let PutRequest { key, value, lease, .. } = put;
    let is_revision =
        value.len() <= REVISION_DIGITS_MAX && value.iter().all(|byte| byte.is_ascii_digit());
    key == COMPACTION_KEY && is_revision && *lease == 0
}

fn gets_the_key(operation: &RequestOp) -> bool {
    let Some(Request::RequestRange(range)) = &operation.request else { return false };
    range.key == COMPACTION_KEY && range.range_end.is_empty()
}

fn only<T>(items: &[T]) -> Option<&T> {
    match items {
        [only] => Some(only),
        _ => None,
    }
}

/// Answers with the alarm that was activated, or deactivated; with nothing when there was none.
pub(super) fn change(
    batch: &mut Batch<'_>,
    head: Head,
    alarms: &mut Alarms,
    request: &AlarmRequest,
) -> Result<Effects, Failure> {
    let kind = Kind::from_wire(request.alarm);
    let alarm = kind.map(|kind| Alarm { kind, member: MemberId(request.member_id) });
    let before = alarms.clone();
    let listed = match (AlarmAction::try_from(request.action), alarm) {
        (Ok(AlarmAction::Get), _) => alarms.list(kind),
        (Ok(AlarmAction::Activate), Some(alarm)) => {
            alarms.activate(batch, alarm);
            vec![alarm.to_wire()]
        }
        (Ok(AlarmAction::Deactivate), Some(alarm)) => {
            let was_active = alarms.deactivate(batch, alarm);
            if was_active { vec![alarm.to_wire()] } else { Vec::new() }
        }
        (Ok(AlarmAction::Activate | AlarmAction::Deactivate), None) | (Err(_), _) => Vec::new(),
    };
    let reply = Reply::Alarm(AlarmResponse { header: keys::header(head), alarms: listed });
    Ok(Effects { reply, alarms_changed: *alarms != before, ..Effects::done() })
}

#[cfg(test)]
mod tests;
