//! Clients that write keys of their own and read these and others', now and then at another
//! member.
//!
//! Only its own process writes a key, ever greater values, one after the other. Who does not know
//! what became of a write goes on as another process, and so with other keys: when the write comes
//! late, it comes over nothing greater.

use orrery::proto::etcdserverpb::{PutResponse, RangeResponse};
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};
use crate::history::Process;

/// Keys of a process.
const KEYS: u32 = 2;

const MOVING: f64 = 0.1;

/// How far from its own number a process looks for others whose keys it reads.
const NEIGHBOURS: u64 = 12;

pub(super) async fn step(worker: &mut Worker) {
    if worker.random.random_bool(MOVING) {
        let member = worker.random.random_range(0..worker.members);
        worker.client.move_to(member);
    }
    let own = worker.client.process();
    match worker.random.random_range(0..10) {
        0..4 => write(worker, own).await,
        4..8 => read(worker, own).await,
        _ => {
            let nearby = own.saturating_sub(NEIGHBOURS)..=own + NEIGHBOURS;
            let other = worker.random.random_range(nearby);
            read(worker, other).await;
        }
    }
}

async fn write(worker: &mut Worker, owner: Process) {
    let (key, value) = (any(worker, owner), worker.shared.unique());
    let begun = worker.begin("write", Some(&key), json!(value));
    let answered = worker.client.call::<PutResponse>(guarded::put(&key, value.to_string())).await;
    let revision = |response: PutResponse| guarded::revision(response.header.as_ref());
    worker.end(begun, answered.map(|response| (json!(null), revision(response))));
}

async fn read(worker: &mut Worker, owner: Process) {
    let key = any(worker, owner);
    let begun = worker.begin("read", Some(&key), json!(null));
    let answered = worker.client.call::<RangeResponse>(guarded::get(&key)).await;
    let ended = answered.map(|response| {
        let kv = response.kvs.first();
        let value = kv.and_then(|kv| guarded::text(&kv.value).parse::<u64>().ok());
        (json!(value), guarded::revision(response.header.as_ref()))
    });
    worker.end(begun, ended);
}

fn any(worker: &mut Worker, owner: Process) -> String {
    format!("session/{owner}/{}", worker.random.random_range(0..KEYS))
}
