//! Cutting a program down to the shortest that still shows what it shows.

use std::collections::BTreeSet;

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    request_op::Request as Operation,
};

use super::{
    program::Program,
    request::{CHOSEN, Request},
};

/// Programs that are tried at most. Some take seconds.
const MOST_ATTEMPTS: usize = 400;
/// The same for programs that need servers of their own.
const MOST_FRESH_ATTEMPTS: usize = 60;

/// Drops requests and simplifies those that stay, as long as `shows` holds; false if it does not
/// even hold for the whole.
pub(crate) async fn shrink(
    mut program: Program,
    mut shows: impl AsyncFnMut(&Program) -> bool,
) -> bool {
    if !shows(&program).await {
        return false;
    }
    let mut left = if program.fresh { MOST_FRESH_ATTEMPTS } else { MOST_ATTEMPTS };
    loop {
        let before = program.requests.clone();
        drop_requests(&mut program, &mut left, &mut shows).await;
        simplify_requests(&mut program, &mut left, &mut shows).await;
        if program.requests == before || left == 0 {
            return true;
        }
    }
}

/// First many at once, then fewer.
async fn drop_requests(
    program: &mut Program,
    left: &mut usize,
    shows: &mut impl AsyncFnMut(&Program) -> bool,
) {
    let (mut at, mut chunk) = (0, program.requests.len());
    while chunk > 0 && *left > 0 {
        let mut shorter = program.clone();
        let end = (at + chunk).min(shorter.requests.len());
        shorter.requests.drain(at..end);
        if attempt(&shorter, left, shows).await {
            *program = shorter;
        } else {
            at += chunk;
        }
        if at >= program.requests.len() {
            (at, chunk) = (0, chunk / 2);
        }
    }
}

async fn simplify_requests(
    program: &mut Program,
    left: &mut usize,
    shows: &mut impl AsyncFnMut(&Program) -> bool,
) {
    let mut at = 0;
    'requests: while at < program.requests.len() && *left > 0 {
        for simpler in simpler(&program.requests[at]) {
            let mut candidate = program.clone();
            candidate.requests[at] = simpler;
            if attempt(&candidate, left, shows).await {
                *program = candidate;
                continue 'requests;
            }
        }
        at += 1;
    }
}

async fn attempt(
    candidate: &Program,
    left: &mut usize,
    shows: &mut impl AsyncFnMut(&Program) -> bool,
) -> bool {
    if *left == 0 || candidate.requests.is_empty() || !is_whole(&candidate.requests) {
        return false;
    }
    *left -= 1;
    shows(candidate).await
}

/// Whether streams are opened and leases chosen before they are named.
fn is_whole(requests: &[Request]) -> bool {
    let mut open = BTreeSet::new();
    let mut chosen = false;
    requests.iter().all(|request| {
        match request {
            Request::Watch { stream, .. } => drop(open.insert(stream)),
            Request::Grant(LeaseGrantRequest { id: 0, .. }) => chosen = true,
            _ => (),
        }
        let is_open = match request {
            Request::Cancel { stream, .. } | Request::Progress { stream } => open.contains(stream),
            _ => true,
        };
        is_open && (chosen || !names_chosen(request))
    })
}

fn names_chosen(request: &Request) -> bool {
    format!("{request:?}").contains(&CHOSEN.to_string())
}

/// Requests that say a little less. Each of them is smaller than what it came from.
fn simpler(request: &Request) -> Vec<Request> {
    let mut found: Vec<Request> = match request {
        Request::Put(put) => simpler_put(put).into_iter().map(Request::Put).collect(),
        Request::Range(range) => simpler_range(range).into_iter().map(Request::Range).collect(),
        Request::RangeStream(range) => {
            simpler_range(range).into_iter().map(Request::RangeStream).collect()
        }
        Request::Txn(txn) => simpler_txn(txn).into_iter().map(Request::Txn).collect(),
        Request::Watch { stream, create } => simpler_watch(create)
            .into_iter()
            .map(|create| Request::Watch { stream: stream.clone(), create })
            .collect(),
        _ => Vec::new(),
    };
    found.retain(|simpler| simpler != request);
    found
}

fn simpler_put(put: &PutRequest) -> Vec<PutRequest> {
    vec![
        PutRequest { key: put.key.clone(), value: put.value.clone(), ..PutRequest::default() },
        PutRequest { prev_kv: false, ..put.clone() },
        PutRequest { lease: 0, ..put.clone() },
        PutRequest { ignore_lease: false, ..put.clone() },
        PutRequest { ignore_value: false, ..put.clone() },
        PutRequest { value: Bytes::new(), ..put.clone() },
    ]
}

fn simpler_range(range: &RangeRequest) -> Vec<RangeRequest> {
    let (key, range_end) = (range.key.clone(), range.range_end.clone());
    vec![
        RangeRequest { key, range_end, ..RangeRequest::default() },
        RangeRequest { limit: 0, ..range.clone() },
        RangeRequest { revision: 0, ..range.clone() },
        RangeRequest { sort_order: 0, ..range.clone() },
        RangeRequest { sort_target: 0, ..range.clone() },
        RangeRequest { serializable: false, ..range.clone() },
        RangeRequest { keys_only: false, ..range.clone() },
        RangeRequest { count_only: false, ..range.clone() },
        RangeRequest { min_mod_revision: 0, ..range.clone() },
        RangeRequest { max_mod_revision: 0, ..range.clone() },
        RangeRequest { min_create_revision: 0, ..range.clone() },
        RangeRequest { max_create_revision: 0, ..range.clone() },
        RangeRequest { range_end: Bytes::new(), ..range.clone() },
    ]
}

fn simpler_watch(watch: &WatchCreateRequest) -> Vec<WatchCreateRequest> {
    vec![
        WatchCreateRequest { prev_kv: false, ..watch.clone() },
        WatchCreateRequest { progress_notify: false, ..watch.clone() },
        WatchCreateRequest { fragment: false, ..watch.clone() },
        WatchCreateRequest { filters: Vec::new(), ..watch.clone() },
        WatchCreateRequest { start_revision: 0, ..watch.clone() },
        WatchCreateRequest { watch_id: 0, ..watch.clone() },
        WatchCreateRequest { range_end: Bytes::new(), ..watch.clone() },
    ]
}

/// One part less, or one part simpler.
fn simpler_txn(txn: &TxnRequest) -> Vec<TxnRequest> {
    let mut found = Vec::new();
    for at in 0..txn.compare.len() {
        let mut shorter = txn.clone();
        shorter.compare.remove(at);
        found.push(shorter);
        if !txn.compare[at].range_end.is_empty() {
            let mut simpler = txn.clone();
            simpler.compare[at].range_end = Bytes::new();
            found.push(simpler);
        }
    }
    let success = simpler_branch(&txn.success).into_iter();
    found.extend(success.map(|success| TxnRequest { success, ..txn.clone() }));
    let failure = simpler_branch(&txn.failure).into_iter();
    found.extend(failure.map(|failure| TxnRequest { failure, ..txn.clone() }));
    found
}

fn simpler_branch(branch: &[RequestOp]) -> Vec<Vec<RequestOp>> {
    let mut found = Vec::new();
    for (at, operation) in branch.iter().enumerate() {
        let mut shorter = branch.to_vec();
        shorter.remove(at);
        found.push(shorter);
        for simpler in simpler_operation(operation) {
            let mut candidate = branch.to_vec();
            candidate[at] = RequestOp { request: Some(simpler) };
            found.push(candidate);
        }
    }
    found.retain(|candidate| candidate != branch);
    found
}

fn simpler_operation(operation: &RequestOp) -> Vec<Operation> {
    match &operation.request {
        Some(Operation::RequestPut(put)) => {
            simpler_put(put).into_iter().map(Operation::RequestPut).collect()
        }
        Some(Operation::RequestRange(range)) => {
            simpler_range(range).into_iter().map(Operation::RequestRange).collect()
        }
        Some(Operation::RequestTxn(txn)) => {
            simpler_txn(txn).into_iter().map(Operation::RequestTxn).collect()
        }
        Some(Operation::RequestDeleteRange(_)) | None => Vec::new(),
    }
}
