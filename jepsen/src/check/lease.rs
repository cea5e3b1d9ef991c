//! Leases never end early, and end in time: judged by the keys that hang on them.
//!
//! A lease lives at least its time to live from the moment at which its last acknowledged renewal
//! was asked for. Harness and members share one monotonic clock, so the bound is exact.

use std::collections::BTreeMap;

use orrery::proto::mvccpb::event::EventType;

use super::{Checked, Verdict, replay::story::Story};
use crate::history::{Answer, History, Nanos, Outcome, Request};

/// After the last attempt to renew it a lease may live for its time to live, and for a failover
/// after which it is extended, and for a fault that stops all of this.
const LATE: Nanos = 30 * SECOND;

const SECOND: Nanos = 1_000_000_000;

/// The key of a lease is this and its id.
const PREFIX: &str = "lease/";

/// What a client knows of a lease.
#[derive(Default)]
struct Lease {
    ttl: Nanos,
    /// When the last acknowledged grant or renewal was asked for.
    renewed: Nanos,
    /// When the last attempt to renew it was over.
    tried: Nanos,
    revoked: bool,
    put_at: Option<i64>,
}

pub fn check(history: &History) -> Checked {
    let mut notes = Vec::new();
    let (verdict, checked) = match Story::of(history) {
        Err(fault) => (fault.into(), 0),
        Ok(story) => match judge(history, &story, &mut notes) {
            Ok(0) => (Verdict::Unknown("no lease ended".to_owned()), 0),
            Ok(checked) => (Verdict::Valid, checked),
            Err(proof) => (Verdict::Violated(proof), 1),
        },
    };
    Checked { name: "lease".to_owned(), verdict, checked, notes }
}

fn judge(history: &History, story: &Story, notes: &mut Vec<String>) -> Result<u64, String> {
    let leases = leases(history);
    let mut ended = BTreeMap::new();
    for revision in 2..=story.last() {
        let (events, seen) = story.events(revision);
        for event in events.iter().filter(|event| event.r#type == EventType::Delete as i32) {
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            if let Some(id) = id(&key) {
                ended.insert(id, seen);
            }
        }
    }
    let end = history.calls.iter().map(|call| call.ended).max().unwrap_or(0);
    let mut late: Vec<Nanos> = Vec::new();
    for (id, lease) in leases.iter().filter(|(_, lease)| lease.put_at.is_some()) {
        match ended.get(id) {
            Some(seen) if !lease.revoked && *seen < lease.renewed + lease.ttl => {
                let early = lease.renewed + lease.ttl - seen;
                return Err(format!(
                    "lease {id:x} of {} s, renewed at {}, had ended by {seen}: {} ms early",
                    lease.ttl / SECOND,
                    lease.renewed,
                    early / 1_000_000
                ));
            }
            Some(seen) => late.push(seen.saturating_sub(lease.tried + lease.ttl)),
            None if end > lease.tried + lease.ttl + LATE => {
                return Err(format!("lease {id:x} never ended: tried at {}", lease.tried));
            }
            None => {}
        }
    }
    late.sort_unstable();
    if let Some(worst) = late.last() {
        let median = late[late.len() / 2];
        let ms = |nanos: Nanos| nanos / 1_000_000;
        notes.push(format!("late by {} ms (median), {} ms (most)", ms(median), ms(*worst)));
        if *worst > LATE {
            return Err(format!("a lease ended {} ms late", ms(*worst)));
        }
    }
    Ok(late.len() as u64)
}

/// The lease that a key is of, if it is the key of one.
fn id(key: &[u8]) -> Option<i64> {
    std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

fn leases(history: &History) -> BTreeMap<i64, Lease> {
    let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
    let nanos = |seconds: i64| u64::try_from(seconds).unwrap_or(0) * SECOND;
    for call in &history.calls {
        match (&call.request, &call.outcome) {
            (Request::LeaseGrant(_), Outcome::Ok(Answer::LeaseGrant(granted))) => {
                let lease = leases.entry(granted.id).or_default();
                lease.ttl = nanos(granted.ttl);
                lease.renewed = lease.renewed.max(call.began);
                lease.tried = lease.tried.max(call.ended);
            }
            (Request::LeaseKeepAlive(request), outcome) => {
                let lease = leases.entry(request.id).or_default();
                lease.tried = lease.tried.max(call.ended);
                if let Outcome::Ok(Answer::LeaseKeepAlive(kept)) = outcome
                    && kept.ttl > 0
                {
                    lease.renewed = lease.renewed.max(call.began);
                }
            }
            (Request::LeaseRevoke(request), _) => {
                leases.entry(request.id).or_default().revoked = true;
            }
            (Request::Put(request), Outcome::Ok(answer)) => {
                if let Some(id) = id(&request.key) {
                    leases.entry(id).or_default().put_at = Some(answer.revision());
                }
            }
            _ => {}
        }
    }
    leases
}
