//! Accounts: transfers change two at once, the total never.

use orrery::proto::etcdserverpb::{RangeRequest, RangeResponse};
use rand::Rng;
use serde_json::{Value, json};

use super::{Worker, guarded};
use crate::client::Failed;

const PREFIX: &str = "account/";
const ACCOUNTS: u32 = 6;
const BALANCE: i64 = 20;
const TRANSFER_MAX: i64 = 5;

/// How far back old revisions are read.
const REVISIONS_BACK: i64 = 200;

pub(super) async fn begin(worker: &mut Worker) -> Result<(), Failed> {
    let begun = worker.begin("init", None, json!(null));
    let puts = (0..ACCOUNTS).map(|at| guarded::put(&account(at), BALANCE.to_string())).collect();
    let written = guarded::write(&mut worker.client, Vec::new(), puts).await;
    let all: serde_json::Map<String, Value> =
        (0..ACCOUNTS).map(|at| (account(at), json!(BALANCE))).collect();
    let outcome = written.as_ref().map(drop).map_err(Clone::clone);
    worker.end(begun, written.map(|revision| (Value::Object(all), revision)));
    outcome
}

pub(super) async fn step(worker: &mut Worker) {
    match worker.random.random_range(0..10) {
        0..5 => transfer(worker).await,
        5..8 => drop(read(worker, "read", 0).await),
        _ => {
            let newest = worker.shared.newest();
            let oldest = (newest - REVISIONS_BACK).max(worker.shared.recorded().min(3)).max(3);
            if newest > oldest {
                let revision = worker.random.random_range(oldest..=newest);
                drop(read(worker, "read-old", revision).await);
            }
        }
    }
}

pub(super) async fn end(worker: &mut Worker) -> Result<(), Failed> {
    read(worker, "read", 0).await
}

async fn transfer(worker: &mut Worker) {
    let from = worker.random.random_range(0..ACCOUNTS);
    let to = (from + worker.random.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let amount = worker.random.random_range(1..=TRANSFER_MAX);
    let value = json!({ "from": account(from), "to": account(to), "amount": amount });
    let begun = worker.begin("transfer", None, value);
    let ended = move_money(worker, &[account(from), account(to)], amount).await;
    worker.end(begun, ended.map(|revision| (json!(null), revision)));
}

async fn move_money(
    worker: &mut Worker,
    accounts: &[String; 2],
    amount: i64,
) -> Result<i64, Failed> {
    let read = guarded::read(&mut worker.client, accounts).await;
    let (found, _) = read.map_err(|failed| Failed::Surely(failed.failure().clone()))?;
    let [from, to] = accounts;
    let (Some(source), Some(target)) = (found.get(from), found.get(to)) else {
        return Err(guarded::refused());
    };
    let balance = |text: &[u8]| guarded::text(text).parse::<i64>().unwrap_or(0);
    let (left, more) = (balance(&source.value) - amount, balance(&target.value) + amount);
    if left < 0 {
        return Err(guarded::refused());
    }
    let compares = vec![
        guarded::unchanged(from, source.mod_revision),
        guarded::unchanged(to, target.mod_revision),
    ];
    let puts = vec![guarded::put(from, left.to_string()), guarded::put(to, more.to_string())];
    guarded::write(&mut worker.client, compares, puts).await
}

/// All accounts at once, now (revision 0) or as they were.
async fn read(worker: &mut Worker, f: &'static str, revision: i64) -> Result<(), Failed> {
    let value = if revision == 0 { json!(null) } else { json!({ "revision": revision }) };
    let begun = worker.begin(f, None, value);
    let request = RangeRequest { revision, ..guarded::prefix(PREFIX) };
    let answered = worker.client.call::<RangeResponse>(request).await;
    let ended = answered.map(|response| {
        let accounts = response.kvs.iter().map(|kv| {
            let balance = guarded::text(&kv.value).parse::<i64>().ok();
            (guarded::text(&kv.key), json!(balance))
        });
        (Value::Object(accounts.collect()), guarded::revision(response.header.as_ref()))
    });
    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
    worker.end(begun, ended);
    outcome
}

fn account(at: u32) -> String {
    format!("{PREFIX}{at}")
}
