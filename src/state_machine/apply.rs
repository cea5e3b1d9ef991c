//! One command: refuse first, then change. Each function here and beside it makes all its checks
//! before its first change, so a refused command leaves nothing in the batch.

use std::sync::Arc;

use super::{
    Compacted, Failure, Rejection, Reply, alarms,
    auth::Authority,
    keys, leases, members,
    permission::{self, Judge},
    regions, txn, versions,
};
use crate::{
    alarm::Alarms,
    auth::{self, Rules},
    lease,
    mvcc::{Edit, Head},
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::CompactionRequest,
        mvccpb::Event,
    },
    storage::{self, Batch},
    types::LogId,
};

/// What commands move along, besides changing rows.
pub(super) struct State<'a> {
    pub(super) head: &'a mut Head,
    pub(super) alarms: &'a mut Alarms,
    pub(super) rules: &'a mut Arc<Rules>,
}

/// What carrying out a command did, besides changing rows.
pub(super) struct Effects {
    pub(super) reply: Reply,
    pub(super) events: Vec<Event>,
    pub(super) leases: Vec<lease::Change>,
    pub(super) members_changed: bool,
    pub(super) alarms_changed: bool,
    pub(super) auth: Vec<auth::Change>,
}

impl Effects {
    pub(super) fn done() -> Effects {
        Effects {
            reply: Reply::Done,
            events: Vec::new(),
            leases: Vec::new(),
            members_changed: false,
            alarms_changed: false,
            auth: Vec::new(),
        }
    }
}

/// Carries out the command of the entry `id` on top of a state, which moves along.
pub(super) fn apply(
    batch: &mut Batch<'_>,
    state: State<'_>,
    id: LogId,
    command: Command,
) -> Result<Result<Effects, Rejection>, storage::Error> {
    match carry_out(batch, state, id, command) {
        Ok(effects) => Ok(Ok(effects)),
        Err(Failure::Rejected(rejection)) => Ok(Err(rejection)),
        Err(Failure::Storage(error)) => Err(error),
    }
}

fn carry_out(
    batch: &mut Batch<'_>,
    State { head, alarms, rules }: State<'_>,
    id: LogId,
    command: Command,
) -> Result<Effects, Failure> {
    if let Some(operation) = &command.operation {
        alarms::check(alarms, operation)?;
    }
    judge(batch, rules, &command)?;
    let Some(operation) = command.operation else {
        return Err(Rejection::Malformed("a command without an operation").into());
    };
    let authority = Authority { rules };
    match operation {
        Operation::Put(request) => {
            keys::check_put(batch, *head, &request)?;
            edit(batch, head, |edit| Ok((Reply::Put(keys::put(edit, request)?), Vec::new())))
        }
        Operation::DeleteRange(request) => edit(batch, head, |edit| {
            Ok((Reply::DeleteRange(keys::delete_range(edit, request)?), Vec::new()))
        }),
        Operation::Txn(request) => {
            let path = txn::check(batch, *head, &request)?;
            edit(batch, head, |edit| {
                Ok((Reply::Txn(txn::carry_out(edit, request, path)?), Vec::new()))
            })
        }
        Operation::Compact(request) => compact(batch, head, &request),
        Operation::LeaseGrant(request) => leases::grant(batch, *head, &request),
        Operation::LeaseRevoke(request) => {
            let lease = leases::check_revoke(batch, &request)?;
            edit(batch, head, |edit| {
                leases::revoke(edit, lease.id)?;
                Ok((Reply::Done, vec![lease::Change::Revoked(lease.id)]))
            })
        }
        Operation::LeaseCheckpoint(request) => Ok(leases::checkpoint(batch, &request)?),
        Operation::Bootstrap(request) => members::bootstrap(batch, request),
        Operation::MemberAdd(request) => members::add(batch, request),
        Operation::MemberRemove(request) => members::remove(batch, &request),
        Operation::MemberUpdate(request) => members::update(batch, request),
        Operation::MemberPromote(request) => members::promote(batch, &request),
        Operation::MemberPublish(request) => members::publish(batch, request),
        Operation::Alarm(request) => alarms::change(batch, *head, alarms, &request),
        Operation::ClusterVersionSet(request) => versions::set(batch, &request),
        Operation::DowngradeSet(request) => versions::set_downgrade(batch, &request),
        Operation::ForceNewCluster(request) => members::force_new_cluster(batch, request),
        Operation::AccountSet(request) => regions::set(batch, &request),
        Operation::AuthEnable(_) => authority.enable(batch),
        Operation::AuthDisable(_) => authority.disable(batch),
        Operation::Authenticate(request) => authority.give_token(batch, id.index, request),
        Operation::UserAdd(request) => authority.add_user(batch, request),
        Operation::UserDelete(request) => authority.delete_user(batch, request.name),
        Operation::UserChangePassword(request) => authority.change_password(batch, request),
        Operation::UserGrantRole(request) => authority.grant_role(batch, request),
        Operation::UserRevokeRole(request) => authority.revoke_role(batch, &request),
        Operation::RoleAdd(request) => authority.add_role(batch, request.name),
        Operation::RoleDelete(request) => authority.delete_role(batch, &request.role),
        Operation::RoleGrantPermission(request) => authority.grant_permission(batch, request),
        Operation::RoleRevokePermission(request) => authority.revoke_permission(batch, &request),
    }
}

/// Judges the caller by the state that the command is applied to, whoever let it in.
fn judge(batch: &Batch<'_>, rules: &Rules, command: &Command) -> Result<(), Failure> {
    if !rules.state().enabled {
        return Ok(());
    }
    let (Some(asker), Some(operation)) = (permission::asker(command), &command.operation) else {
        return Ok(());
    };
    Ok(Judge::new(rules, asker, batch).command(operation)?)
}

/// Makes the changes of one revision. They cannot be refused any more.
fn edit(
    batch: &mut Batch<'_>,
    head: &mut Head,
    change: impl FnOnce(&mut Edit<'_, '_>) -> Result<(Reply, Vec<lease::Change>), Failure>,
) -> Result<Effects, Failure> {
    let mut edit = Edit::new(batch, *head);
    let (reply, leases) = change(&mut edit)?;
    let (before, events);
    (before, (*head, events)) = (head.revision, edit.finish());
    reuse_revision(head, before);
    Ok(Effects { reply, events, leases, ..Effects::done() })
}

/// Does nothing in a build that people run.
fn reuse_revision(_head: &mut Head, _before: crate::types::Revision) {
    fail::fail_point!("revision-reused", _head.revision.get() % 100 == 0, |_| {
        _head.revision = _before;
    });
}

fn compact(
    batch: &mut Batch<'_>,
    head: &mut Head,
    request: &CompactionRequest,
) -> Result<Effects, Failure> {
    let to = head.check_compact(request.revision)?;
    let compacted = Compacted { from: head.floor, to };
    head.floor = Some(to);
    head.put(batch);
    Ok(Effects { reply: Reply::Compact(compacted), ..Effects::done() })
}
