//! A set: each element is a key, put once.

use orrery::proto::etcdserverpb::{PutResponse, RangeResponse};
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};
use crate::client::Failed;

const PREFIX: &str = "set/";

pub(super) async fn step(worker: &mut Worker) {
    if worker.random.random_range(0..10) > 0 {
        add(worker).await;
    } else {
        // Steps have the failure, too.
        let _ = read(worker, "read").await;
    }
}

pub(super) async fn end(worker: &mut Worker) -> Result<(), Failed> {
    read(worker, "final-read").await
}

async fn add(worker: &mut Worker) {
    let element = worker.shared.unique();
    let begun = worker.begin("add", None, json!(element));
    let put = guarded::put(&format!("{PREFIX}{element:08}"), element.to_string());
    let answered = worker.client.call::<PutResponse>(put).await;
    let revision = |response: PutResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
}

async fn read(worker: &mut Worker, f: &'static str) -> Result<(), Failed> {
    let begun = worker.begin(f, None, json!(null));
    let answered = worker.client.call::<RangeResponse>(guarded::prefix(PREFIX)).await;
    let ended = answered.map(|response| {
        let values = response.kvs.iter().map(|kv| guarded::text(&kv.value).parse::<u64>().ok());
        (json!(values.collect::<Vec<_>>()), guarded::revision(response.header.as_ref()))
    });
    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
    worker.end(begun, ended);
    outcome
}
