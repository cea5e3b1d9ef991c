//! Clients: they write, read, watch and keep leases, and note what they are told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use orrery::{
    node::{self, Freshness},
    proto::{
        command::command::Operation,
        etcdserverpb::{
            Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
            TxnRequest, WatchCreateRequest, WatchResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op,
        },
    },
    state_machine::{self, Rejection},
    types::LeaseId,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::{
    door::{Door, Reply, Request, Trouble},
    history::{Fate, History, Lease, Read, Watcher, Write},
    machine::MEMBERS,
};

/// A client gives up after this, later than a member does.
const PATIENCE: Duration = Duration::from_millis(2500);

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub doors: [Door; MEMBERS],
    /// How often each member has started.
    pub starts: Arc<[AtomicU64; MEMBERS]>,
    pub history: History,
    /// No new requests, please.
    pub finishing: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) async fn call(&self, member: usize, request: Request) -> Result<Reply, Trouble> {
        let answer = timeout(PATIENCE, self.doors[member].call(request)).await;
        answer.unwrap_or(Err(Trouble::Lost))
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Relaxed)
    }

    /// Carries out a write and notes it; the revision after it if it was acknowledged.
    pub(crate) async fn write(&self, member: usize, operation: Operation) -> Result<i64, Trouble> {
        let request = match operation.clone() {
            Operation::Put(put) => Request::Put(put),
            Operation::DeleteRange(delete) => Request::Delete(delete),
            Operation::Txn(txn) => Request::Txn(txn),
            other => panic!("clients do not write {other:?}"),
        };
        let began = self.history.now();
        let reply = self.call(member, request).await;
        let ended = self.history.now();
        let result = reply.map(|reply| match reply {
            Reply::Put(put) => (put.header.unwrap().revision, state_machine::Reply::Put(put)),
            Reply::Delete(delete) => {
                (delete.header.unwrap().revision, state_machine::Reply::DeleteRange(delete))
            }
            Reply::Txn(txn) => (txn.header.unwrap().revision, state_machine::Reply::Txn(txn)),
            other => panic!("{other:?} is no answer to a write"),
        });
        self.history.note(|| {
            let result = result.as_ref().map(|(revision, _)| revision);
            format!("m{} {} -> {result:?}", member + 1, short(&operation))
        });
        let (fate, result) = match result {
            Ok((revision, reply)) => (Fate::Done(reply, revision), Ok(revision)),
            Err(trouble) if trouble.is_definite() => (Fate::Refused, Err(trouble)),
            Err(trouble) => (Fate::Unknown, Err(trouble)),
        };
        self.history.book().writes.push(Write { operation, began, ended, fate });
        result
    }

    pub(crate) async fn read(
        &self,
        member: usize,
        request: RangeRequest,
        freshness: Freshness,
    ) -> Option<i64> {
        let start = self.starts[member].load(Ordering::Relaxed);
        let began = self.history.now();
        let reply = self.call(member, Request::Range(request.clone(), freshness)).await;
        let ended = self.history.now();
        let Ok(Reply::Range(response, revision)) = reply else { return None };
        self.history.note(|| {
            let count = response.count;
            format!("m{} read {freshness:?} -> {count} at {revision}", member + 1)
        });
        let member = (member, start);
        let read = Read { request, freshness, member, began, ended, response, revision };
        self.history.book().reads.push(read);
        Some(revision)
    }
}

fn short(operation: &Operation) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match operation {
        Operation::Put(put) => format!("put {}={}", text(&put.key), text(&put.value)),
        Operation::DeleteRange(delete) => {
            format!("delete {}..{}", text(&delete.key), text(&delete.range_end))
        }
        Operation::Txn(txn) => format!("txn {:?}", txn.compare.first().map(|it| text(&it.key))),
        other => format!("{other:?}"),
    }
}

pub(crate) fn put(key: &str, value: String, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.into());
    PutRequest { key, value, lease, ..PutRequest::default() }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn request(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Changes two keys if the first is still as it was.
fn compare_and_swap(key: &str, mod_revision: i64, value: String) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Compare::default()
    };
    let copy = put(&format!("{key}/copy"), value.clone(), 0);
    TxnRequest {
        compare: vec![compare],
        success: vec![
            request(request_op::Request::RequestPut(put(key, value, 0))),
            request(request_op::Request::RequestPut(copy)),
        ],
        failure: vec![request(request_op::Request::RequestRange(range(key, "")))],
    }
}

/// Writes and reads at one member, and goes to another when there is trouble.
pub(crate) async fn work(shared: Shared, client: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut member = client % MEMBERS;
    let pause_max = random.random_range(10..80u64);
    let mut number = 0;
    while !shared.is_finishing() {
        sleep(Duration::from_millis(random.random_range(1..=pause_max))).await;
        number += 1;
        let key = KEYS[random.random_range(0..KEYS.len())];
        let value = format!("{client}-{number}");
        let fine = match random.random_range(0..20) {
            0..8 => shared.write(member, Operation::Put(put(key, value, 0))).await.is_ok(),
            8 => {
                let range_end = if random.random_bool(0.3) { "c" } else { "" };
                let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
                let delete = DeleteRangeRequest { key, range_end, prev_kv: true };
                shared.write(member, Operation::DeleteRange(delete)).await.is_ok()
            }
            9..13 => swap(&shared, member, key, value).await,
            13..17 => {
                let everything = if random.random_bool(0.5) { "f" } else { "" };
                let fresh = Freshness::Linearizable;
                shared.read(member, range(key, everything), fresh).await.is_some()
            }
            _ => shared.read(member, range("a", "f"), Freshness::Any).await.is_some(),
        };
        if !fine || random.random_bool(0.05) {
            member = random.random_range(0..MEMBERS);
        }
    }
}

/// Takes the key as it stands, perhaps stale, and tries to replace it.
async fn swap(shared: &Shared, member: usize, key: &str, value: String) -> bool {
    let seen = shared.call(member, Request::Range(range(key, ""), Freshness::Any)).await;
    let Ok(Reply::Range(seen, _)) = seen else { return false };
    let mod_revision = seen.kvs.first().map_or(0, |kv| kv.mod_revision);
    let swap = compare_and_swap(key, mod_revision, value);
    shared.write(member, Operation::Txn(swap)).await.is_ok()
}

/// Watches a range through one member after the other, until the end of the run.
pub(crate) async fn watch(shared: Shared, index: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let member = random.random_range(0..MEMBERS);
        let create = {
            let watcher = &shared.history.book().watchers[index];
            WatchCreateRequest {
                key: watcher.key.into(),
                range_end: watcher.range_end.into(),
                start_revision: watcher.next,
                prev_kv: random.random_bool(0.5),
                ..WatchCreateRequest::default()
            }
        };
        let opened = shared.call(member, Request::Watch(create)).await;
        let Ok(Reply::Watching(mut responses)) = opened else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Some go elsewhere for no reason.
        let stay = Duration::from_millis(random.random_range(500..6000));
        let receive = async {
            while let Some(response) = responses.recv().await {
                if !take(&shared.history, index, response) {
                    return;
                }
            }
        };
        let _ = timeout(stay, receive).await;
        shared.history.book().watchers[index].resumed += 1;
    }
}

/// Notes what a watcher was told; whether its stream goes on.
fn take(history: &History, index: usize, response: WatchResponse) -> bool {
    let moment = history.now();
    history.note(|| {
        let head = response.header.as_ref().map_or(0, |header| header.revision);
        format!("watcher {index}: {} events, head {head}", response.events.len())
    });
    let watcher = &mut history.book().watchers[index];
    for event in &response.events {
        let revision = event.kv.as_ref().unwrap().mod_revision;
        watcher.next = watcher.next.max(revision + 1);
        watcher.events.push((moment, (**event).clone()));
    }
    if response.canceled {
        assert!(response.compact_revision > 0, "cancelled: {}", response.cancel_reason);
        if response.compact_revision > watcher.next {
            watcher.gaps.push((watcher.next, response.compact_revision));
            watcher.next = response.compact_revision;
        }
    }
    !response.canceled
}

/// The watchers of every run; the first sees everything.
pub(crate) fn watchers() -> Vec<Watcher> {
    let watcher = |name, key, range_end| Watcher {
        name,
        key,
        range_end,
        events: Vec::new(),
        gaps: Vec::new(),
        next: 2,
        resumed: 0,
    };
    vec![watcher("all", "\0", "\0"), watcher("range", "a", "d"), watcher("key", "b", "")]
}

/// Grants a lease, attaches a key, keeps it alive for a while, and lets it go; again and again.
pub(crate) async fn keep_leases(shared: Shared, client: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    while !shared.is_finishing() {
        number += 1;
        let id = i64::try_from(client * 1000 + number).unwrap();
        let ttl = random.random_range(1..=2);
        keep_lease(&shared, id, ttl, &mut random).await;
        sleep(Duration::from_millis(random.random_range(10..500))).await;
    }
}

async fn keep_lease(shared: &Shared, id: i64, ttl: i64, random: &mut StdRng) {
    let history = &shared.history;
    let lease = Lease { ttl_ms: ttl as u64 * 1000, ..Lease::default() };
    history.book().leases.insert(id, lease);
    let mut member = random.random_range(0..MEMBERS);
    let sent = history.ms();
    let granted = shared.call(member, Request::Grant(LeaseGrantRequest { id, ttl })).await;
    history.note(|| format!("m{} grant {id} for {ttl} s -> {granted:?}", member + 1));
    noted(history, id, |lease| {
        lease.tried = history.ms();
        lease.renewed.extend(granted.is_ok().then_some(sent));
    });
    if granted.is_err() {
        return;
    }
    let asked = Request::TimeToLive(LeaseId::from_wire(id).unwrap());
    if let Ok(Reply::TimeToLive(false)) = shared.call(member, asked).await {
        return noted(history, id, |lease| lease.gone = Some(history.ms()));
    }
    let key = format!("lease/{id}");
    let mut attached = shared.write(member, Operation::Put(put(&key, key.clone(), id))).await;
    let turns = random.random_range(0..8);
    for _ in 0..turns {
        if shared.is_finishing() {
            return;
        }
        let not_found = |trouble: &Trouble| {
            let rejection = Rejection::LeaseNotFound(LeaseId::from_wire(id).unwrap());
            *trouble == Trouble::Error(node::Error::Rejected(rejection))
        };
        if attached.as_ref().is_err_and(not_found) {
            return noted(history, id, |lease| lease.gone = Some(history.ms()));
        }
        attached = Ok(0);
        sleep(Duration::from_millis(random.random_range(200..700))).await;
        let sent = history.ms();
        let kept = shared.call(member, Request::KeepAlive(LeaseId::from_wire(id).unwrap())).await;
        history.note(|| format!("m{} keep {id} alive -> {kept:?}", member + 1));
        noted(history, id, |lease| lease.tried = history.ms());
        match kept {
            Ok(Reply::KeptAlive(Some(_))) => noted(history, id, |lease| lease.renewed.push(sent)),
            Ok(Reply::KeptAlive(None)) => {
                return noted(history, id, |lease| lease.gone = Some(history.ms()));
            }
            Ok(other) => panic!("{other:?} is no answer to a keep-alive"),
            Err(_) => member = random.random_range(0..MEMBERS),
        }
    }
}

fn noted(history: &History, id: i64, change: impl FnOnce(&mut Lease)) {
    change(history.book().leases.get_mut(&id).expect("noted when it was begun"));
}
