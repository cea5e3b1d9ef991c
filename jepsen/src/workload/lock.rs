//! A lock that clients take in turn, to add elements while they have it. Some keep it longer than
//! their lease lives, so that two believe to have it.

use std::time::Duration;

use bytes::Bytes;
use orrery::proto::{
    etcdserverpb::{PutResponse, RangeResponse},
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Worker, guarded, leased::Lease};
use crate::{client::Failed, history::Failure};

const NAME: &str = "lock";

/// In seconds; as short as a member grants.
const TTL: i64 = 2;

/// Elements, each a key of its own, where adds are fenced.
const PREFIX: &str = "element/";

/// All elements, where adds are not fenced.
const LIST: &str = "elements";

/// Before the lock is given to the next.
const ADDS_MAX: u32 = 4;

/// Of all adds, so many are by somebody who has slept until its lease was over.
const OUTLIVING: f64 = 0.02;

/// Of all adds, so many come after the lease was renewed.
const KEPT: f64 = 0.2;

/// What whoever has a lock thinks about before an add, in milliseconds.
const THOUGHT: std::ops::Range<u64> = 1..20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An add is carried out only while the lock's key is there.
    Fenced,
    /// What was read is written back with one more element, whoever has the lock by then.
    Unfenced,
}

/// The lock as it was when somebody got it.
struct Held {
    key: String,
    /// The revision that made the key.
    revision: i64,
}

pub(super) async fn step(worker: &mut Worker, kind: Kind) {
    // Calls have the failure.
    let Ok(lease) = Lease::grant(&mut worker.client, TTL).await else { return };
    if let Some(held) = acquire(worker, &lease).await {
        for _ in 0..worker.random.random_range(1..=ADDS_MAX) {
            add(worker, kind, &lease, &held).await;
        }
        release(worker, &held).await;
    }
    lease.revoke(&mut worker.client).await;
}

pub(super) async fn end(worker: &mut Worker, kind: Kind) -> Result<(), Failed> {
    let begun = worker.begin("final-read", None, json!(null));
    let request = match kind {
        Kind::Fenced => guarded::prefix(PREFIX),
        Kind::Unfenced => guarded::get(LIST),
    };
    let answered = worker.client.call::<RangeResponse>(request).await;
    let ended = answered.map(|response| {
        let elements = match kind {
            Kind::Fenced => response.kvs.iter().map(|kv| number(&kv.value)).collect(),
            Kind::Unfenced => list(&response),
        };
        (json!(elements), guarded::revision(response.header.as_ref()))
    });
    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
    worker.end(begun, ended);
    outcome
}

async fn acquire(worker: &mut Worker, lease: &Lease) -> Option<Held> {
    let begun = worker.begin("acquire", None, json!(null));
    let acquired = wait(worker, lease).await;
    let ended = acquired.as_ref().map_err(Clone::clone);
    worker.end(
        begun,
        ended.map(|(held, now)| (json!({ "key": held.key, "revision": held.revision }), *now)),
    );
    acquired.ok().map(|(held, _)| held)
}

/// The lock, with the revision at which its key was seen. That of the answer is not the key's.
async fn wait(worker: &mut Worker, lease: &Lease) -> Result<(Held, i64), Failed> {
    let request = LockRequest { name: NAME.into(), lease: lease.id };
    let locked: LockResponse = lease.wait(&mut worker.client, request).await?;
    let key = guarded::text(&locked.key);
    let response: RangeResponse = worker.client.call(guarded::get(&key)).await?;
    match response.kvs.first() {
        Some(kv) => Ok((
            Held { key, revision: kv.create_revision },
            guarded::revision(response.header.as_ref()),
        )),
        None => Err(Failed::Surely(Failure {
            code: "NotFound".to_owned(),
            message: "the lock is lost already".to_owned(),
        })),
    }
}

async fn add(worker: &mut Worker, kind: Kind, lease: &Lease, held: &Held) {
    let element = worker.shared.unique();
    let begun = worker.begin("add", None, json!(element));
    let ended = match kind {
        Kind::Fenced => add_fenced(worker, lease, held, element).await,
        Kind::Unfenced => add_unfenced(worker, lease, element).await,
    };
    worker.end(begun, ended);
}

async fn add_fenced(
    worker: &mut Worker,
    lease: &Lease,
    held: &Held,
    element: u64,
) -> Result<(Value, i64), Failed> {
    think(worker, lease).await;
    let put = guarded::put(&format!("{PREFIX}{element:08}"), element.to_string());
    let fence = vec![guarded::created(&held.key, held.revision)];
    let revision = guarded::write(&mut worker.client, fence, vec![put]).await?;
    Ok((json!({ "lock": held.revision, "revision": revision }), revision))
}

async fn add_unfenced(
    worker: &mut Worker,
    lease: &Lease,
    element: u64,
) -> Result<(Value, i64), Failed> {
    let response: RangeResponse = worker
        .client
        .call(guarded::get(LIST))
        .await
        .map_err(|failed| Failed::Surely(failed.failure().clone()))?;
    let mut elements = list(&response);
    elements.push(element);
    think(worker, lease).await;
    let put = guarded::put(LIST, json!(elements).to_string());
    let response: PutResponse = worker.client.call(put).await?;
    Ok((json!(null), guarded::revision(response.header.as_ref())))
}

/// What happens between the moment of getting the lock and that of using it.
async fn think(worker: &mut Worker, lease: &Lease) {
    if worker.random.random_bool(OUTLIVING) {
        return lease.outlive(worker).await;
    }
    sleep(Duration::from_millis(worker.random.random_range(THOUGHT))).await;
    if worker.random.random_bool(KEPT) {
        lease.keep(&mut worker.client).await;
    }
}

async fn release(worker: &mut Worker, held: &Held) {
    let begun = worker.begin("release", None, json!(null));
    let request = UnlockRequest { key: Bytes::from(held.key.clone()) };
    let unlocked = worker.client.call::<UnlockResponse>(request).await;
    let revision = |response: UnlockResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, unlocked.map(|response| (json!(null), revision(response))));
}

/// The elements of the list that a read of its key found.
fn list(response: &RangeResponse) -> Vec<u64> {
    let kv = response.kvs.first();
    kv.and_then(|kv| serde_json::from_slice(&kv.value).ok()).unwrap_or_default()
}

fn number(value: &[u8]) -> u64 {
    guarded::text(value).parse().unwrap_or(u64::MAX)
}
