//! The main oracle. etcd puts a revision on everything, and so the order of a history is known: the
//! events that a watcher of everything saw are explained, revision by revision, by what clients
//! sent, and carried out on a model; every answer that anybody got is then compared with what the
//! model says at its revision, field by field. In the end the order must agree with real time.
//!
//! Linear in the number of calls, and complete with respect to the order that the server claims.

mod explain;
mod order;
pub(super) mod story;

use orrery::{
    proto::{
        command::command::Operation,
        etcdserverpb::{RangeRequest, ResponseHeader, TxnResponse, response_op::Response},
    },
    state_machine::Reply,
};
use orrery_model::KeySpace;

use super::{Checked, Verdict};
use crate::history::{Answer, Call, History, Outcome, Request};
use explain::Explained;
use story::Story;

/// Name of the watchers that see everything from the beginning.
pub const RECORD: &str = "record";

pub fn check(history: &History) -> Checked {
    let mut checked = 0;
    let mut notes = Vec::new();
    let verdict = match replay(history, &mut checked, &mut notes) {
        Ok(()) if checked == 0 => Verdict::Unknown("nothing was acknowledged".to_owned()),
        Ok(()) => Verdict::Valid,
        Err(fault) => fault.into(),
    };
    Checked { name: "replay".to_owned(), verdict, checked, notes }
}

pub(super) enum Fault {
    Violated(String),
    Unknown(String),
}

impl From<Fault> for Verdict {
    fn from(fault: Fault) -> Verdict {
        match fault {
            Fault::Violated(proof) => Verdict::Violated(proof),
            Fault::Unknown(reason) => Verdict::Unknown(reason),
        }
    }
}

fn violated(proof: String) -> Fault {
    Fault::Violated(proof)
}

fn replay(history: &History, checked: &mut u64, notes: &mut Vec<String>) -> Result<(), Fault> {
    let story = Story::of(history)?;
    notes.push(format!("{} revisions", story.last()));
    let mut explained = Explained::new(history);
    let mut model = KeySpace::new();
    for (id, ttl) in explained.leases() {
        model.leases.insert(id, (ttl, None));
    }
    let mut answers = answers_by_revision(history);
    for revision in 1..=story.last() {
        if revision > 1 {
            explained.next(&mut model, revision, story.events(revision)).map_err(violated)?;
            *checked += 1;
        }
        for call in answers.remove(&revision).unwrap_or_default() {
            compare(&model, call).map_err(violated)?;
            *checked += 1;
        }
    }
    if let Some((revision, calls)) = answers.into_iter().next() {
        let text = format!("answers of revision {revision}, which nobody saw: {:?}", calls[0]);
        return Err(violated(text));
    }
    explained.check_all_used(story.last()).map_err(violated)?;
    order::check(history, &explained).map_err(violated)?;
    notes.push(format!("{} writes of unknown outcome took effect", explained.unknown_used()));
    Ok(())
}

/// Answers that changed nothing, and those that did, by the revision that they give.
fn answers_by_revision(history: &History) -> std::collections::BTreeMap<i64, Vec<&Call>> {
    let mut by_revision: std::collections::BTreeMap<i64, Vec<&Call>> = Default::default();
    for call in &history.calls {
        if let Outcome::Ok(answer) = &call.outcome
            && matches!(
                answer,
                Answer::Range(_) | Answer::Put(_) | Answer::DeleteRange(_) | Answer::Txn(_)
            )
            && !changed(answer)
        {
            by_revision.entry(answer.revision()).or_default().push(call);
        }
    }
    by_revision
}

/// Whether an answer says that its request made a new revision.
pub(super) fn changed(answer: &Answer) -> bool {
    match answer {
        Answer::Put(_) => true,
        Answer::DeleteRange(response) => response.deleted > 0,
        Answer::Txn(response) => txn_changed(response),
        _ => false,
    }
}

fn txn_changed(response: &TxnResponse) -> bool {
    response.responses.iter().any(|operation| match &operation.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        Some(Response::ResponseTxn(txn)) => txn_changed(txn),
        Some(Response::ResponseRange(_)) | None => false,
    })
}

/// The command that a request of a client is.
fn operation(request: &Request) -> Option<Operation> {
    match request {
        Request::Put(request) => Some(Operation::Put(request.clone())),
        Request::DeleteRange(request) => Some(Operation::DeleteRange(request.clone())),
        Request::Txn(request) => Some(Operation::Txn(request.clone())),
        _ => None,
    }
}

/// An answer without a change is compared with what the model says now.
fn compare(model: &KeySpace, call: &Call) -> Result<(), String> {
    let Outcome::Ok(answer) = &call.outcome else { return Ok(()) };
    let expected = match (&call.request, operation(&call.request)) {
        (Request::Range(request), _) => Answer::Range(range(model, request)?),
        (_, Some(operation)) => {
            let (reply, after) = model.answer(&operation).map_err(|refused| {
                format!("{call:?} is to be refused at {}: {refused:?}", model.revision())
            })?;
            if after.is_some() {
                return Err(format!("{call:?} changes something, and its answer says it did not"));
            }
            as_answer(reply)?
        }
        _ => return Ok(()),
    };
    same(call, answer, &expected)
}

fn range(
    model: &KeySpace,
    request: &RangeRequest,
) -> Result<orrery::proto::etcdserverpb::RangeResponse, String> {
    let request = RangeRequest { serializable: false, ..request.clone() };
    model.range(&request).map_err(|refused| {
        format!("{request:?} is to be refused at revision {}: {refused:?}", model.revision())
    })
}

fn as_answer(reply: Reply) -> Result<Answer, String> {
    match reply {
        Reply::Put(response) => Ok(response.into()),
        Reply::DeleteRange(response) => Ok(response.into()),
        Reply::Txn(response) => Ok(response.into()),
        other => Err(format!("the model answers {other:?}")),
    }
}

/// Compares all but what a member says of itself.
fn same(call: &Call, answer: &Answer, expected: &Answer) -> Result<(), String> {
    let bare = |answer: &Answer| {
        let mut answer = answer.clone();
        let header = match &mut answer {
            Answer::Range(response) => &mut response.header,
            Answer::Put(response) => &mut response.header,
            Answer::DeleteRange(response) => &mut response.header,
            Answer::Txn(response) => {
                response.responses.iter_mut().for_each(forget_headers);
                &mut response.header
            }
            _ => return answer,
        };
        let revision = crate::history::revision(header.as_ref());
        *header = Some(ResponseHeader { revision, ..Default::default() });
        answer
    };
    let (told, expected) = (bare(answer), bare(expected));
    if told == expected {
        return Ok(());
    }
    Err(format!("{call:?}\nwas answered {told:?}\ninstead of   {expected:?}"))
}

/// What stands in the headers inside a transaction is the business of the conformance scripts.
fn forget_headers(operation: &mut orrery::proto::etcdserverpb::ResponseOp) {
    match &mut operation.response {
        Some(Response::ResponseRange(response)) => response.header = None,
        Some(Response::ResponsePut(response)) => response.header = None,
        Some(Response::ResponseDeleteRange(response)) => response.header = None,
        Some(Response::ResponseTxn(response)) => {
            response.header = None;
            response.responses.iter_mut().for_each(forget_headers);
        }
        None => {}
    }
}
