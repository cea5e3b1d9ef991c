//! Leases: granted, kept for some time through whatever happens, and then left to expire. Each has
//! one key, which nobody deletes.

use std::time::Duration;

use orrery::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
};
use rand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::{Worker, guarded};

/// In seconds.
const TTLS: std::ops::RangeInclusive<i64> = 2..=5;

/// Renewals before a lease is left alone.
const RENEWALS_MAX: u32 = 6;

/// Keys of leases begin so, and go on with the lease's id.
const PREFIX: &str = "lease/";

pub(super) async fn step(worker: &mut Worker) {
    let ttl = worker.random.random_range(TTLS);
    let begun = worker.begin("grant", None, json!(ttl));
    let granted = worker.client.call::<LeaseGrantResponse>(LeaseGrantRequest { ttl, id: 0 }).await;
    let granted = granted.map(|response| {
        let revision = guarded::revision(response.header.as_ref());
        (response, revision)
    });
    let lease = granted.as_ref().ok().map(|(response, _)| (response.id, response.ttl));
    worker.end(begun, granted.map(|(response, revision)| (json!(response.id), revision)));
    let Some((id, ttl)) = lease else { return };

    let key = format!("{PREFIX}{id}");
    let begun = worker.begin("put", Some(&key), json!(id));
    let request = PutRequest { lease: id, ..guarded::put(&key, id.to_string()) };
    let put = worker.client.call::<PutResponse>(request).await;
    let put = put.map(|response| guarded::revision(response.header.as_ref()));
    let is_put = put.is_ok();
    worker.end(begun, put.map(|revision| (json!(null), revision)));
    if !is_put {
        return;
    }
    for _ in 0..worker.random.random_range(0..=RENEWALS_MAX) {
        let third = Duration::from_millis(u64::try_from(ttl).unwrap_or(1) * 1_000 / 3);
        sleep(third.mul_f64(worker.random.random_range(0.3..1.2))).await;
        keep(worker, id).await;
        if worker.random.random_bool(0.3) {
            let request = LeaseTimeToLiveRequest { id, keys: true };
            // Calls have its answer.
            let _ = worker.client.call::<LeaseTimeToLiveResponse>(request).await;
        }
    }
}

async fn keep(worker: &mut Worker, id: i64) {
    let begun = worker.begin("keep-alive", None, json!(id));
    let request = LeaseKeepAliveRequest { id };
    let kept = worker.client.call::<LeaseKeepAliveResponse>(request).await;
    worker.end(
        begun,
        kept.map(|response| {
            let revision = guarded::revision(response.header.as_ref());
            (json!(response.ttl), revision)
        }),
    );
}
