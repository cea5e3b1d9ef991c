//! The Auth service: users, roles, permissions and tokens.
//!
//! Who may change something is judged when the change is applied. What is read is read as a quorum
//! has it, as in etcd, and judged in that same view.

use bytes::Bytes;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    auth::Rejection,
    grpc::{header::Header, metrics::Proposals, who},
    node::{Credentials, Error, Freshness, Operation, Reader, Who},
    proto::{
        authpb::{Permission, permission::Type},
        etcdserverpb::{
            AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
            AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
            AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
            AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
            AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
            AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse,
            AuthUserChangePasswordRequest, AuthUserChangePasswordResponse, AuthUserDeleteRequest,
            AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
            AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest,
            AuthUserListResponse, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
            AuthenticateRequest, AuthenticateResponse, ResponseHeader, auth_server,
        },
    },
    state_machine::View,
    types::Revision,
};

/// The role that may do everything, as it is shown.
const ROOT: &str = "root";

pub(crate) struct Auth {
    pub(crate) proposals: Proposals,
    pub(crate) reader: Reader,
    pub(crate) credentials: Credentials,
    pub(crate) header: Header,
}

#[async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthDisableResponse { header }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let header = self.change(request).await?;
        Ok(Response::new(AuthRoleRevokePermissionResponse { header }))
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        self.root_only(&request).await?;
        let (who, add) = (who::of(&request), request.into_inner());
        let add = self.credentials.hash_new(add).await?;
        let header = self.change_as(&who, add).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        self.root_only(&request).await?;
        let (who, change) = (who::of(&request), request.into_inner());
        let change = self.credentials.hash_changed(change).await?;
        let header = self.change_as(&who, change).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = request.into_inner();
        let (token, revision) = self.credentials.authenticate(&name, &password).await?;
        Ok(Response::new(AuthenticateResponse { header: self.header.at(revision), token }))
    }

    async fn auth_status(
        &self,
        _: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let view = self.view().await?;
        let state = view.auth().map_err(Error::from)?;
        Ok(Response::new(AuthStatusResponse {
            header: self.header_of(&view),
            enabled: state.enabled,
            auth_revision: state.revision,
        }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let (who, AuthUserGetRequest { name }) = (who::of(&request), request.into_inner());
        let view = self.view().await?;
        self.credentials.check(&who, &view, |judge| judge.of_user(&name)).await?;
        let user = view.user(&name).map_err(Error::from)?;
        let user = user.ok_or_else(|| Error::from(Rejection::UserNotFound))?;
        let header = self.header_of(&view);
        Ok(Response::new(AuthUserGetResponse { header, roles: user.roles }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let view = self.view().await?;
        self.credentials.check(&who::of(&request), &view, |judge| judge.root()).await?;
        let users = view.users().map_err(Error::from)?.into_iter();
        let users = users.map(|user| text(&user.name)).collect();
        Ok(Response::new(AuthUserListResponse { header: self.header_of(&view), users }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let (who, AuthRoleGetRequest { role: name }) = (who::of(&request), request.into_inner());
        let view = self.view().await?;
        self.credentials.check(&who, &view, |judge| judge.of_role(&name)).await?;
        let role = view.role(&name).map_err(Error::from)?;
        let role = role.ok_or_else(|| Error::from(Rejection::RoleNotFound))?;
        let perm = if name == ROOT { vec![everything()] } else { role.key_permission };
        Ok(Response::new(AuthRoleGetResponse { header: self.header_of(&view), perm }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let view = self.view().await?;
        self.credentials.check(&who::of(&request), &view, |judge| judge.root()).await?;
        let roles = view.roles().map_err(Error::from)?.into_iter();
        let roles = roles.map(|role| text(&role.name)).collect();
        Ok(Response::new(AuthRoleListResponse { header: self.header_of(&view), roles }))
    }
}

impl Auth {
    async fn change<O>(&self, request: Request<O>) -> Result<Option<ResponseHeader>, Error>
    where
        O: Operation<Reply = Revision>,
    {
        let who = who::of(&request);
        self.change_as(&who, request.into_inner()).await
    }

    async fn change_as<O>(&self, who: &Who, change: O) -> Result<Option<ResponseHeader>, Error>
    where
        O: Operation<Reply = Revision>,
    {
        let caller = self.credentials.caller(who).await?;
        Ok(self.header.at(self.proposals.propose(&caller, change).await?))
    }

    /// Judges before a password is hashed: nobody but root makes this member work so hard.
    async fn root_only<T>(&self, request: &Request<T>) -> Result<(), Error> {
        if !self.credentials.is_enabled()? {
            return Ok(());
        }
        let who = who::of(request);
        let view = self.reader.view(Freshness::Linearizable).await?;
        self.credentials.check(&who, &view, |judge| judge.root()).await
    }

    async fn view(&self) -> Result<View, Error> {
        self.reader.view(Freshness::Linearizable).await
    }

    fn header_of(&self, view: &View) -> Option<ResponseHeader> {
        self.header.at(view.keys().revision())
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// What the role of root shows.
fn everything() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(&[0]),
    }
}
