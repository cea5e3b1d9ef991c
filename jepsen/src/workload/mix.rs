//! Everything that the key space offers, in the proportions of etcd's own robustness tests: the
//! replay of the whole history is what checks it.

use orrery::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};
use rand::Rng;
use serde_json::json;

use super::{Worker, guarded};
use crate::client::Failed;

const PREFIX: &str = "mix/";
const KEYS: u32 = 10;

/// In seconds; ends within a run, so that leases also expire.
const TTLS: std::ops::RangeInclusive<i64> = 2..=6;

/// Revisions that a compaction leaves.
const REVISIONS_KEPT: i64 = 100;

pub(super) async fn step(worker: &mut Worker) {
    let (f, key) = match worker.random.random_range(0..100) {
        0..28 => ("put", true),
        28..40 => ("get", true),
        40..50 => ("list", false),
        50..60 => ("stale-get", true),
        60..66 => ("old-list", false),
        66..74 => ("delete", true),
        74..84 => ("txn", false),
        84..90 => ("cas", true),
        90..93 => ("grant", false),
        93..97 => ("put-leased", true),
        97..98 => ("revoke", false),
        _ => ("compact", false),
    };
    let name = format!("{PREFIX}{}", worker.random.random_range(0..KEYS));
    let begun = worker.begin(f, key.then_some(name.as_str()), json!(null));
    let ended = send(worker, f, &name).await;
    worker.end(begun, ended.map(|revision| (json!(null), revision)));
}

async fn send(worker: &mut Worker, f: &str, key: &str) -> Result<i64, Failed> {
    match f {
        "put" => write(worker, key, 0).await,
        "get" => range(worker, guarded::get(key)).await,
        "list" => {
            let request = any_list(worker);
            range(worker, request).await
        }
        "stale-get" => {
            range(worker, RangeRequest { serializable: true, ..guarded::get(key) }).await
        }
        "old-list" => {
            let newest = worker.shared.newest().max(2);
            let revision = worker.random.random_range((newest - REVISIONS_KEPT).max(1)..=newest);
            let serializable = worker.random.random_bool(0.5);
            range(worker, RangeRequest { revision, serializable, ..guarded::prefix(PREFIX) }).await
        }
        "delete" => {
            let request = DeleteRangeRequest {
                key: key.to_owned().into(),
                prev_kv: worker.random.random_bool(0.5),
                ..Default::default()
            };
            let response: DeleteRangeResponse = worker.client.call(request).await?;
            Ok(guarded::revision(response.header.as_ref()))
        }
        "txn" => txn(worker).await,
        "cas" => cas(worker, key).await,
        "grant" => grant(worker).await,
        "put-leased" => {
            let lease = worker.shared.leases().last().copied().unwrap_or(0);
            write(worker, key, lease).await
        }
        "revoke" => revoke(worker).await,
        _ => compact(worker).await,
    }
}

async fn range(worker: &mut Worker, request: RangeRequest) -> Result<i64, Failed> {
    let response: RangeResponse = worker.client.call(request).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

fn any_list(worker: &mut Worker) -> RangeRequest {
    let random = &mut worker.random;
    let limit = if random.random_bool(0.5) { random.random_range(1..KEYS.into()) } else { 0 };
    let mut request = RangeRequest { limit, ..guarded::prefix(PREFIX) };
    match random.random_range(0..5) {
        0 => request.keys_only = true,
        1 => request.count_only = true,
        2 => {
            request.set_sort_target(SortTarget::Mod);
            request.set_sort_order(SortOrder::Descend);
        }
        3 => request.min_mod_revision = worker.shared.newest() - REVISIONS_KEPT / 2,
        _ => {}
    }
    request
}

/// Each value is of one put only, so that events tell which put they are of.
async fn write(worker: &mut Worker, key: &str, lease: i64) -> Result<i64, Failed> {
    let value = worker.shared.unique().to_string();
    let prev_kv = worker.random.random_bool(0.3);
    let request = PutRequest { lease, prev_kv, ..guarded::put(key, value) };
    let response: PutResponse = worker.client.call(request).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

/// Puts, reads and deletes of several keys at once.
async fn txn(worker: &mut Worker) -> Result<i64, Failed> {
    let first = worker.random.random_range(0..KEYS);
    let operations = (0..worker.random.random_range(2..=4)).map(|at| {
        let key = format!("{PREFIX}{}", (first + at) % KEYS);
        guarded::operation(match worker.random.random_range(0..4) {
            0 => Request::RequestRange(guarded::get(&key)),
            1 => Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.into(),
                prev_kv: true,
                ..Default::default()
            }),
            _ => Request::RequestPut(guarded::put(&key, worker.shared.unique().to_string())),
        })
    });
    let request = TxnRequest { success: operations.collect(), ..Default::default() };
    let response: TxnResponse = worker.client.call(request).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

async fn cas(worker: &mut Worker, key: &str) -> Result<i64, Failed> {
    let response: RangeResponse = worker
        .client
        .call(guarded::get(key))
        .await
        .map_err(|failed| Failed::Surely(failed.failure().clone()))?;
    let changed = response.kvs.first().map_or(0, |kv| kv.mod_revision);
    let put = guarded::put(key, worker.shared.unique().to_string());
    guarded::write(&mut worker.client, vec![guarded::unchanged(key, changed)], vec![put]).await
}

async fn grant(worker: &mut Worker) -> Result<i64, Failed> {
    let ttl = worker.random.random_range(TTLS);
    let id = i64::try_from(worker.shared.unique()).unwrap_or(i64::MAX) + 1;
    let request = LeaseGrantRequest { ttl, id };
    let response: LeaseGrantResponse = worker.client.call(request).await?;
    worker.shared.leases().push(response.id);
    Ok(guarded::revision(response.header.as_ref()))
}

async fn revoke(worker: &mut Worker) -> Result<i64, Failed> {
    let Some(id) = worker.shared.leases().pop() else { return Ok(0) };
    let response: LeaseRevokeResponse = worker.client.call(LeaseRevokeRequest { id }).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

/// Never above what is recorded: the whole history must stay known.
async fn compact(worker: &mut Worker) -> Result<i64, Failed> {
    let revision = worker.shared.recorded() - REVISIONS_KEPT;
    if revision < 1 {
        return Ok(0);
    }
    let physical = worker.random.random_bool(0.3);
    let request = CompactionRequest { revision, physical };
    let response: CompactionResponse = worker.client.call(request).await?;
    Ok(guarded::revision(response.header.as_ref()))
}
