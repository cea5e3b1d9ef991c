//! Values that grow, and reads of them without a quorum: each client asks one member.

use orrery::proto::etcdserverpb::{PutResponse, RangeRequest, RangeResponse};
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};

const PREFIX: &str = "serializable/";
const KEYS: u32 = 4;

/// Every so manyth client only reads; with three members, there are some of both kinds at each.
const READERS: usize = 2;

pub(super) async fn step(worker: &mut Worker) {
    let key = format!("{PREFIX}{}", worker.random.random_range(0..KEYS));
    match worker.number.is_multiple_of(READERS) {
        true => read(worker, &key).await,
        false => write(worker, &key).await,
    }
}

async fn write(worker: &mut Worker, key: &str) {
    let value = worker.shared.unique();
    let begun = worker.begin("write", Some(key), json!(value));
    let answered = worker.client.call::<PutResponse>(guarded::put(key, value.to_string())).await;
    let revision = |response: PutResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
}

async fn read(worker: &mut Worker, key: &str) {
    let begun = worker.begin("read", Some(key), json!(null));
    let request = RangeRequest { serializable: true, ..guarded::get(key) };
    let answered = worker.client.call::<RangeResponse>(request).await;
    let ended = answered.map(|response| {
        let kv = response.kvs.first();
        let value = kv.and_then(|kv| guarded::text(&kv.value).parse::<u64>().ok());
        let (changed, revision) =
            (kv.map_or(0, |kv| kv.mod_revision), guarded::revision(response.header.as_ref()));
        (json!({ "value": value, "mod": changed, "revision": revision }), revision)
    });
    worker.end(begun, ended);
}
