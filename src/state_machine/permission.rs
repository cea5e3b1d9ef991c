//! What a caller may do, judged by the rules and the leases of one moment: of the state that a
//! command is applied to, or of the view that a read is answered from.

use bytes::Bytes;

use super::{Failure, Rejection};
use crate::{
    auth::{Access, Asker, Rules},
    lease,
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::{
            DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
            request_op::Request,
        },
    },
    storage::{self, Rows},
    types::{KeyRange, LeaseId},
};

/// Judges what one caller asks for.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    rules: &'a Rules,
    asker: Asker<'a>,
    rows: &'a dyn Rows,
}

/// Why something is not permitted, or can't be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    Rejected(Rejection),
    Storage(storage::Error),
}

impl<'a> Judge<'a> {
    pub fn new(rules: &'a Rules, asker: Asker<'a>, rows: &'a dyn Rows) -> Judge<'a> {
        Judge { rules, asker, rows }
    }

    /// What comes before all else that could refuse a command.
    pub(super) fn command(&self, operation: &Operation) -> Result<(), Denied> {
        match operation {
            Operation::Put(request) => self.put(request),
            Operation::DeleteRange(request) => self.delete_range(request),
            Operation::Txn(request) => self.txn(request),
            Operation::LeaseGrant(_) => self.user(),
            Operation::LeaseRevoke(request) => {
                self.user()?;
                self.lease_keys(request.id, Access::Write)
            }
            Operation::Compact(_)
            | Operation::AuthEnable(_)
            | Operation::AuthDisable(_)
            | Operation::UserAdd(_)
            | Operation::UserDelete(_)
            | Operation::UserChangePassword(_)
            | Operation::UserGrantRole(_)
            | Operation::UserRevokeRole(_)
            | Operation::RoleAdd(_)
            | Operation::RoleDelete(_)
            | Operation::RoleGrantPermission(_)
            | Operation::RoleRevokePermission(_) => self.root(),
            // Proposed by members, and what is no part of the store, after the edge has judged it.
            Operation::Authenticate(_)
            | Operation::Alarm(_)
            | Operation::ClusterVersionSet(_)
            | Operation::DowngradeSet(_)
            | Operation::ForceNewCluster(_)
            | Operation::AccountSet(_)
            | Operation::LeaseCheckpoint(_)
            | Operation::Bootstrap(_)
            | Operation::MemberAdd(_)
            | Operation::MemberRemove(_)
            | Operation::MemberUpdate(_)
            | Operation::MemberPromote(_)
            | Operation::MemberPublish(_) => Ok(()),
        }
    }

    pub fn user(&self) -> Result<(), Denied> {
        Ok(self.rules.check_user(self.asker)?)
    }

    pub fn root(&self) -> Result<(), Denied> {
        Ok(self.rules.check_root(self.asker)?)
    }

    /// Root, or the user itself.
    pub fn of_user(&self, name: &str) -> Result<(), Denied> {
        if self.asker.user == name { Ok(()) } else { self.root() }
    }

    /// Root, or a user that has the role.
    pub fn of_role(&self, name: &str) -> Result<(), Denied> {
        let denied = match self.root() {
            Ok(()) => return Ok(()),
            Err(denied) => denied,
        };
        let user = crate::auth::table::user(self.rows, self.asker.user)?;
        if user.is_some_and(|user| user.roles.iter().any(|role| role == name)) {
            return Ok(());
        }
        Err(denied)
    }

    pub fn range(&self, request: &RangeRequest) -> Result<(), Denied> {
        self.keys(Access::Read, &request.key, &request.range_end)
    }

    pub fn keys(&self, access: Access, key: &Bytes, range_end: &Bytes) -> Result<(), Denied> {
        let range = KeyRange::from_wire(key.clone(), range_end.clone());
        Ok(self.rules.check(self.asker, access, &range)?)
    }

    fn put(&self, request: &PutRequest) -> Result<(), Denied> {
        self.keys(Access::Write, &request.key, &Bytes::new())?;
        // Whoever attaches a key to a lease must be able to revoke it.
        self.lease_keys(request.lease, Access::Write)?;
        if request.prev_kv {
            self.keys(Access::Read, &request.key, &Bytes::new())?;
        }
        Ok(())
    }

    fn delete_range(&self, request: &DeleteRangeRequest) -> Result<(), Denied> {
        self.keys(Access::Write, &request.key, &request.range_end)?;
        if request.prev_kv {
            self.keys(Access::Read, &request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// Everything that either branch could do, however deeply nested: which one runs would tell
    /// something, too.
    pub fn txn(&self, request: &TxnRequest) -> Result<(), Denied> {
        for compare in &request.compare {
            self.keys(Access::Read, &compare.key, &compare.range_end)?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|it| self.operation(it))
    }

    fn operation(&self, operation: &RequestOp) -> Result<(), Denied> {
        match &operation.request {
            Some(Request::RequestRange(range)) => self.range(range),
            Some(Request::RequestPut(put)) => self.put(put),
            Some(Request::RequestDeleteRange(delete)) => self.delete_range(delete),
            Some(Request::RequestTxn(txn)) => self.txn(txn),
            None => Ok(()),
        }
    }

    /// Every key that is attached to the lease; root need not look.
    pub fn lease_keys(&self, id: i64, access: Access) -> Result<(), Denied> {
        let Some(id) = LeaseId::from_wire(id) else { return Ok(()) };
        if self.rules.check_root(self.asker).is_ok() {
            return Ok(());
        }
        for key in lease::table::keys(self.rows, id)? {
            self.keys(access, &key, &Bytes::new())?;
        }
        Ok(())
    }
}

/// Who proposed a command; `None` for a member of its own accord.
pub(super) fn asker(command: &Command) -> Option<Asker<'_>> {
    let Command { user, auth_revision, by_member, .. } = command;
    (!by_member).then_some(Asker { user, auth_revision: *auth_revision })
}

impl From<crate::auth::Rejection> for Denied {
    fn from(rejection: crate::auth::Rejection) -> Denied {
        Denied::Rejected(Rejection::Auth(rejection))
    }
}

impl From<storage::Error> for Denied {
    fn from(error: storage::Error) -> Denied {
        Denied::Storage(error)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Failure {
        match denied {
            Denied::Rejected(rejection) => Failure::Rejected(rejection),
            Denied::Storage(error) => Failure::Storage(error),
        }
    }
}
