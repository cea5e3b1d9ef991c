//! Entries of etcd's log as commands.

use prost::Message;

use super::Error;
use crate::{
    proto::{
        command::{Command, command::Operation},
        etcddisk::{Entry, InternalRaftRequest, RequestHeader},
        etcdserverpb::{AlarmRequest, LeaseGrantRequest, alarm_request::AlarmAction},
    },
    state_machine::{self, Payload, Rejection, StateMachine},
    types::LogId,
};

/// The least time to live at etcd's default election timeout. etcd raises shorter ones where it
/// applies them, by its own settings, which the log does not tell.
const TTL_MIN_SECS: i64 = 2;

/// Entries that are applied at once.
const ENTRIES_AT_ONCE: usize = 100;

const NORMAL: i32 = 0;

/// Applies entries of etcd's log. What etcd refused is refused here as well, and changes nothing.
pub(super) fn replay(machine: &mut StateMachine, entries: &[Entry]) -> Result<(), Error> {
    for entries in entries.chunks(ENTRIES_AT_ONCE) {
        let decoded = entries.iter().map(decode).collect::<Result<_, Error>>()?;
        for (entry, applied) in entries.iter().zip(machine.apply(decoded)?) {
            // etcd takes what it has let into its log. Its checks overlook some transactions that
            // change a key twice, and a state that lacks them would be another one.
            if let Err(Rejection::Malformed(what)) = applied.reply {
                return Err(Error::Entry { index: entry.index, what: what.to_owned() });
            }
        }
    }
    Ok(())
}

fn decode(entry: &Entry) -> Result<state_machine::Entry, Error> {
    let id = LogId { term: entry.term, node: 0, index: entry.index };
    Ok(state_machine::Entry {
        id,
        payload: command(entry)?.map_or(Payload::Blank, Payload::Command),
    })
}

/// `None` for what leaves no trace in the state. That goes for changes of membership, too: a
/// restored cluster is a new one.
fn command(entry: &Entry) -> Result<Option<Command>, Error> {
    if entry.r#type != NORMAL || entry.data.is_empty() {
        return Ok(None);
    }
    let request = match InternalRaftRequest::decode(entry.data.clone()) {
        Ok(request) => request,
        // Of etcd's version 2, in which 3.5 and older keep notes on their members.
        Err(_) if is_version_2(&entry.data) => return Ok(None),
        Err(error) => {
            return Err(Error::Entry { index: entry.index, what: error.to_string() });
        }
    };
    let RequestHeader { username, auth_revision, .. } = request.header.clone().unwrap_or_default();
    let operation = operation(request)
        .map_err(|what| Error::Entry { index: entry.index, what: what.to_owned() })?;
    let command = |operation| Command {
        user: username,
        auth_revision,
        operation: Some(operation),
        ..Command::default()
    };
    Ok(operation.map(command))
}

/// A request of version 2 has its number first, then its method and a path that begins with `/`.
fn is_version_2(mut data: &[u8]) -> bool {
    const METHOD: u8 = 2 << 3 | 2;
    const PATH: u8 = 3 << 3 | 2;
    let mut skip = || {
        let tag = prost::encoding::decode_varint(&mut data).ok()?;
        let number = prost::encoding::decode_varint(&mut data).ok()?;
        let text = match tag & 7 {
            2 => data.split_off(..usize::try_from(number).ok()?)?,
            _ => &[],
        };
        Some((tag, text))
    };
    let fields = [skip(), skip(), skip()];
    let is = |field: u8, test: fn(&[u8]) -> bool| {
        fields.iter().flatten().any(|(tag, text)| *tag == u64::from(field) && test(text))
    };
    is(METHOD, |method| method.is_ascii()) && is(PATH, |path| path.starts_with(b"/"))
}

/// In the order in which etcd looks for what a request asks.
fn operation(request: InternalRaftRequest) -> Result<Option<Operation>, &'static str> {
    let InternalRaftRequest {
        put,
        delete_range,
        txn,
        compaction,
        lease_grant,
        lease_revoke,
        lease_checkpoint,
        alarm,
        ..
    } = &request;
    if put.is_some() {
        return Ok(request.put.map(Operation::Put));
    }
    if delete_range.is_some() {
        return Ok(request.delete_range.map(Operation::DeleteRange));
    }
    if txn.is_some() {
        return Ok(request.txn.map(Operation::Txn));
    }
    if compaction.is_some() {
        return Ok(request.compaction.map(Operation::Compact));
    }
    if lease_grant.is_some() {
        return Ok(request.lease_grant.map(raised).map(Operation::LeaseGrant));
    }
    if lease_revoke.is_some() {
        // No lease has the id 0, so etcd finds none.
        let revoke = request.lease_revoke.filter(|revoke| revoke.id != 0);
        return Ok(revoke.map(Operation::LeaseRevoke));
    }
    if lease_checkpoint.is_some() {
        return Ok(request.lease_checkpoint.map(Operation::LeaseCheckpoint));
    }
    match alarm {
        Some(alarm) => Ok(of_alarm(alarm)),
        None => of_auth(&request),
    }
}

fn raised(request: LeaseGrantRequest) -> LeaseGrantRequest {
    LeaseGrantRequest { ttl: request.ttl.max(TTL_MIN_SECS), ..request }
}

/// To ask for alarms changes none.
fn of_alarm(request: &AlarmRequest) -> Option<Operation> {
    match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) => Some(Operation::Alarm(*request)),
        Ok(AlarmAction::Get) | Err(_) => None,
    }
}

/// Changes of users behind the file are not carried out yet, so a log that has some is refused.
fn of_auth(request: &InternalRaftRequest) -> Result<Option<Operation>, &'static str> {
    let changes = [
        &request.auth_enable,
        &request.auth_disable,
        &request.auth_user_add,
        &request.auth_user_delete,
        &request.auth_user_change_password,
        &request.auth_user_grant_role,
        &request.auth_user_revoke_role,
        &request.auth_role_add,
        &request.auth_role_delete,
        &request.auth_role_grant_permission,
        &request.auth_role_revoke_permission,
    ];
    match changes.into_iter().any(Option::is_some) {
        true => Err("users, roles or auth itself were changed"),
        // Reads, and what is about the version and the members of the cluster.
        false => Ok(None),
    }
}
