//! Users, roles and permissions: the replicated tables, and who may do what by them. Passwords are
//! hashed and tokens given out elsewhere; nothing here has a clock or a secret.

mod key_set;
mod rules;
pub mod table;

pub use rules::{Access, Asker, Rules};

use crate::proto::authpb::User;

/// The user that may do everything, and the role that lets it.
pub const ROOT: &str = "root";

/// Why a command or a read was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Authentication is enabled only when there is somebody who can disable it.
    RootUserNotFound,
    RootRoleNotGranted,
    NotEnabled,
    /// Authentication is enabled, and nobody asks; or a user without a name is added.
    UserEmpty,
    UserExists,
    UserNotFound,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    PermissionNotGiven,
    PermissionNotGranted,
    PermissionDenied,
    /// The caller was checked when other rules were in force.
    OldRevision,
    /// It would lock root out, or the permission is for no key.
    InvalidManagement,
    /// Unknown user or wrong password; which one is not told.
    AuthenticationFailed,
    /// The user can only come in by a certificate.
    NoPasswordUser,
}

/// What applying a command did that tokens depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Enabled,
    Disabled,
    TokenGiven {
        user: String,
        /// SHA-256 of the token's first part; the second is `index`.
        secret_digest: bytes::Bytes,
        index: u64,
    },
    /// Tokens of this user are void.
    LoggedOut(String),
}

/// Whether a user can only come in by a certificate.
pub fn has_no_password(user: &User) -> bool {
    user.options.as_ref().is_some_and(|options| options.no_password)
}
