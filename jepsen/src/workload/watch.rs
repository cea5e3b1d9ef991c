//! Watchers of every kind: of a key or of many, from the past, from now or from the future, with
//! filters, previous values and progress, at any member.

use std::time::Duration;

use orrery::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutResponse, WatchCreateRequest,
    watch_create_request::FilterType,
};
use rand::{Rng, seq::IndexedRandom};
use serde_json::json;

use super::{Worker, guarded};
use crate::{client::Failed, observer};

const PREFIX: &str = "watch/";
const KEYS: u32 = 6;

/// Of the clients, so many watch.
const WATCHERS: usize = 4;

/// Revisions around the newest at which a watch begins.
const REVISIONS_AROUND: i64 = 100;

pub(super) async fn step(worker: &mut Worker) {
    if worker.number < WATCHERS {
        watch(worker).await;
    } else {
        write(worker).await;
    }
}

async fn watch(worker: &mut Worker) {
    let request = any(worker);
    let lasts = Duration::from_millis(worker.random.random_range(300..3_000));
    let name = format!("watcher-{}", worker.number);
    let recorder = worker.client.recorder().clone();
    observer::session(&recorder, name, worker.client.member(), request, lasts).await;
}

fn any(worker: &mut Worker) -> WatchCreateRequest {
    let random = &mut worker.random;
    let range = match random.random_bool(0.6) {
        true => guarded::prefix(PREFIX),
        false => guarded::get(&format!("{PREFIX}{}", random.random_range(0..KEYS))),
    };
    let newest = worker.shared.newest();
    let around = newest - REVISIONS_AROUND..=newest + REVISIONS_AROUND / 4;
    let start_revision = match random.random_bool(0.3) {
        true => 0,
        false => random.random_range(around).max(1),
    };
    let filters =
        [vec![], vec![], vec![FilterType::Noput.into()], vec![FilterType::Nodelete.into()]];
    WatchCreateRequest {
        key: range.key,
        range_end: range.range_end,
        start_revision,
        progress_notify: random.random_bool(0.5),
        filters: filters.choose(random).cloned().unwrap_or_default(),
        prev_kv: random.random_bool(0.5),
        fragment: random.random_bool(0.3),
        ..Default::default()
    }
}

async fn write(worker: &mut Worker) {
    let key = format!("{PREFIX}{}", worker.random.random_range(0..KEYS));
    let f = match worker.random.random_range(0..10) {
        0..6 => "put",
        6..8 => "delete",
        _ => "txn",
    };
    let begun = worker.begin(f, Some(&key), json!(null));
    let ended = match f {
        "put" => put(worker, &key).await,
        "delete" => delete(worker, &key).await,
        _ => several(worker).await,
    };
    worker.end(begun, ended.map(|revision| (json!(null), revision)));
}

async fn put(worker: &mut Worker, key: &str) -> Result<i64, Failed> {
    let value = worker.shared.unique().to_string();
    let response: PutResponse = worker.client.call(guarded::put(key, value)).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

async fn delete(worker: &mut Worker, key: &str) -> Result<i64, Failed> {
    let request = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let response: DeleteRangeResponse = worker.client.call(request).await?;
    Ok(guarded::revision(response.header.as_ref()))
}

/// Several events of one revision, which no watcher may see apart.
async fn several(worker: &mut Worker) -> Result<i64, Failed> {
    let first = worker.random.random_range(0..KEYS);
    let puts = (0..3).map(|at| {
        let key = format!("{PREFIX}{}", (first + at) % KEYS);
        guarded::put(&key, worker.shared.unique().to_string())
    });
    let puts = puts.collect();
    guarded::write(&mut worker.client, Vec::new(), puts).await
}
