//! The Cluster service. Its answers have no revision: they are not about the key space.

use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{header::Header, validate, who},
    node::{Credentials, Membership, Standing},
    proto::etcdserverpb::{
        MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
        MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
        MemberUpdateRequest, MemberUpdateResponse, cluster_server,
    },
    types::MemberId,
};

pub(crate) struct Cluster {
    pub(crate) membership: Membership,
    pub(crate) credentials: Credentials,
    pub(crate) header: Header,
}

#[async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let urls = validate::member_urls(&peer_ur_ls)?;
        let (member, members) = self.membership.add(urls, is_learner).await?;
        let header = self.header.without_revision();
        Ok(Response::new(MemberAddResponse { header, member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let members = self.membership.remove(MemberId(request.into_inner().id)).await?;
        let header = self.header.without_revision();
        Ok(Response::new(MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let urls = validate::member_urls(&peer_ur_ls)?;
        let members = self.membership.update(MemberId(id), urls).await?;
        let header = self.header.without_revision();
        Ok(Response::new(MemberUpdateResponse { header, members }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let who = who::of(&request);
        let members = self.membership.list(request.into_inner().linearizable).await?;
        // By now this member may have heard that authentication is enabled.
        self.credentials.require(&who, Standing::User).await?;
        let header = self.header.without_revision();
        Ok(Response::new(MemberListResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let members = self.membership.promote(MemberId(request.into_inner().id)).await?;
        let header = self.header.without_revision();
        Ok(Response::new(MemberPromoteResponse { header, members }))
    }
}
