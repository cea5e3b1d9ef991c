//! A client's lease that something is held under: kept while the client waits, and for as long as
//! it likes.

use std::{convert::Infallible, time::Duration};

use orrery::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse,
};
use rand::Rng;
use tokio::time::sleep;

use super::Worker;
use crate::{
    client::{Client, Failed, TIMEOUT},
    history::{Answer, Request},
};

/// Longer than whoever is in front takes to lose what it holds, and some more of them.
const WAIT: Duration = Duration::from_secs(8);

/// How much longer than its lease somebody sleeps who outlives it on purpose: members may be this
/// late to end a lease, and the next one needs time to do something.
const OUTLIVED_BY: std::ops::Range<f64> = 0.5..1.5;

pub(super) struct Lease {
    pub(super) id: i64,
    ttl: Duration,
}

impl Lease {
    pub(super) async fn grant(client: &mut Client, ttl: i64) -> Result<Lease, Failed> {
        let granted: LeaseGrantResponse = client.call(LeaseGrantRequest { ttl, id: 0 }).await?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
        Ok(Lease { id: granted.id, ttl })
    }

    /// Sends a request that waits until it is this client's turn, and keeps the lease meanwhile.
    pub(super) async fn wait<A>(
        &self,
        client: &mut Client,
        request: impl Into<Request>,
    ) -> Result<A, Failed>
    where
        A: TryFrom<Answer>,
    {
        let mut keeper = Client::new(client.recorder().clone(), client.member());
        client.set_timeout(WAIT);
        let answered = tokio::select! {
            answered = client.call(request) => answered,
            never = self.keep_on(&mut keeper) => match never {},
        };
        client.set_timeout(TIMEOUT);
        answered
    }

    /// Whether it is still there is not asked: who holds something finds out when it is too late.
    pub(super) async fn keep(&self, client: &mut Client) {
        let request = LeaseKeepAliveRequest { id: self.id };
        let _ = client.call::<LeaseKeepAliveResponse>(request).await;
    }

    async fn keep_on(&self, client: &mut Client) -> Infallible {
        loop {
            sleep(self.ttl / 3).await;
            self.keep(client).await;
        }
    }

    /// Sleeps until it has ended, and somebody else has what was held under it.
    pub(super) async fn outlive(&self, worker: &mut Worker) {
        let more = worker.random.random_range(OUTLIVED_BY);
        sleep(self.ttl + Duration::from_secs_f64(more)).await;
    }

    /// So that nobody waits for its end. It may have ended by itself.
    pub(super) async fn revoke(self, client: &mut Client) {
        let request = LeaseRevokeRequest { id: self.id };
        let _ = client.call::<LeaseRevokeResponse>(request).await;
    }
}
