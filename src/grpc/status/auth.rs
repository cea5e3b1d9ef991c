//! Refusals of authentication, in etcd's words.

use tonic::Code;

use crate::auth::Rejection;

pub(super) fn of_rejection(rejection: Rejection) -> (Code, &'static str) {
    use Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unknown};
    match rejection {
        Rejection::RootUserNotFound => (FailedPrecondition, "etcdserver: root user does not exist"),
        Rejection::RootRoleNotGranted => {
            (FailedPrecondition, "etcdserver: root user does not have root role")
        }
        Rejection::NotEnabled => (FailedPrecondition, "etcdserver: authentication is not enabled"),
        Rejection::UserEmpty => (InvalidArgument, "etcdserver: user name is empty"),
        Rejection::UserExists => (FailedPrecondition, "etcdserver: user name already exists"),
        Rejection::UserNotFound => (FailedPrecondition, "etcdserver: user name not found"),
        Rejection::RoleEmpty => (InvalidArgument, "etcdserver: role name is empty"),
        Rejection::RoleExists => (FailedPrecondition, "etcdserver: role name already exists"),
        Rejection::RoleNotFound => (FailedPrecondition, "etcdserver: role name not found"),
        Rejection::RoleNotGranted => {
            (FailedPrecondition, "etcdserver: role is not granted to the user")
        }
        Rejection::PermissionNotGiven => (InvalidArgument, "etcdserver: permission not given"),
        Rejection::PermissionNotGranted => {
            (FailedPrecondition, "etcdserver: permission is not granted to the role")
        }
        Rejection::PermissionDenied => (PermissionDenied, "etcdserver: permission denied"),
        Rejection::OldRevision => (InvalidArgument, "etcdserver: revision of auth store is old"),
        Rejection::InvalidManagement => (InvalidArgument, "etcdserver: invalid auth management"),
        Rejection::AuthenticationFailed => {
            (InvalidArgument, "etcdserver: authentication failed, invalid user ID or password")
        }
        // etcd has no status for this one.
        Rejection::NoPasswordUser => {
            (Unknown, "auth: authentication failed, password was given for no password user")
        }
    }
}
