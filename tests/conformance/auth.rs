//! Users, roles and tokens in scripts.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use orrery::proto::{
    authpb::{Permission, UserAddOptions, permission::Type},
    etcdserverpb::{
        AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest,
        AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
        AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
        AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
        AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest,
        AuthUserRevokeRoleRequest, AuthenticateRequest, DefragmentRequest, DowngradeRequest,
        HashKvRequest, HashRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
        MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, ResponseHeader,
        SnapshotRequest, StatusRequest, alarm_request::AlarmAction, auth_client::AuthClient,
        cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
    },
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    answer::{Frame, Lines},
    words::word,
};

/// A connection that says who asks.
pub(crate) type Connection = InterceptedService<Channel, Token>;

/// What is shown with each request; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Token(Arc<Mutex<Option<MetadataValue<Ascii>>>>);

impl Token {
    pub(crate) fn show(&self, token: Option<&str>) {
        *self.0.lock().unwrap() = token.map(|token| token.parse().expect("a token is ASCII"));
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.lock().unwrap().clone() {
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }
}

/// The names of the requests here. Those behind `call` are told from each other by its first word.
pub(crate) const NAMES: [&str; 19] = [
    "auth_enable",
    "auth_disable",
    "auth_status",
    "authenticate",
    "as",
    "user_add",
    "user_delete",
    "user_change_password",
    "user_get",
    "user_list",
    "user_grant_role",
    "user_revoke_role",
    "role_add",
    "role_delete",
    "role_get",
    "role_list",
    "role_grant_permission",
    "role_revoke_permission",
    "call",
];

/// An answer, or the token that a user was given.
pub(crate) enum Answer {
    Lines(Option<ResponseHeader>, Lines),
    Token(Option<ResponseHeader>, String),
}

/// An answer with nothing but a header.
macro_rules! plain {
    ($client:ident.$call:ident($request:expr)) => {
        ($client.$call($request).await?.into_inner().header, Lines::new())
    };
}

/// Asks what the words say.
pub(crate) async fn ask(
    connection: Connection,
    words: &[&str],
    frame: Frame,
) -> Result<Answer, Status> {
    let mut auth = AuthClient::new(connection.clone());
    let (header, mut lines) = match words {
        ["authenticate", name, rest @ ..] => {
            let password = rest.first().map(own).unwrap_or_default();
            let request = AuthenticateRequest { name: own(name), password };
            let answer = auth.authenticate(request).await?.into_inner();
            return Ok(Answer::Token(answer.header, answer.token));
        }
        ["auth_enable"] => plain!(auth.auth_enable(AuthEnableRequest {})),
        ["auth_disable"] => plain!(auth.auth_disable(AuthDisableRequest {})),
        ["auth_status"] => {
            let status = auth.auth_status(AuthStatusRequest {}).await?.into_inner();
            let enabled = if status.enabled { "enabled" } else { "disabled" };
            (status.header, vec![format!("{enabled} auth revision {}", status.auth_revision)])
        }
        ["call", method] => {
            call(connection, method).await?;
            return Ok(Answer::Lines(None, vec!["done".to_owned()]));
        }
        [name, ..] if name.starts_with("user") => ask_users(auth, words).await?,
        _ => ask_roles(auth, words).await?,
    };
    lines.extend(frame.only_header(header.as_ref()));
    Ok(Answer::Lines(header, lines))
}

async fn ask_users(
    mut auth: AuthClient<Connection>,
    words: &[&str],
) -> Result<(Option<ResponseHeader>, Lines), Status> {
    Ok(match words {
        ["user_add", name, rest @ ..] => {
            let no_password = rest.contains(&"no_password");
            let password = rest.iter().find(|word| **word != "no_password");
            let options = no_password.then_some(UserAddOptions { no_password });
            let password = password.map(own).unwrap_or_default();
            plain!(auth.user_add(AuthUserAddRequest {
                name: own(name),
                password,
                options,
                ..Default::default()
            }))
        }
        ["user_delete", name] => {
            plain!(auth.user_delete(AuthUserDeleteRequest { name: own(name) }))
        }
        ["user_change_password", name, rest @ ..] => {
            let password = rest.first().map(own).unwrap_or_default();
            plain!(auth.user_change_password(AuthUserChangePasswordRequest {
                name: own(name),
                password,
                ..Default::default()
            }))
        }
        ["user_get", name] => {
            let user = auth.user_get(AuthUserGetRequest { name: own(name) }).await?.into_inner();
            (user.header, named("role", &user.roles))
        }
        ["user_list"] => {
            let users = auth.user_list(AuthUserListRequest {}).await?.into_inner();
            (users.header, named("user", &users.users))
        }
        ["user_grant_role", user, role] => {
            let request = AuthUserGrantRoleRequest { user: own(user), role: own(role) };
            plain!(auth.user_grant_role(request))
        }
        ["user_revoke_role", name, role] => {
            let request = AuthUserRevokeRoleRequest { name: own(name), role: own(role) };
            plain!(auth.user_revoke_role(request))
        }
        other => panic!("{other:?} is no request"),
    })
}

async fn ask_roles(
    mut auth: AuthClient<Connection>,
    words: &[&str],
) -> Result<(Option<ResponseHeader>, Lines), Status> {
    Ok(match words {
        ["role_add", name] => plain!(auth.role_add(AuthRoleAddRequest { name: own(name) })),
        ["role_delete", role] => {
            plain!(auth.role_delete(AuthRoleDeleteRequest { role: own(role) }))
        }
        ["role_get", role] => {
            let role = auth.role_get(AuthRoleGetRequest { role: own(role) }).await?.into_inner();
            (role.header, role.perm.iter().map(permission).collect())
        }
        ["role_list"] => {
            let roles = auth.role_list(AuthRoleListRequest {}).await?.into_inner();
            (roles.header, named("role", &roles.roles))
        }
        ["role_grant_permission", role, rest @ ..] => {
            let perm = match rest {
                [kind, of, end @ ..] => Some(Permission {
                    perm_type: kind_of(kind),
                    key: key(of),
                    range_end: end.first().map(key).unwrap_or_default(),
                }),
                _ => None,
            };
            let request = AuthRoleGrantPermissionRequest { name: own(role), perm };
            plain!(auth.role_grant_permission(request))
        }
        ["role_revoke_permission", role, of, end @ ..] => {
            let range_end = end.first().map(key).unwrap_or_default();
            let (role, key) = (own(role), key(of));
            let request = AuthRoleRevokePermissionRequest { role, key, range_end };
            plain!(auth.role_revoke_permission(request))
        }
        other => panic!("{other:?} is no request"),
    })
}

fn own(text: &&str) -> String {
    (*text).to_owned()
}

fn key(text: &&str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Calls a method of which it only matters whether it may be called.
async fn call(connection: Connection, method: &str) -> Result<(), Status> {
    let mut cluster = ClusterClient::new(connection.clone());
    let mut maintenance = MaintenanceClient::new(connection);
    let alarm = |action: AlarmAction| AlarmRequest { action: action.into(), ..Default::default() };
    let url = || vec!["http://127.0.0.1:1".to_owned()];
    match method {
        "member_list" => cluster.member_list(MemberListRequest::default()).await.map(drop),
        "member_list_linearizable" => {
            cluster.member_list(MemberListRequest { linearizable: true }).await.map(drop)
        }
        "member_add" => {
            let add = MemberAddRequest { peer_ur_ls: url(), is_learner: false };
            cluster.member_add(add).await.map(drop)
        }
        "member_remove" => cluster.member_remove(MemberRemoveRequest { id: 1 }).await.map(drop),
        "member_update" => {
            let update = MemberUpdateRequest { id: 1, peer_ur_ls: url() };
            cluster.member_update(update).await.map(drop)
        }
        "member_promote" => cluster.member_promote(MemberPromoteRequest { id: 1 }).await.map(drop),
        "status" => maintenance.status(StatusRequest {}).await.map(drop),
        "alarms" => maintenance.alarm(alarm(AlarmAction::Get)).await.map(drop),
        "alarm_raise" => maintenance.alarm(alarm(AlarmAction::Activate)).await.map(drop),
        "alarm_disarm" => maintenance.alarm(alarm(AlarmAction::Deactivate)).await.map(drop),
        "defragment" => maintenance.defragment(DefragmentRequest {}).await.map(drop),
        "hash" => maintenance.hash(HashRequest {}).await.map(drop),
        "hash_kv" => maintenance.hash_kv(HashKvRequest { revision: 0 }).await.map(drop),
        "move_leader" => {
            maintenance.move_leader(MoveLeaderRequest { target_id: 1 }).await.map(drop)
        }
        "downgrade" => maintenance.downgrade(DowngradeRequest::default()).await.map(drop),
        "snapshot" => {
            let mut parts = maintenance.snapshot(SnapshotRequest {}).await?.into_inner();
            parts.message().await.map(drop)
        }
        other => panic!("{other:?} is no method"),
    }
}

fn named(what: &str, names: &[String]) -> Lines {
    names.iter().map(|name| format!("{what} {}", word(name.as_bytes()))).collect()
}

fn kind_of(name: &str) -> i32 {
    Type::from_str_name(&name.to_uppercase()).map_or_else(
        || name.parse().expect("a type of permission has a name or a number"),
        Into::into,
    )
}

fn permission(permission: &Permission) -> String {
    let kind = Type::try_from(permission.perm_type).map_or_else(
        |_| permission.perm_type.to_string(),
        |kind| kind.as_str_name().to_lowercase(),
    );
    let end = match permission.range_end.as_ref() {
        [] => String::new(),
        end => format!(" {}", word(end)),
    };
    format!("{kind} {}{end}", word(&permission.key))
}
