//! The replicated state: what a member must do, and be, after the same log.

mod alarms;
mod apply;
mod auth;
mod in_force;
mod keys;
mod leases;
mod members;
mod permission;
mod regions;
mod txn;
mod versions;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    alarm::Alarms,
    auth as rights, cluster, lease,
    mvcc::{self, Head},
    proto::{
        command::Command,
        etcdserverpb::{
            AlarmResponse, DeleteRangeResponse, LeaseGrantResponse, Member, PutResponse,
            TxnResponse,
        },
        mvccpb::Event,
    },
    region,
    storage::{self, Storage},
    types::{LeaseId, LogId, Revision},
};
use bytes::Bytes;

pub use crate::storage::Position;
pub use alarms::txn_takes_space;
pub use in_force::InForce;
pub use permission::{Denied, Judge};
pub use view::View;

/// An entry of the Raft log, decoded.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: LogId,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    Blank,
    /// An encoded Raft membership, kept for the Raft layer.
    Membership(Bytes),
    Command(Command),
}

/// What applying one entry did. Sending replies and events is the caller's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub reply: Result<Reply, Rejection>,
    /// Revision of the key space after the entry.
    pub revision: Revision,
    /// Changes to keys, all of `revision`; empty when the revision did not move.
    pub events: Vec<Event>,
    pub leases: Vec<lease::Change>,
    /// The membership list or the account of regions is a different one now.
    pub members_changed: bool,
    /// Other alarms are active now.
    pub alarms_changed: bool,
    /// What tokens depend on.
    pub auth: Vec<rights::Change>,
}

/// The answer to one command. Responses have header.revision set and nothing else in the header.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Blank entries, Raft memberships, and commands whose answer says nothing.
    Done,
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    /// Compaction runs on in the background; the floor is in force.
    Compact(Compacted),
    LeaseGrant(LeaseGrantResponse),
    Alarm(AlarmResponse),
    /// The list after the change, and the member it was about.
    Members {
        member: Member,
        members: Vec<Member>,
    },
    /// The second part of the token.
    TokenGiven {
        index: u64,
    },
}

/// The compaction floor before and after a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    pub from: Option<Revision>,
    pub to: Revision,
}

/// A deterministic refusal: every member answers the command so, and none changed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    KeyNotFound,
    Compacted(Revision),
    FutureRevision(Revision),
    LeaseNotFound(LeaseId),
    LeaseExists(LeaseId),
    LeaseTtlTooLarge(i64),
    Cluster(cluster::Rejection),
    /// A NOSPACE alarm is active.
    NoSpace,
    /// A CORRUPT alarm is active.
    Corrupt,
    Auth(rights::Rejection),
    Region(region::Rejection),
    /// The command itself makes no sense; checks at the edge let none through.
    Malformed(&'static str),
}

/// Applies the log. What it keeps in memory is what is on disk.
pub struct StateMachine {
    storage: Storage,
    position: Position,
    head: Head,
    alarms: Alarms,
    rules: Arc<rights::Rules>,
    in_force: InForce,
}

/// Why a command was not carried out.
enum Failure {
    Rejected(Rejection),
    /// This member's disk: the member must stop.
    Storage(storage::Error),
}

impl StateMachine {
    /// After a snapshot was installed the state machine is opened again.
    pub fn open(storage: Storage) -> Result<StateMachine, storage::Error> {
        StateMachine::open_telling(storage, InForce::default())
    }

    /// The same, and keeps `in_force` at the rules of authentication that have been applied.
    pub fn open_telling(
        storage: Storage,
        in_force: InForce,
    ) -> Result<StateMachine, storage::Error> {
        let snapshot = storage.snapshot();
        let (position, head) = (snapshot.position()?, Head::read(&snapshot)?);
        let alarms = Alarms::read(&snapshot)?;
        let rules = Arc::new(rights::Rules::read(&snapshot)?);
        drop(snapshot);
        in_force.settle(rules.clone());
        Ok(StateMachine { storage, position, head, alarms, rules, in_force })
    }

    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The newest revision of the key space.
    pub fn revision(&self) -> Revision {
        self.head.revision
    }

    /// Applies entries in order and writes all they change, with the new position, at once.
    ///
    /// Deterministic: the same entries leave every member with the same tables, however they are
    /// cut into batches. An error is this member's disk; the member must stop.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Applied>, storage::Error> {
        let Some(last) = entries.last().map(|entry| entry.id) else { return Ok(Vec::new()) };
        let snapshot = self.storage.snapshot();
        let mut batch = snapshot.batch();
        let (mut head, mut alarms, mut membership) = (self.head, self.alarms.clone(), None);
        let mut rules = self.rules.clone();
        let mut applied = Vec::with_capacity(entries.len());
        for entry in entries {
            let effects = match entry.payload {
                Payload::Blank => Ok(apply::Effects::done()),
                Payload::Membership(members) => {
                    membership = Some((entry.id, members));
                    Ok(apply::Effects::done())
                }
                Payload::Command(command) => {
                    let state =
                        apply::State { head: &mut head, alarms: &mut alarms, rules: &mut rules };
                    apply::apply(&mut batch, state, entry.id, command)?
                }
            };
            applied.push(Applied::new(effects, head.revision));
        }
        batch.put_applied(last);
        if let Some((id, members)) = &membership {
            batch.put_membership(*id, members);
        }
        let new_rules = (!Arc::ptr_eq(&rules, &self.rules)).then_some(rules);
        if new_rules.is_some() {
            self.in_force.withdraw();
        }
        batch.write()?;
        if let Some(rules) = new_rules {
            self.in_force.settle(rules.clone());
            self.rules = rules;
        }
        (self.head, self.alarms) = (head, alarms);
        self.position.applied = Some(last);
        self.position.membership = membership.or(self.position.membership.take());
        Ok(applied)
    }
}

impl Applied {
    fn new(effects: Result<apply::Effects, Rejection>, revision: Revision) -> Applied {
        match effects {
            Ok(effects) => Applied {
                reply: Ok(effects.reply),
                revision,
                events: effects.events,
                leases: effects.leases,
                members_changed: effects.members_changed,
                alarms_changed: effects.alarms_changed,
                auth: effects.auth,
            },
            Err(rejection) => Applied {
                reply: Err(rejection),
                revision,
                events: Vec::new(),
                leases: Vec::new(),
                members_changed: false,
                alarms_changed: false,
                auth: Vec::new(),
            },
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure::Rejected(rejection)
    }
}

impl From<cluster::Rejection> for Failure {
    fn from(rejection: cluster::Rejection) -> Failure {
        Failure::Rejected(Rejection::Cluster(rejection))
    }
}

impl From<region::Rejection> for Failure {
    fn from(rejection: region::Rejection) -> Failure {
        Failure::Rejected(Rejection::Region(rejection))
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Failure {
        Failure::Storage(error)
    }
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Failure {
        match error {
            mvcc::Error::Compacted(oldest) => Failure::Rejected(Rejection::Compacted(oldest)),
            mvcc::Error::FutureRevision(newest) => {
                Failure::Rejected(Rejection::FutureRevision(newest))
            }
            mvcc::Error::Storage(error) => Failure::Storage(error),
        }
    }
}
