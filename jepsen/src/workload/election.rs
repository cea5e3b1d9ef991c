//! An election: candidates who lead for some time, also longer than their lease lives, and
//! observers who look who leads.

use std::time::Duration;

use bytes::Bytes;
use orrery::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use rand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::{Worker, guarded, leased::Lease};
use crate::client::{Failed, NO_LEADER};

const NAME: &str = "election";

/// In seconds.
const TTL: i64 = 3;

/// Of the clients, so many only look.
const OBSERVERS: usize = 4;

const PROCLAMATIONS_MAX: u32 = 6;

/// Between two proclamations, in milliseconds.
const THOUGHT: std::ops::Range<u64> = 5..50;

/// Of all proclamations, so many are by somebody who has slept until its lease was over.
const OUTLIVING: f64 = 0.02;

/// Of all proclamations, so many come after the lease was renewed.
const KEPT: f64 = 0.3;

/// The others leave their key to the end of their lease.
const RESIGNING: f64 = 0.8;

const MOVING: f64 = 0.05;

pub(super) async fn step(worker: &mut Worker) {
    if worker.number < OBSERVERS {
        return observe(worker).await;
    }
    // Calls have the failure.
    let Ok(lease) = Lease::grant(&mut worker.client, TTL).await else { return };
    if let Some(leader) = campaign(worker, &lease).await {
        lead(worker, &lease, &leader).await;
        if worker.random.random_bool(RESIGNING) {
            resign(worker, leader).await;
        }
    }
    lease.revoke(&mut worker.client).await;
}

async fn observe(worker: &mut Worker) {
    if worker.random.random_bool(MOVING) {
        let member = worker.random.random_range(0..worker.members);
        worker.client.move_to(member);
    }
    let begun = worker.begin("leader", None, json!(null));
    let request = LeaderRequest { name: NAME.into() };
    let ended = match worker.client.call::<LeaderResponse>(request).await {
        Ok(response) => {
            let leader = response.kv.map(|kv| {
                let value = guarded::text(&kv.value);
                json!({ "revision": kv.create_revision, "value": value })
            });
            Ok((json!(leader), guarded::revision(response.header.as_ref())))
        }
        Err(failed) if failed.failure().message == NO_LEADER => Ok((json!(null), 0)),
        Err(failed) => Err(failed),
    };
    worker.end(begun, ended);
}

async fn campaign(worker: &mut Worker, lease: &Lease) -> Option<LeaderKey> {
    let words = words(worker);
    let begun = worker.begin("campaign", None, json!(words));
    let value = Bytes::from(words);
    let request = CampaignRequest { name: NAME.into(), lease: lease.id, value };
    let won = lease.wait::<CampaignResponse>(&mut worker.client, request).await;
    let leader = won.as_ref().ok().and_then(|response| response.leader.clone());
    let ended = won.map(|response| {
        let leader = response.leader.unwrap_or_default();
        let key = guarded::text(&leader.key);
        let result = json!({ "key": key, "revision": leader.rev, "lease": leader.lease });
        (result, guarded::revision(response.header.as_ref()))
    });
    worker.end(begun, ended);
    leader
}

/// Until it is told that it does not lead any more, or does not know, or has said enough.
async fn lead(worker: &mut Worker, lease: &Lease, leader: &LeaderKey) {
    for _ in 0..worker.random.random_range(1..=PROCLAMATIONS_MAX) {
        if worker.random.random_bool(OUTLIVING) {
            lease.outlive(worker).await;
        } else {
            sleep(Duration::from_millis(worker.random.random_range(THOUGHT))).await;
            if worker.random.random_bool(KEPT) {
                lease.keep(&mut worker.client).await;
            }
        }
        if proclaim(worker, leader).await.is_err() {
            return;
        }
    }
}

async fn proclaim(worker: &mut Worker, leader: &LeaderKey) -> Result<(), Failed> {
    let words = words(worker);
    let begun = worker.begin("proclaim", None, json!(words));
    let request = ProclaimRequest { leader: Some(leader.clone()), value: Bytes::from(words) };
    let answered = worker.client.call::<ProclaimResponse>(request).await;
    let outcome = answered.as_ref().map(drop).map_err(Clone::clone);
    let revision = |response: ProclaimResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
    outcome
}

async fn resign(worker: &mut Worker, leader: LeaderKey) {
    let begun = worker.begin("resign", None, json!(null));
    let request = ResignRequest { leader: Some(leader) };
    let answered = worker.client.call::<ResignResponse>(request).await;
    let revision = |response: ResignResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
}

/// Said once in a run.
fn words(worker: &Worker) -> String {
    format!("words {}", worker.shared.unique())
}
