//! Transactions over several keys: appends to lists, or writes of registers, between reads.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use serde_json::{Value, json};

use super::{Worker, guarded};
use crate::client::Failed;

/// Keys that are in use at a time.
const KEYS: u64 = 3;

/// Transactions before a key is left for a new one: lists stay short.
const TRANSACTIONS: u64 = 60;

const OPERATIONS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Append,
    Write,
}

impl Kind {
    fn f(self) -> &'static str {
        match self {
            Kind::Append => "append",
            Kind::Write => "w",
        }
    }
}

/// One operation of a transaction, in Elle's shape.
struct Micro {
    key: String,
    /// `None` reads.
    value: Option<u64>,
}

pub(super) async fn step(worker: &mut Worker, kind: Kind) {
    let epoch = worker.shared.unique() / (KEYS * TRANSACTIONS);
    let operations: Vec<Micro> = (0..worker.random.random_range(1..=OPERATIONS_MAX))
        .map(|_| {
            let number = epoch * KEYS + worker.random.random_range(0..KEYS);
            let writes = worker.random.random_bool(0.5);
            let value = writes.then(|| worker.shared.unique());
            Micro { key: format!("{}/{number}", kind.f()), value }
        })
        .collect();
    let asked = |value: &Micro| match value.value {
        Some(number) => json!([kind.f(), value.key, number]),
        None => json!(["r", value.key, null]),
    };
    let begun = worker.begin("txn", None, operations.iter().map(asked).collect());
    let ended = transact(worker, kind, &operations).await;
    worker.end(begun, ended);
}

async fn transact(
    worker: &mut Worker,
    kind: Kind,
    operations: &[Micro],
) -> Result<(Value, i64), Failed> {
    let keys: BTreeSet<String> = operations.iter().map(|it| it.key.clone()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let read = guarded::read(&mut worker.client, &keys).await;
    let (found, revision) = read.map_err(|failed| Failed::Surely(failed.failure().clone()))?;
    let value = |key: &String| {
        let kv = found.get(key)?;
        serde_json::from_str::<Value>(&guarded::text(&kv.value)).ok()
    };
    let mut state: BTreeMap<String, Option<Value>> =
        keys.iter().map(|key| (key.clone(), value(key))).collect();
    let mut written = BTreeSet::new();
    let mut results = Vec::new();
    for Micro { key, value } in operations {
        let held = state.entry(key.clone()).or_default();
        let Some(number) = value else {
            results.push(json!(["r", key, held]));
            continue;
        };
        written.insert(key.clone());
        results.push(json!([kind.f(), key, number]));
        match (kind, held.as_mut().and_then(Value::as_array_mut)) {
            (Kind::Append, Some(list)) => list.push(json!(number)),
            (Kind::Append, None) => *held = Some(json!([number])),
            (Kind::Write, _) => *held = Some(json!(number)),
        }
    }
    if written.is_empty() {
        return Ok((results.into(), revision));
    }
    let changed = |key: &String| found.get(key).map_or(0, |kv| kv.mod_revision);
    let compares = keys.iter().map(|key| guarded::unchanged(key, changed(key))).collect();
    let puts = written.iter().map(|key| {
        let value = state.get(key).cloned().flatten().unwrap_or_default();
        guarded::put(key, value.to_string())
    });
    let revision = guarded::write(&mut worker.client, compares, puts.collect()).await?;
    Ok((results.into(), revision))
}
