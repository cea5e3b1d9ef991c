//! The Election service: one leader at a time, known to all by its value.

mod observe;

use bytes::Bytes;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{
        client::{Client, Services},
        queue::{self, Queue, Refused, created_at, found, get, joined_at, only, put},
        status,
    },
    proto::{
        etcdserverpb::{TxnRequest, TxnResponse},
        v3electionpb::{
            CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
            ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse, election_server,
        },
    },
};

pub(crate) struct Election {
    pub(crate) services: Services,
}

#[async_trait]
impl election_server::Election for Election {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let client = self.services.client(&request);
        let won = campaign(&client, request.into_inner()).await.map_err(status::from_within)?;
        Ok(Response::new(won))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let client = self.services.client(&request);
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = resumed(&client, leader).await.map_err(status::from_within)?;
        let done = proclaim(&client, &leader, value).await.map_err(status::from_within)?;
        Ok(Response::new(ProclaimResponse { header: done.header }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let client = self.services.client(&request);
        let oldest = Queue::new(&client, &request.into_inner().name).oldest();
        let range = client.range(oldest).await.map_err(status::from_within)?;
        let leader = range.kvs.into_iter().next().ok_or(Refused::NoLeader)?;
        Ok(Response::new(LeaderResponse { header: range.header, kv: Some(leader) }))
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let client = self.services.client(&request);
        let queue = Queue::new(&client, &request.into_inner().name);
        Ok(Response::new(Box::pin(observe::leaders(queue))))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let client = self.services.client(&request);
        let leader = request.into_inner().leader;
        let leader = resumed(&client, leader).await.map_err(status::from_within)?;
        let done = queue::leave(client, leader.key, leader.rev).await;
        Ok(Response::new(ResignResponse { header: done.map_err(status::from_within)?.header }))
    }
}

/// Unlike for a lock, nobody looks whether the winner's lease still lives: a leader finds out when
/// it proclaims, and its observers see that its key is gone.
async fn campaign(client: &Client, request: CampaignRequest) -> Result<CampaignResponse, Status> {
    let CampaignRequest { name, lease, value } = request;
    let lease = queue::session(client, lease).await?;
    let queue = Queue::new(client, &name);
    let key = queue.key(lease);
    let joined = client
        .txn(TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, value.clone(), lease)],
            failure: vec![get(only(&key))],
        })
        .await?;
    let created = joined_at(&joined);
    let leader = LeaderKey { name, key: key.clone(), rev: created, lease };
    if found(&joined, 0).is_some_and(|own| own.value != value)
        && let Err(status) = proclaim(client, &leader, value).await
    {
        // The proclamation's error is the answer, whatever comes of this.
        let _ = queue::leave(client.clone(), key, created).await;
        return Err(status);
    }
    let place = queue.place(key, created);
    place.turn().await?;
    place.keep();
    Ok(CampaignResponse { header: joined.header, leader: Some(leader) })
}

async fn proclaim(
    client: &Client,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<TxnResponse, Status> {
    let done = client
        .txn(TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![put(&leader.key, value, leader.lease)],
            failure: Vec::new(),
        })
        .await?;
    if done.succeeded { Ok(done) } else { Err(Refused::NotLeader.into()) }
}

/// The leader whom a request names, with a lease of its own even if that is of no use.
async fn resumed(client: &Client, leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    let leader = leader.ok_or(Refused::LeaderMissing)?;
    let lease = queue::session(client, leader.lease).await?;
    Ok(LeaderKey { lease, ..leader })
}
