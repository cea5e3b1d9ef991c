//! What must be true of a history, whatever happened to the members.
//!
//! The first watcher sees every revision. Its events are explained, revision by revision, by the
//! writes that clients sent, and carried out on the model; every answer that anybody got is then
//! compared with what the model would have said at that revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use orrery::{
    node::Freshness,
    proto::{
        command::command::Operation,
        etcdserverpb::{DeleteRangeRequest, TxnRequest, request_op::Request},
        mvccpb::{Event, KeyValue, event::EventType},
    },
    state_machine::Reply,
    types::KeyRange,
};
use orrery_model::KeySpace;

use super::{
    history::{Book, Fate, Moment, Watcher, Write},
    levels,
};

/// Clocks stand still within a step, so times are right to a few of them.
const CLOCK_SLACK_MS: u64 = 5;

type Verdict = Result<(), String>;

/// `last` is the revision at which all members agreed.
pub(crate) fn check(book: &Book, last: i64) -> Verdict {
    let revisions = whole_history(&book.watchers[0], last)?;
    for watcher in &book.watchers {
        check_watcher(watcher, &revisions, last)?;
    }
    let model = replay(book, &revisions)?;
    check_previous(book, &model)?;
    check_reads(book, &model)?;
    levels::check(book)?;
    check_order(book, &revisions)?;
    check_leases(book)
}

/// The events of each revision, from the watcher that watches everything.
fn whole_history(watcher: &Watcher, last: i64) -> Result<BTreeMap<i64, Vec<Event>>, String> {
    let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let mut newest = 1;
    for (moment, event) in &watcher.events {
        let revision = kv(event).mod_revision;
        if revision != newest && revision != newest + 1 {
            return Err(format!("{moment:?}: event of revision {revision} behind {newest}"));
        }
        newest = revision;
        revisions.entry(revision).or_default().push(event.clone());
    }
    match newest == last && watcher.gaps.is_empty() {
        true => Ok(revisions),
        false => Err(format!("{} saw {newest} of {last} {:?}", watcher.name, watcher.gaps)),
    }
}

fn kv(event: &Event) -> &KeyValue {
    event.kv.as_ref().expect("events have a key")
}

fn is_put(event: &Event) -> bool {
    event.r#type == EventType::Put as i32
}

/// Nothing missed, nothing repeated, all in order.
fn check_watcher(watcher: &Watcher, revisions: &BTreeMap<i64, Vec<Event>>, last: i64) -> Verdict {
    let range = KeyRange::from_wire(watcher.key.into(), watcher.range_end.into());
    let in_gap = |at: i64| watcher.gaps.iter().any(|(from, to)| (*from..*to).contains(&at));
    let expected: Vec<(i32, &KeyValue)> = (2..=last)
        .filter(|at| !in_gap(*at))
        .flat_map(|at| &revisions[&at])
        .filter(|event| range.contains(&kv(event).key))
        .map(|event| (event.r#type, kv(event)))
        .collect();
    let told: Vec<(i32, &KeyValue)> =
        watcher.events.iter().map(|(_, event)| (event.r#type, kv(event))).collect();
    if let Some(at) =
        (0..told.len().max(expected.len())).find(|at| told.get(*at) != expected.get(*at))
    {
        let (told, expected) = (told.get(at), expected.get(at));
        return Err(format!("watcher {}: told {told:?} instead of {expected:?}", watcher.name));
    }
    Ok(())
}

/// Writes by what became of them.
struct Writes<'a> {
    /// Those that made a new revision.
    by_revision: BTreeMap<i64, &'a Write>,
    /// Acknowledged ones that changed nothing.
    idle: BTreeMap<i64, Vec<&'a Write>>,
    /// Those of unknown outcome, by the value they put.
    unknown: BTreeMap<Bytes, &'a Write>,
    unknown_deletes: Vec<&'a Write>,
}

fn sort_out(book: &Book) -> Result<Writes<'_>, String> {
    let mut writes = Writes {
        by_revision: BTreeMap::new(),
        idle: BTreeMap::new(),
        unknown: BTreeMap::new(),
        unknown_deletes: Vec::new(),
    };
    for write in &book.writes {
        match &write.fate {
            Fate::Refused => {}
            Fate::Unknown => match value_of(&write.operation) {
                Some(value) => drop(writes.unknown.insert(value, write)),
                None => writes.unknown_deletes.push(write),
            },
            Fate::Done(reply, revision) if changed(reply) => {
                if let Some(other) = writes.by_revision.insert(*revision, write) {
                    return Err(format!("two writes at {revision}: {write:?} and {other:?}"));
                }
            }
            Fate::Done(_, revision) => writes.idle.entry(*revision).or_default().push(write),
        }
    }
    Ok(writes)
}

fn changed(reply: &Reply) -> bool {
    match reply {
        Reply::Put(_) => true,
        Reply::DeleteRange(deleted) => deleted.deleted > 0,
        Reply::Txn(txn) => txn.succeeded,
        other => panic!("{other:?} is no answer to a client's write"),
    }
}

/// The value by which a write is known; deletions have none.
fn value_of(operation: &Operation) -> Option<Bytes> {
    match operation {
        Operation::Put(put) => Some(put.value.clone()),
        Operation::Txn(TxnRequest { success, .. }) => {
            let first = success.first().and_then(|first| first.request.as_ref());
            first.and_then(|request| match request {
                Request::RequestPut(put) => Some(put.value.clone()),
                _ => None,
            })
        }
        _ => None,
    }
}

/// Carries out what explains each revision, and compares events and answers.
fn replay(book: &Book, revisions: &BTreeMap<i64, Vec<Event>>) -> Result<KeySpace, String> {
    let mut writes = sort_out(book)?;
    let mut model = KeySpace::new();
    model.leases = book.leases.keys().map(|id| (*id, (1, None))).collect();
    for (revision, events) in revisions {
        check_idle(&model, writes.idle.remove(&(revision - 1)))?;
        let write = explain(&mut writes, &model, *revision, events);
        let operation = match write {
            Some(write) => write.operation.clone(),
            None => expiry(events, &model, *revision)?,
        };
        let reply = model.apply(&operation).map_err(|rejection| {
            format!("{operation:?} at {revision} should have been refused: {rejection:?}")
        })?;
        if model.revision() != *revision {
            return Err(format!("{operation:?} does not explain revision {revision}: {events:?}"));
        }
        check_events(&model, *revision, events)?;
        if let Some(Write { fate: Fate::Done(told, _), .. }) = write
            && *told != reply
        {
            return Err(format!("{operation:?} at {revision}: told {told:?}, not {reply:?}"));
        }
    }
    check_idle(&model, writes.idle.remove(&model.revision()))?;
    if let Some((revision, write)) = writes.by_revision.pop_first() {
        return Err(format!("acknowledged and lost: {write:?} at {revision}"));
    }
    match writes.idle.pop_first() {
        Some((revision, writes)) => Err(format!("{writes:?} at {revision}, which never was")),
        None => Ok(model),
    }
}

/// The write that made a revision; `None` for the end of a lease.
fn explain<'a>(
    writes: &mut Writes<'a>,
    model: &KeySpace,
    revision: i64,
    events: &[Event],
) -> Option<&'a Write> {
    if let Some(write) = writes.by_revision.remove(&revision) {
        return Some(write);
    }
    if let Some(put) = events.iter().find(|event| is_put(event)) {
        return writes.unknown.remove(&kv(put).value);
    }
    let explains = |write: &&Write| {
        let mut attempt = model.clone();
        let _ = attempt.apply(&write.operation);
        attempt.revision() == revision && check_events(&attempt, revision, events).is_ok()
    };
    let found = writes.unknown_deletes.iter().position(explains)?;
    Some(writes.unknown_deletes.remove(found))
}

/// A revoked lease deletes the keys attached to it. No lease has more than one here.
fn expiry(events: &[Event], model: &KeySpace, revision: i64) -> Result<Operation, String> {
    match events {
        [event] if !is_put(event) => {
            let key = kv(event).key.clone();
            match model.at(model.revision()).get(&key) {
                Some(before) if before.lease != 0 => {
                    Ok(Operation::DeleteRange(DeleteRangeRequest { key, ..Default::default() }))
                }
                before => Err(format!("nobody deleted {before:?} at {revision}")),
            }
        }
        _ => Err(format!("nobody wrote revision {revision}: {events:?}")),
    }
}

/// Acknowledged writes that changed nothing, at the revision they were told.
fn check_idle(model: &KeySpace, writes: Option<Vec<&Write>>) -> Verdict {
    for write in writes.into_iter().flatten() {
        let mut attempt = model.clone();
        let reply = attempt.apply(&write.operation);
        let Fate::Done(told, revision) = &write.fate else { continue };
        if reply.as_ref() != Ok(told) || attempt.revision() != *revision {
            return Err(format!("{write:?}: the model says {reply:?}"));
        }
    }
    Ok(())
}

fn check_events(model: &KeySpace, revision: i64, events: &[Event]) -> Verdict {
    let (before, after) = (model.at(revision - 1), model.at(revision));
    let gone: BTreeSet<&Bytes> = before.keys().filter(|key| !after.contains_key(*key)).collect();
    let put: Vec<&KeyValue> = after.values().filter(|kv| kv.mod_revision == revision).collect();
    let mut told_put: Vec<&KeyValue> = events.iter().filter(|it| is_put(it)).map(kv).collect();
    told_put.sort_by(|one, other| one.key.cmp(&other.key));
    let deleted = || events.iter().filter(|event| !is_put(event)).map(|event| &kv(event).key);
    let told_gone: BTreeSet<&Bytes> = deleted().collect();
    match put == told_put && gone == told_gone && deleted().count() == gone.len() {
        true => Ok(()),
        false => Err(format!("revision {revision}: {events:?} instead of {put:?}, {gone:?} gone")),
    }
}

/// Events that tell the version before tell the right one.
fn check_previous(book: &Book, model: &KeySpace) -> Verdict {
    for (_, event) in book.watchers.iter().flat_map(|watcher| &watcher.events) {
        let Some(told) = &event.prev_kv else { continue };
        let before = model.at(kv(event).mod_revision - 1).get(&kv(event).key);
        if before != Some(told) {
            return Err(format!("{event:?} was {before:?} before"));
        }
    }
    Ok(())
}

fn check_reads(book: &Book, model: &KeySpace) -> Verdict {
    for read in &book.reads {
        if read.revision > model.revision() {
            return Err(format!("{read:?} saw what never was"));
        }
        let mut request = read.request.clone();
        request.revision = read.revision;
        let expected = model.range(&request).map_err(|rejection| format!("{rejection:?}"))?;
        if expected.kvs != read.response.kvs || expected.count != read.response.count {
            return Err(format!("{read:?}: the model says {expected:?}"));
        }
    }
    Ok(())
}

/// What began after somebody knew of a revision comes after it.
fn check_order(book: &Book, revisions: &BTreeMap<i64, Vec<Event>>) -> Verdict {
    let mut known: Vec<(u64, i64)> = Vec::new();
    let done = |write: &Write| match write.fate {
        Fate::Done(_, revision) => Some((write.ended.order, revision)),
        Fate::Refused | Fate::Unknown => None,
    };
    known.extend(book.writes.iter().filter_map(done));
    known.extend(book.reads.iter().map(|read| (read.ended.order, read.revision)));
    let told = book.watchers.iter().flat_map(|watcher| &watcher.events);
    known.extend(told.map(|(moment, event)| (moment.order, kv(event).mod_revision)));
    known.sort_unstable();
    let mut newest = 0;
    for (_, revision) in &mut known {
        newest = newest.max(*revision);
        *revision = newest;
    }
    let before = |moment: Moment| {
        let count = known.partition_point(|(order, _)| *order < moment.order);
        count.checked_sub(1).map_or(1, |at| known[at].1)
    };
    for read in &book.reads {
        let known = before(read.began);
        if read.freshness == Freshness::Linearizable && read.revision < known {
            return Err(format!("stale: {known} was known before {read:?}"));
        }
    }
    let value_at = revisions.iter().flat_map(|(revision, events)| {
        events.iter().filter(|it| is_put(it)).map(|event| (kv(event).value.clone(), *revision))
    });
    let value_at: BTreeMap<Bytes, i64> = value_at.collect();
    for write in &book.writes {
        let (revision, is_new) = match &write.fate {
            Fate::Done(reply, revision) => (Some(*revision), changed(reply)),
            Fate::Refused => (None, false),
            Fate::Unknown => {
                let value = value_of(&write.operation);
                (value.and_then(|value| value_at.get(&value).copied()), true)
            }
        };
        let known = before(write.began);
        if revision.is_some_and(|it| it < known || is_new && it == known) {
            return Err(format!("{known} was known before {write:?}, which is at {revision:?}"));
        }
    }
    check_members(book)
}

/// A member does not go back while it runs.
fn check_members(book: &Book) -> Verdict {
    let mut by_member: BTreeMap<(usize, u64), Vec<_>> = BTreeMap::new();
    for read in &book.reads {
        by_member.entry(read.member).or_default().push(read);
    }
    for reads in by_member.values_mut() {
        reads.sort_by_key(|read| read.ended.order);
        for (at, read) in reads.iter().enumerate() {
            let earlier = reads[..at].iter().take_while(|it| it.ended.order < read.began.order);
            if let Some(newer) =
                earlier.max_by_key(|it| it.revision).filter(|it| it.revision > read.revision)
            {
                return Err(format!("the member went back: {newer:?}, then {read:?}"));
            }
        }
    }
    Ok(())
}

/// A lease that was kept alive lived at least as long as promised.
fn check_leases(book: &Book) -> Verdict {
    let all = &book.watchers[0];
    let mut gone: BTreeMap<i64, u64> = BTreeMap::new();
    for (id, lease) in &book.leases {
        gone.extend(lease.gone.map(|at| (*id, at)));
    }
    for (moment, event) in &all.events {
        let key = String::from_utf8_lossy(&kv(event).key).into_owned();
        let id = key.strip_prefix("lease/").and_then(|id| id.parse::<i64>().ok());
        if let Some(id) = id.filter(|_| !is_put(event)) {
            let seen = gone.entry(id).or_insert(moment.ms);
            *seen = (*seen).min(moment.ms);
        }
    }
    for (id, at) in gone {
        let lease = &book.leases[&id];
        let newest = lease.renewed.iter().copied().max();
        if newest.is_some_and(|newest| at + CLOCK_SLACK_MS < newest + lease.ttl_ms) {
            return Err(format!("lease {id} was gone at {at}: {lease:?}"));
        }
    }
    Ok(())
}
