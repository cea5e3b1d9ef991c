//! A number that is added to, by compare-and-swap of what was read.

use orrery::proto::etcdserverpb::RangeResponse;
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};
use crate::client::Failed;

const KEY: &str = "counter";

/// Comparisons that may fail before an addition is given up: it then had no effect.
const ATTEMPTS: usize = 5;

pub(super) async fn begin(worker: &mut Worker) -> Result<(), Failed> {
    let put = guarded::put(KEY, "0".to_owned());
    guarded::write(&mut worker.client, Vec::new(), vec![put]).await.map(drop)
}

pub(super) async fn step(worker: &mut Worker) {
    if worker.random.random_range(0..4) == 0 {
        let _ = read(worker, "read").await;
        return;
    }
    let amount = worker.random.random_range(-2i64..=5);
    let begun = worker.begin("add", None, json!(amount));
    let added = add(worker, amount).await;
    worker.end(begun, added.map(|revision| (json!(null), revision)));
}

pub(super) async fn end(worker: &mut Worker) -> Result<(), Failed> {
    read(worker, "final-read").await
}

async fn add(worker: &mut Worker, amount: i64) -> Result<i64, Failed> {
    for _ in 0..ATTEMPTS {
        let response: RangeResponse =
            worker.client.call(guarded::get(KEY)).await.map_err(|failed| {
                // A read that fails has added nothing.
                Failed::Surely(failed.failure().clone())
            })?;
        let (value, changed) = number(&response);
        let put = guarded::put(KEY, (value + amount).to_string());
        let compare = vec![guarded::unchanged(KEY, changed)];
        match guarded::write(&mut worker.client, compare, vec![put]).await {
            Err(refused) if refused == guarded::refused() => continue,
            ended => return ended,
        }
    }
    Err(guarded::refused())
}

async fn read(worker: &mut Worker, f: &'static str) -> Result<(), Failed> {
    let begun = worker.begin(f, None, json!(null));
    let answered = worker.client.call::<RangeResponse>(guarded::get(KEY)).await;
    let ended = answered
        .map(|response| (json!(number(&response).0), guarded::revision(response.header.as_ref())));
    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
    worker.end(begun, ended);
    outcome
}

/// The value and the revision it is of; 0 and 0 where there is none.
fn number(response: &RangeResponse) -> (i64, i64) {
    let kv = response.kvs.first();
    let value = kv.and_then(|kv| guarded::text(&kv.value).parse().ok()).unwrap_or(0);
    (value, kv.map_or(0, |kv| kv.mod_revision))
}
