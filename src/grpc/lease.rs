//! The Lease service.

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    auth::Access,
    grpc::{header::Header, metrics::Proposals, validate, who},
    node::{Credentials, Error, Freshness, Leases, Reader, Who, space::cost},
    proto::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server,
    },
    state_machine::Judge,
    types::LeaseId,
};

/// Renewals of one stream that are under way at once. A client with many leases sends them all over
/// one stream, and each takes a round to the leader.
const RENEWALS_IN_FLIGHT: usize = 16;

#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) proposals: Proposals,
    pub(crate) leases: Leases,
    pub(crate) reader: Reader,
    pub(crate) credentials: Credentials,
    pub(crate) header: Header,
}

#[async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (who, grant) = (who::of(&request), request.into_inner());
        self.proposals.admit(cost::LEASE).await?;
        self.proposals.check_alarm(cost::LEASE).await?;
        validate::lease_grant(&grant)?;
        let caller = self.credentials.caller(&who).await?;
        let mut response = self.proposals.propose(&caller, grant).await?;
        self.header.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (who, revoke) = (who::of(&request), request.into_inner());
        validate::lease_revoke(&revoke)?;
        let caller = self.credentials.caller(&who).await?;
        let revision = self.proposals.propose(&caller, revoke).await?;
        Ok(Response::new(LeaseRevokeResponse { header: self.header.at(revision) }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (service, who) = (self.clone(), who::of(&request));
        let answers = request
            .into_inner()
            .map(move |request| {
                let (service, who) = (service.clone(), who.clone());
                async move { service.renew(&who, request?).await }
            })
            .buffered(RENEWALS_IN_FLIGHT);
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let (who, ask) = (who::of(&request), request.into_inner());
        let LeaseTimeToLiveRequest { id, keys: with_keys } = ask;
        let (left, keys) = match LeaseId::from_wire(id) {
            Some(id) => {
                let left = self.leases.time_to_live(id).await?;
                (left, if with_keys { self.keys(&who, id).await? } else { Vec::new() })
            }
            None => (None, Vec::new()),
        };
        let header = self.header.now().await?;
        Ok(Response::new(match left {
            Some(left) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: left.remaining_secs,
                granted_ttl: left.granted_secs,
                keys,
            },
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let who = who::of(&request);
        let (view, ids) = self.leases.list().await?;
        let may = |judge: Judge<'_>| {
            judge.user()?;
            ids.iter().try_for_each(|id| judge.lease_keys(id.get(), Access::Read))
        };
        self.credentials.check(&who, &view, may).await?;
        let leases = ids.into_iter().map(|id| LeaseStatus { id: id.get() }).collect();
        let header = self.header.now().await?;
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}

impl Lease {
    /// Keys attached to a lease, for who may read all of them.
    async fn keys(&self, who: &Who, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        let view = self.reader.view(Freshness::Linearizable).await?;
        let may = |judge: Judge<'_>| judge.lease_keys(id.get(), Access::Read);
        self.credentials.check(who, &view, may).await?;
        Ok(view.lease_keys(id)?)
    }

    /// To keep a lease is to keep its keys.
    async fn may_renew(&self, who: &Who, id: i64) -> Result<(), Error> {
        if !self.credentials.is_enabled()? {
            return Ok(());
        }
        let view = self.reader.view(Freshness::Linearizable).await?;
        let may = |judge: Judge<'_>| {
            judge.user()?;
            judge.lease_keys(id, Access::Write)
        };
        self.credentials.check(who, &view, may).await
    }

    /// A lease that is gone has 0 seconds left; that is an answer, and the stream goes on.
    async fn renew(
        &self,
        who: &Who,
        LeaseKeepAliveRequest { id }: LeaseKeepAliveRequest,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        // Before the renewal, or a client could see it succeed at a revision past the revocation.
        let header = self.header.now().await?;
        self.may_renew(who, id).await?;
        let ttl = match LeaseId::from_wire(id) {
            Some(id) => self.leases.keep_alive(id).await?,
            None => None,
        };
        Ok(LeaseKeepAliveResponse { header, id, ttl: ttl.unwrap_or(0) })
    }
}
