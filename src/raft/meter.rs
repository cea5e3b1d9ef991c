//! What applying a batch has done, counted from its facts.

use std::time::{Duration, Instant};

use prost::Message;

use crate::{
    proto::{
        command::command::Operation as Asked,
        etcdserverpb::{ResponseOp, response_op::Response},
        mvccpb::event::EventType,
    },
    state_machine::{Applied, Entry, Payload, Reply},
    telemetry::{METERS, Operation},
};

/// A batch that is being applied.
pub(super) struct Metered {
    begun: Instant,
    /// What each entry asks for.
    operations: Vec<Option<Operation>>,
}

impl Metered {
    pub(super) fn begin(entries: &[Entry]) -> Metered {
        let operations = entries.iter().map(|entry| match &entry.payload {
            Payload::Command(command) => command.operation.as_ref().and_then(operation),
            Payload::Blank | Payload::Membership(_) => None,
        });
        Metered { operations: operations.collect(), begun: Instant::now() }
    }

    /// Entries share the time of their batch: what is written with one write has no time of its
    /// own.
    pub(super) fn end(self, applied: &[Applied], slow: Duration) {
        let entries = u32::try_from(applied.len()).unwrap_or(u32::MAX).max(1);
        let took = self.begun.elapsed() / entries;
        for (operation, applied) in self.operations.into_iter().zip(applied) {
            count(operation, applied, took);
        }
        if took > slow {
            METERS.operations.slow(entries);
        }
    }
}

/// `None` for what etcd does not time either: changes of the membership.
pub(crate) fn operation(asked: &Asked) -> Option<Operation> {
    match asked {
        Asked::Put(_) => Some(Operation::Put),
        Asked::DeleteRange(_) => Some(Operation::DeleteRange),
        Asked::Txn(_) => Some(Operation::Txn),
        Asked::Compact(_) => Some(Operation::Compaction),
        Asked::LeaseGrant(_) => Some(Operation::LeaseGrant),
        Asked::LeaseRevoke(_) => Some(Operation::LeaseRevoke),
        Asked::LeaseCheckpoint(_) => Some(Operation::LeaseCheckpoint),
        Asked::MemberPublish(_) => Some(Operation::ClusterMemberAttrSet),
        Asked::AuthEnable(_) => Some(Operation::AuthEnable),
        Asked::AuthDisable(_) => Some(Operation::AuthDisable),
        Asked::Authenticate(_) => Some(Operation::Authenticate),
        Asked::UserAdd(_) => Some(Operation::AuthUserAdd),
        Asked::UserDelete(_) => Some(Operation::AuthUserDelete),
        Asked::UserChangePassword(_) => Some(Operation::AuthUserChangePassword),
        Asked::UserGrantRole(_) => Some(Operation::AuthUserGrantRole),
        Asked::UserRevokeRole(_) => Some(Operation::AuthUserRevokeRole),
        Asked::RoleAdd(_) => Some(Operation::AuthRoleAdd),
        Asked::RoleDelete(_) => Some(Operation::AuthRoleDelete),
        Asked::RoleGrantPermission(_) => Some(Operation::AuthRoleGrantPermission),
        Asked::RoleRevokePermission(_) => Some(Operation::AuthRoleRevokePermission),
        Asked::Alarm(_) => Some(Operation::Alarm),
        Asked::ClusterVersionSet(_) => Some(Operation::ClusterVersionSet),
        Asked::DowngradeSet(_) => Some(Operation::DowngradeInfoSet),
        Asked::Bootstrap(_)
        | Asked::MemberAdd(_)
        | Asked::MemberRemove(_)
        | Asked::MemberUpdate(_)
        | Asked::MemberPromote(_)
        | Asked::ForceNewCluster(_)
        | Asked::AccountSet(_) => None,
    }
}

fn count(operation: Option<Operation>, applied: &Applied, took: Duration) {
    if let Some(operation) = operation {
        METERS.operations.applied(operation, applied.reply.is_ok(), took);
    }
    let keys = &METERS.keys;
    let (mut puts, mut deletes, mut bytes) = (0, 0, 0);
    for event in &applied.events {
        match event.r#type() {
            EventType::Put => {
                puts += 1;
                bytes += event.kv.as_ref().map_or(0, Message::encoded_len);
            }
            EventType::Delete => deletes += 1,
        }
    }
    let ranges = match &applied.reply {
        Ok(Reply::Txn(txn)) => ranges(&txn.responses),
        Ok(_) | Err(_) => 0,
    };
    if puts > 0 {
        keys.puts.inc_by(puts);
        keys.put_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    if deletes > 0 {
        keys.deletes.inc_by(deletes);
    }
    if ranges > 0 {
        keys.ranges.inc_by(ranges);
    }
    if puts + deletes + ranges > 1 {
        keys.txns.inc();
    }
}

fn ranges(responses: &[ResponseOp]) -> u64 {
    let each = responses.iter().filter_map(|operation| operation.response.as_ref());
    each.map(|response| match response {
        Response::ResponseRange(_) => 1,
        Response::ResponseTxn(txn) => ranges(&txn.responses),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) => 0,
    })
    .sum()
}
