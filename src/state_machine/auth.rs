//! Changing users, roles and permissions, and switching authentication on and off.
//!
//! Each change makes a new auth revision; to enable authentication does not, as in etcd.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{Failure, Reply, apply::Effects};
use crate::{
    auth::{
        Change, ROOT, Rejection, Rules, has_no_password,
        table::{self, State},
    },
    proto::{
        authpb::{Permission, Role, User, UserAddOptions},
        command::Authenticate,
        etcdserverpb::{
            AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
            AuthUserChangePasswordRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
        },
    },
    storage::{Batch, Rows},
};

/// The state of authentication after the commands before; moves along with each command.
pub(super) struct Authority<'r> {
    pub(super) rules: &'r mut Arc<Rules>,
}

impl Authority<'_> {
    fn enabled(&self) -> bool {
        self.rules.state().enabled
    }

    /// Puts the rows of a new auth revision in force.
    fn change(self, batch: &mut Batch<'_>, changes: Vec<Change>) -> Result<Effects, Failure> {
        let State { enabled, revision } = self.rules.state();
        State { enabled, revision: revision + 1 }.put(batch);
        self.refresh(batch, changes)
    }

    fn refresh(self, batch: &Batch<'_>, auth: Vec<Change>) -> Result<Effects, Failure> {
        *self.rules = Arc::new(Rules::read(batch)?);
        Ok(Effects { auth, ..Effects::done() })
    }

    pub(super) fn enable(self, batch: &mut Batch<'_>) -> Result<Effects, Failure> {
        if self.enabled() {
            return Ok(Effects::done());
        }
        let root = table::user(batch, ROOT)?.ok_or(Rejection::RootUserNotFound)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(Rejection::RootRoleNotGranted.into());
        }
        State { enabled: true, ..self.rules.state() }.put(batch);
        self.refresh(batch, vec![Change::Enabled])
    }

    pub(super) fn disable(self, batch: &mut Batch<'_>) -> Result<Effects, Failure> {
        if !self.enabled() {
            return Ok(Effects::done());
        }
        let revision = self.rules.state().revision + 1;
        State { enabled: false, revision }.put(batch);
        self.refresh(batch, vec![Change::Disabled])
    }

    /// The member that proposes this has checked the password, at an auth revision that must still
    /// be the newest.
    pub(super) fn give_token(
        self,
        rows: &dyn Rows,
        index: u64,
        request: Authenticate,
    ) -> Result<Effects, Failure> {
        let Authenticate { name, secret_digest, auth_revision } = request;
        if !self.enabled() {
            return Err(Rejection::NotEnabled.into());
        }
        if auth_revision != self.rules.state().revision {
            return Err(Rejection::OldRevision.into());
        }
        let user = table::user(rows, &name)?.ok_or(Rejection::AuthenticationFailed)?;
        if has_no_password(&user) {
            return Err(Rejection::AuthenticationFailed.into());
        }
        let given = Change::TokenGiven { user: name, secret_digest, index };
        Ok(Effects { reply: Reply::TokenGiven { index }, auth: vec![given], ..Effects::done() })
    }

    pub(super) fn add_user(
        self,
        batch: &mut Batch<'_>,
        request: AuthUserAddRequest,
    ) -> Result<Effects, Failure> {
        if request.name.is_empty() {
            return Err(Rejection::UserEmpty.into());
        }
        if table::user(batch, &request.name)?.is_some() {
            return Err(Rejection::UserExists.into());
        }
        let options = request.options.unwrap_or(UserAddOptions { no_password: false });
        let password = match options.no_password {
            true => Bytes::new(),
            false => password(&request.hashed_password)?,
        };
        let user =
            User { name: request.name.into(), password, roles: Vec::new(), options: Some(options) };
        table::put_user(batch, &user);
        self.change(batch, Vec::new())
    }

    pub(super) fn delete_user(
        self,
        batch: &mut Batch<'_>,
        name: String,
    ) -> Result<Effects, Failure> {
        if self.enabled() && name == ROOT {
            return Err(Rejection::InvalidManagement.into());
        }
        user(batch, &name)?;
        table::remove_user(batch, &name);
        self.change(batch, vec![Change::LoggedOut(name)])
    }

    pub(super) fn change_password(
        self,
        batch: &mut Batch<'_>,
        request: AuthUserChangePasswordRequest,
    ) -> Result<Effects, Failure> {
        let user = user(batch, &request.name)?;
        let password = match has_no_password(&user) {
            true => Bytes::new(),
            false => password(&request.hashed_password)?,
        };
        table::put_user(batch, &User { password, ..user });
        self.change(batch, vec![Change::LoggedOut(request.name)])
    }

    pub(super) fn grant_role(
        self,
        batch: &mut Batch<'_>,
        request: AuthUserGrantRoleRequest,
    ) -> Result<Effects, Failure> {
        let mut user = user(batch, &request.user)?;
        // Root's role means the same whether or not it is there.
        if request.role != ROOT {
            role(batch, &request.role)?;
        }
        let Err(place) = user.roles.binary_search(&request.role) else {
            return Ok(Effects::done());
        };
        user.roles.insert(place, request.role);
        table::put_user(batch, &user);
        self.change(batch, Vec::new())
    }

    pub(super) fn revoke_role(
        self,
        batch: &mut Batch<'_>,
        request: &AuthUserRevokeRoleRequest,
    ) -> Result<Effects, Failure> {
        if self.enabled() && request.name == ROOT && request.role == ROOT {
            return Err(Rejection::InvalidManagement.into());
        }
        let mut user = user(batch, &request.name)?;
        if !take_role(&mut user, &request.role) {
            return Err(Rejection::RoleNotGranted.into());
        }
        table::put_user(batch, &user);
        self.change(batch, Vec::new())
    }

    pub(super) fn add_role(self, batch: &mut Batch<'_>, name: String) -> Result<Effects, Failure> {
        if name.is_empty() {
            return Err(Rejection::RoleEmpty.into());
        }
        if table::role(batch, &name)?.is_some() {
            return Err(Rejection::RoleExists.into());
        }
        table::put_role(batch, &Role { name: name.into(), key_permission: Vec::new() });
        self.change(batch, Vec::new())
    }

    /// Takes the role from all users as well.
    pub(super) fn delete_role(self, batch: &mut Batch<'_>, name: &str) -> Result<Effects, Failure> {
        if self.enabled() && name == ROOT {
            return Err(Rejection::InvalidManagement.into());
        }
        role(batch, name)?;
        table::remove_role(batch, name);
        for mut user in table::users(batch)? {
            if take_role(&mut user, name) {
                table::put_user(batch, &user);
            }
        }
        self.change(batch, Vec::new())
    }

    /// A permission for exactly the same keys is replaced.
    pub(super) fn grant_permission(
        self,
        batch: &mut Batch<'_>,
        request: AuthRoleGrantPermissionRequest,
    ) -> Result<Effects, Failure> {
        let permission = request.perm.ok_or(Rejection::PermissionNotGiven)?;
        if !is_for_keys(&permission) {
            return Err(Rejection::InvalidManagement.into());
        }
        let mut role = role(batch, &request.name)?;
        let permissions = &mut role.key_permission;
        let place = permissions.partition_point(|held| held.key < permission.key);
        match permissions.get_mut(place).filter(|held| is_same(held, &permission)) {
            Some(held) => held.perm_type = permission.perm_type,
            None => {
                permissions.push(permission);
                permissions.sort_by(|one, other| one.key.cmp(&other.key));
            }
        }
        table::put_role(batch, &role);
        self.change(batch, Vec::new())
    }

    pub(super) fn revoke_permission(
        self,
        batch: &mut Batch<'_>,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Result<Effects, Failure> {
        let mut role = role(batch, &request.role)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|held| held.key != request.key || held.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(Rejection::PermissionNotGranted.into());
        }
        table::put_role(batch, &role);
        self.change(batch, Vec::new())
    }
}

fn user(rows: &dyn Rows, name: &str) -> Result<User, Failure> {
    Ok(table::user(rows, name)?.ok_or(Rejection::UserNotFound)?)
}

fn role(rows: &dyn Rows, name: &str) -> Result<Role, Failure> {
    Ok(table::role(rows, name)?.ok_or(Rejection::RoleNotFound)?)
}

/// False when the user does not have it.
fn take_role(user: &mut User, name: &str) -> bool {
    let before = user.roles.len();
    user.roles.retain(|role| role != name);
    user.roles.len() != before
}

/// The hash that whoever proposes has made; etcd says of one that can't be read what it says here.
fn password(hashed: &str) -> Result<Bytes, Rejection> {
    let hash = STANDARD.decode(hashed).map_err(|_| Rejection::NoPasswordUser)?;
    Ok(hash.into())
}

fn is_same(one: &Permission, other: &Permission) -> bool {
    one.key == other.key && one.range_end == other.range_end
}

fn is_for_keys(permission: &Permission) -> bool {
    let Permission { key, range_end, .. } = permission;
    !key.is_empty() && (range_end.is_empty() || range_end.as_ref() == [0] || key < range_end)
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure::Rejected(rejection.into())
    }
}

impl From<Rejection> for super::Rejection {
    fn from(rejection: Rejection) -> super::Rejection {
        super::Rejection::Auth(rejection)
    }
}
