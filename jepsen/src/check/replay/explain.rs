//! Which request made which revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use orrery::proto::{
    command::command::Operation,
    mvccpb::{Event, KeyValue, event::EventType},
};
use orrery_model::{KeySpace, Map};

use super::{as_answer, changed, operation, same};
use crate::history::{Answer, Call, History, Nanos, Outcome, Request};

/// Keys that the server's own services write: who wrote one is not told.
const SERVICES: [&[u8]; 2] = [b"lock/", b"election/"];

pub(super) struct Explained<'a> {
    /// Acknowledged writes by the revision that they say they made.
    acknowledged: BTreeMap<i64, Vec<&'a Call>>,
    /// Writes of unknown outcome that have not been seen to have any.
    unknown: Vec<&'a Call>,
    unknown_used: u64,
    leases: BTreeMap<i64, i64>,
    /// When each revision was asked for, where that is known.
    asked: BTreeMap<i64, Nanos>,
}

impl<'a> Explained<'a> {
    pub(super) fn new(history: &'a History) -> Explained<'a> {
        let mut explained = Explained {
            acknowledged: BTreeMap::new(),
            unknown: Vec::new(),
            unknown_used: 0,
            leases: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        for call in &history.calls {
            if let Request::LeaseGrant(grant) = &call.request
                && !matches!(call.outcome, Outcome::Fail(_))
            {
                explained.leases.insert(grant.id, grant.ttl);
            }
            match &call.outcome {
                Outcome::Ok(answer) if changed(answer) => {
                    explained.acknowledged.entry(answer.revision()).or_default().push(call);
                }
                Outcome::Info(_)
                    if operation(&call.request).is_some()
                        || matches!(call.request, Request::LeaseRevoke(_)) =>
                {
                    explained.unknown.push(call);
                }
                _ => {}
            }
            if let (Request::LeaseGrant(_), Outcome::Ok(Answer::LeaseGrant(granted))) =
                (&call.request, &call.outcome)
            {
                explained.leases.insert(granted.id, granted.ttl);
            }
        }
        explained
    }

    /// Every lease that was perhaps granted, with its time to live.
    pub(super) fn leases(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.leases.iter().map(|(id, ttl)| (*id, *ttl))
    }

    pub(super) fn unknown_used(&self) -> u64 {
        self.unknown_used
    }

    /// When the request was sent that made a revision; `None` where no request is known.
    pub(super) fn asked(&self, revision: i64) -> Option<Nanos> {
        self.asked.get(&revision).copied()
    }

    /// Carries out on the model what made this revision.
    pub(super) fn next(
        &mut self,
        model: &mut KeySpace,
        revision: i64,
        (events, seen): (&[Event], Nanos),
    ) -> Result<(), String> {
        let before = model.at(revision - 1).clone();
        let after = carried_out(&before, events)?;
        if let Some(calls) = self.acknowledged.remove(&revision) {
            let [call] = calls.as_slice() else {
                return Err(format!(
                    "{} writes say that they made {revision}: {calls:?}",
                    calls.len()
                ));
            };
            let (answer, map) = answer(model, call)?
                .ok_or_else(|| format!("{call:?} changes nothing, and says it made {revision}"))?;
            if let Outcome::Ok(told) = &call.outcome {
                same(call, told, &answer)?;
            }
            if map != after {
                return Err(format!("revision {revision} is of {call:?}, events are {events:?}"));
            }
            self.asked.insert(revision, call.began);
            model.push(map);
            return Ok(());
        }
        if let Some(at) = self.unknown_that_leads_to(model, &after, seen) {
            let call = self.unknown.swap_remove(at);
            self.asked.insert(revision, call.began);
            self.unknown_used += 1;
            model.push(after);
            return Ok(());
        }
        let is_service = |event: &Event| {
            let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
            SERVICES.iter().any(|service| key.starts_with(service))
        };
        if self.is_end_of_a_lease(model, &before, events) || events.iter().all(is_service) {
            model.push(after);
            return Ok(());
        }
        Err(format!("nobody asked for revision {revision}: {events:?}"))
    }

    /// Every acknowledged write must have been met.
    pub(super) fn check_all_used(&self, last: i64) -> Result<(), String> {
        match self.acknowledged.iter().next() {
            None => Ok(()),
            Some((revision, calls)) => {
                Err(format!("acknowledged at {revision}, and lost: {calls:?} (last is {last})"))
            }
        }
    }

    fn unknown_that_leads_to(&self, model: &KeySpace, after: &Map, seen: Nanos) -> Option<usize> {
        self.unknown.iter().position(|call| {
            if call.began > seen {
                return false;
            }
            if let Request::LeaseRevoke(revoke) = &call.request {
                let mut map = model.at(model.revision()).clone();
                for key in model.lease_keys(revoke.id) {
                    map.remove(&key);
                }
                return map == *after;
            }
            matches!(answer(model, call), Ok(Some((_, map))) if map == *after)
        })
    }

    /// Exactly the keys of one lease are deleted: it has expired, or was revoked.
    fn is_end_of_a_lease(&self, model: &KeySpace, before: &Map, events: &[Event]) -> bool {
        let deleted: BTreeSet<Bytes> = events
            .iter()
            .filter(|event| event.r#type == EventType::Delete as i32)
            .filter_map(|event| event.kv.as_ref().map(|kv| kv.key.clone()))
            .collect();
        let Some(lease) = deleted.iter().next().and_then(|key| before.get(key)) else {
            return false;
        };
        let lease = lease.lease;
        let keys: BTreeSet<Bytes> = model.lease_keys(lease).into_iter().collect();
        lease != 0 && deleted.len() == events.len() && keys == deleted
    }
}

/// What the model answers a write, and the store after it; `None` when nothing changes.
fn answer(model: &KeySpace, call: &Call) -> Result<Option<(Answer, Map)>, String> {
    let operation: Option<Operation> = operation(&call.request);
    let Some(operation) = operation else { return Ok(None) };
    match model.answer(&operation) {
        Ok((reply, Some(map))) => Ok(Some((as_answer(reply)?, map))),
        Ok((_, None)) => Ok(None),
        Err(refused) => {
            Err(format!("{call:?} is to be refused after {}: {refused:?}", model.revision()))
        }
    }
}

/// The store after some events.
fn carried_out(before: &Map, events: &[Event]) -> Result<Map, String> {
    let mut map = before.clone();
    for event in events {
        let kv: &KeyValue = event.kv.as_ref().ok_or("an event without a key")?;
        if event.r#type == EventType::Put as i32 {
            map.insert(kv.key.clone(), kv.clone());
        } else {
            map.remove(&kv.key);
        }
    }
    Ok(map)
}
