//! Registers, as Jepsen's test of etcd has them.

use orrery::proto::etcdserverpb::{PutResponse, RangeResponse};
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};

/// Registers that are in use at a time.
const REGISTERS: u64 = 3;

/// Operations on a register before it is left for a new one: more are slow to check.
const OPERATIONS: u64 = 120;

/// Few, so that a comparison often holds.
const VALUES: u32 = 5;

pub(super) async fn step(worker: &mut Worker) {
    let epoch = worker.shared.unique() / (REGISTERS * OPERATIONS);
    let number = epoch * REGISTERS + worker.random.random_range(0..REGISTERS);
    let key = format!("register/{number}");
    // Half of the clients only read: who writes waits long when nobody leads.
    match worker.random.random_range(0..2) {
        _ if worker.number.is_multiple_of(2) => read(worker, &key).await,
        0 => write(worker, &key).await,
        _ => cas(worker, &key).await,
    }
}

async fn read(worker: &mut Worker, key: &str) {
    let begun = worker.begin("read", Some(key), json!(null));
    let answered = worker.client.call::<RangeResponse>(guarded::get(key)).await;
    let ended = answered.map(|response| {
        let kv = response.kvs.first();
        let value = kv.and_then(|kv| guarded::text(&kv.value).parse::<u32>().ok());
        let (version, changed) = kv.map_or((0, 0), |kv| (kv.version, kv.mod_revision));
        let result = json!({ "value": value, "version": version, "mod": changed });
        (result, guarded::revision(response.header.as_ref()))
    });
    worker.end(begun, ended);
}

async fn write(worker: &mut Worker, key: &str) {
    let value = worker.random.random_range(0..VALUES);
    let begun = worker.begin("write", Some(key), json!(value));
    let answered = worker.client.call::<PutResponse>(guarded::put(key, value.to_string())).await;
    let revision = |response: PutResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
}

async fn cas(worker: &mut Worker, key: &str) {
    let (old, new) = (worker.random.random_range(0..VALUES), worker.random.random_range(0..VALUES));
    let begun = worker.begin("cas", Some(key), json!([old, new]));
    let compare = guarded::has_value(key, old.to_string());
    let put = guarded::put(key, new.to_string());
    let written = guarded::write(&mut worker.client, vec![compare], vec![put]).await;
    worker.end(begun, written.map(|revision| (json!(null), revision)));
}
