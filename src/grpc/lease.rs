//! The Lease service.

use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    grpc::{caller, header::Header, metrics::Proposals, validate},
    node::Leases,
    proto::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server,
    },
    telemetry::METERS,
    types::LeaseId,
};

/// Renewals of one stream that are under way at once. A client with many leases sends them all over
/// one stream, and each takes a round to the leader.
const RENEWALS_IN_FLIGHT: usize = 16;

#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) proposals: Proposals,
    pub(crate) leases: Leases,
    pub(crate) header: Header,
}

#[async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (caller, grant) = (caller(&request), request.into_inner());
        validate::lease_grant(&grant)?;
        let mut response = self.proposals.propose(&caller, grant).await?;
        self.header.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (caller, revoke) = (caller(&request), request.into_inner());
        validate::lease_revoke(&revoke)?;
        let revision = self.proposals.propose(&caller, revoke).await?;
        Ok(Response::new(LeaseRevokeResponse { header: self.header.at(revision) }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let service = self.clone();
        let answers = request
            .into_inner()
            .map(move |request| {
                let service = service.clone();
                async move {
                    let failed = |_: &Status| METERS.watch.stream_failed("lease-keepalive");
                    service.renew(request.inspect_err(failed)?).await
                }
            })
            .buffered(RENEWALS_IN_FLIGHT);
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let left = match LeaseId::from_wire(id) {
            Some(id) => self.leases.time_to_live(id, keys).await?,
            None => None,
        };
        let header = self.header.now().await?;
        Ok(Response::new(match left {
            Some(left) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: left.remaining_secs,
                granted_ttl: left.granted_secs,
                keys: left.keys,
            },
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let ids = self.leases.list().await?;
        let leases = ids.into_iter().map(|id| LeaseStatus { id: id.get() }).collect();
        let header = self.header.now().await?;
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}

impl Lease {
    /// A lease that is gone has 0 seconds left; that is an answer, and the stream goes on.
    async fn renew(
        &self,
        LeaseKeepAliveRequest { id }: LeaseKeepAliveRequest,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        // Before the renewal, or a client could see it succeed at a revision past the revocation.
        let header = self.header.now().await?;
        let ttl = match LeaseId::from_wire(id) {
            Some(id) => self.leases.keep_alive(id).await?,
            None => None,
        };
        Ok(LeaseKeepAliveResponse { header, id, ttl: ttl.unwrap_or(0) })
    }
}
