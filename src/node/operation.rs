//! Requests that change the store, each with the type of its answer.

use crate::{
    proto::{
        command::command,
        etcdserverpb::{
            AlarmRequest, AlarmResponse, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest,
            AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
            AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
            AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, CompactionRequest,
            DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
            LeaseRevokeRequest, PutRequest, PutResponse, TxnRequest, TxnResponse,
        },
    },
    state_machine::Reply,
    types::Revision,
};

/// A request that changes the store, with the type of its answer.
pub trait Operation {
    type Reply;

    fn into_operation(self) -> command::Operation;

    /// The one place where a reply of the wrong kind could show; that would be our bug.
    ///
    /// `revision` is that of the key space after the command.
    fn reply(reply: Reply, revision: Revision) -> Option<Self::Reply>;
}

macro_rules! operation {
    ($request:ty => $variant:ident => $response:ty) => {
        impl Operation for $request {
            type Reply = $response;

            fn into_operation(self) -> command::Operation {
                command::Operation::$variant(self)
            }

            fn reply(reply: Reply, _: Revision) -> Option<$response> {
                match reply {
                    Reply::$variant(response) => Some(response),
                    _ => None,
                }
            }
        }
    };
}

operation!(PutRequest => Put => PutResponse);
operation!(DeleteRangeRequest => DeleteRange => DeleteRangeResponse);
operation!(TxnRequest => Txn => TxnResponse);
operation!(AlarmRequest => Alarm => AlarmResponse);
operation!(LeaseGrantRequest => LeaseGrant => LeaseGrantResponse);

macro_rules! without_answer {
    ($($request:ty => $variant:ident),* $(,)?) => {$(
        /// The answer is the revision of the key space, for the header.
        impl Operation for $request {
            type Reply = Revision;

            fn into_operation(self) -> command::Operation {
                command::Operation::$variant(self)
            }

            fn reply(reply: Reply, revision: Revision) -> Option<Revision> {
                matches!(reply, Reply::Done).then_some(revision)
            }
        }
    )*};
}

without_answer!(
    LeaseRevokeRequest => LeaseRevoke,
    AuthEnableRequest => AuthEnable,
    AuthDisableRequest => AuthDisable,
    AuthUserAddRequest => UserAdd,
    AuthUserDeleteRequest => UserDelete,
    AuthUserChangePasswordRequest => UserChangePassword,
    AuthUserGrantRoleRequest => UserGrantRole,
    AuthUserRevokeRoleRequest => UserRevokeRole,
    AuthRoleAddRequest => RoleAdd,
    AuthRoleDeleteRequest => RoleDelete,
    AuthRoleGrantPermissionRequest => RoleGrantPermission,
    AuthRoleRevokePermissionRequest => RoleRevokePermission,
);

/// The answer is the revision of the key space, for the header.
impl Operation for CompactionRequest {
    type Reply = Revision;

    fn into_operation(self) -> command::Operation {
        command::Operation::Compact(self)
    }

    fn reply(reply: Reply, revision: Revision) -> Option<Revision> {
        matches!(reply, Reply::Compact(_)).then_some(revision)
    }
}
