//! The order of revisions against real time.

use super::{Explained, RECORD, changed};
use crate::history::{Answer, Call, History, Nanos, Outcome, Request};

/// Nothing that was known when a request began may be missing from its answer, and nothing may be
/// in it that was asked for only after it ended.
pub(super) fn check(history: &History, explained: &Explained<'_>) -> Result<(), String> {
    let mut known: Vec<(Nanos, i64)> = history
        .calls
        .iter()
        .filter_map(|call| Some((call.ended, revision(call)?)))
        .chain(events(history))
        .collect();
    known.sort_unstable();
    let mut calls: Vec<&Call> = history.calls.iter().filter(|call| must_be_new(call)).collect();
    calls.sort_unstable_by_key(|call| call.began);
    let (mut newest, mut next) = (0, 0);
    for call in calls {
        while let Some((at, revision)) = known.get(next).filter(|(at, _)| *at < call.began) {
            let _ = at;
            newest = newest.max(*revision);
            next += 1;
        }
        let Some(told) = revision(call) else { continue };
        let makes_one = matches!(&call.outcome, Outcome::Ok(answer) if changed(answer));
        if told < newest + i64::from(makes_one) {
            return Err(format!("revision {newest} was known before {call:?}"));
        }
        if explained.asked(told).is_some_and(|asked| asked > call.ended) {
            return Err(format!("{call:?} tells of a write that had not been asked for"));
        }
    }
    Ok(())
}

/// The revision that an answer gives, if it is one of the key space.
fn revision(call: &Call) -> Option<i64> {
    match &call.outcome {
        Outcome::Ok(answer) => match answer {
            Answer::Range(_) | Answer::Put(_) | Answer::DeleteRange(_) | Answer::Txn(_) => {
                Some(answer.revision())
            }
            _ => None,
        },
        Outcome::Fail(_) | Outcome::Info(_) => None,
    }
}

fn events(history: &History) -> impl Iterator<Item = (Nanos, i64)> + '_ {
    let records = history.watches.iter().filter(|watch| watch.name.starts_with(RECORD));
    let responses = records.flat_map(|watch| &watch.received);
    responses.filter_map(|(at, response)| {
        let newest = response.events.last()?.kv.as_ref()?.mod_revision;
        Some((*at, newest))
    })
}

/// Only who asks for an old answer may be given one.
fn must_be_new(call: &Call) -> bool {
    !matches!(&call.request, Request::Range(range) if range.serializable)
}
