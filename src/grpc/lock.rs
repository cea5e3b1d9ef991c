//! The Lock service: one holder at a time, for as long as its lease lives.

use bytes::Bytes;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{
        client::{Client, Services},
        queue::{self, Queue, Refused, created_at, found, get, joined_at, only, put},
        status,
    },
    proto::{
        etcdserverpb::TxnRequest,
        v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server},
    },
};

pub(crate) struct Lock {
    pub(crate) services: Services,
}

#[async_trait]
impl lock_server::Lock for Lock {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let client = self.services.client(&request);
        let LockRequest { name, lease } = request.into_inner();
        let locked = lock(&client, &name, lease).await.map_err(status::from_within)?;
        Ok(Response::new(locked))
    }

    /// Any key can be named; what it is the key of is not looked at.
    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let client = self.services.client(&request);
        let deleted = client.delete(request.into_inner().key).await.map_err(status::from_within)?;
        Ok(Response::new(UnlockResponse { header: deleted.header }))
    }
}

async fn lock(client: &Client, name: &[u8], lease: i64) -> Result<LockResponse, Status> {
    let lease = queue::session(client, lease).await?;
    let queue = Queue::new(client, name);
    let key = queue.key(lease);
    let joined = client
        .txn(TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, Bytes::new(), lease), get(queue.oldest())],
            failure: vec![get(only(&key)), get(queue.oldest())],
        })
        .await?;
    let created = joined_at(&joined);
    if found(&joined, 1).is_none_or(|holder| holder.create_revision == created) {
        return Ok(LockResponse { header: joined.header, key });
    }
    let place = queue.place(key.clone(), created);
    place.turn().await?;
    // While it waited its own lease may have ended, and then somebody behind it holds the lock.
    let own = client.range(only(&key)).await?;
    place.keep();
    if own.kvs.is_empty() {
        return Err(Refused::SessionExpired.into());
    }
    Ok(LockResponse { header: own.header, key })
}
