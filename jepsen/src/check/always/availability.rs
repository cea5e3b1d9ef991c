//! Clients are served while a quorum lives.

use super::say;
use crate::{
    check::{Checked, Findings, findings::seconds},
    history::{Fault, History, Nanos},
};

/// Faults that are shorter may be over before a leader is elected.
const FAULT_MIN: Nanos = 5_000_000_000;

/// How long nobody may be told that anything was done.
const SILENCE_MAX: Nanos = 10_000_000_000;

/// While a fault that left a quorum was on, there is something acknowledged in each span of
/// [`SILENCE_MAX`]. Expects the moments in order.
pub(super) fn check(history: &History, acknowledged: &[Nanos]) -> Checked {
    let mut findings = Findings::new("availability");
    let clients_end = match history.run.duration {
        0 => acknowledged.last().copied().unwrap_or(0),
        duration => duration,
    };
    let mut longest = 0;
    let mut excused = 0;
    for (at, fault) in history.faults.iter().enumerate().filter(|(_, fault)| fault.quorum_lives) {
        for silence in silences(fault, acknowledged, clients_end) {
            if is_excused(at, &silence, history) {
                excused += 1;
                continue;
            }
            let length = silence.until - silence.from;
            findings.looked_at(1);
            longest = longest.max(length);
            findings.demand(length <= SILENCE_MAX, || {
                let from = seconds(silence.from);
                format!(
                    "nothing acknowledged for {} from {from} on: {}",
                    seconds(length),
                    say(fault)
                )
            });
        }
    }
    if findings.is_empty() {
        findings.not_due("no fault of some length left a quorum".into());
    }
    findings.note(format!("longest silence that counts {}, {excused} excused", seconds(longest)));
    findings.finish()
}

/// A time in which nothing was acknowledged.
struct Silence {
    from: Nanos,
    until: Nanos,
}

/// The silences that begin in a fault and long enough before its end. One that goes on after the
/// clients ended says nothing unless it was too long by then.
fn silences(fault: &Fault, acknowledged: &[Nanos], clients_end: Nanos) -> Vec<Silence> {
    let first = acknowledged.partition_point(|at| *at < fault.began);
    let inside = acknowledged[first..].iter().copied().take_while(|at| *at < fault.ended);
    let starts = std::iter::once(fault.began).chain(inside);
    let ends = acknowledged[first..].iter().copied().chain(std::iter::once(Nanos::MAX));
    let silences = starts.zip(ends).filter(|(from, _)| from + FAULT_MIN < fault.ended);
    silences
        .map(|(from, until)| Silence { from, until: until.min(clients_end).max(from) })
        .filter(|silence| silence.until < clients_end || silence.until - silence.from > SILENCE_MAX)
        .collect()
}

/// Whether there may have been no quorum after all: a fault that leaves none was on or not yet
/// recovered from, or this one and others together hit too many.
fn is_excused(own: usize, silence: &Silence, history: &History) -> bool {
    let until = silence.until.min(silence.from + SILENCE_MAX);
    let is_on = |fault: &Fault| {
        let over = fault.recovered.unwrap_or(Nanos::MAX).max(fault.ended);
        fault.began <= until && over >= silence.from
    };
    let mut hit = history.faults[own].members.clone();
    let own_hit = hit.len();
    for (at, fault) in history.faults.iter().enumerate() {
        if at == own || !is_on(fault) {
            continue;
        }
        if !fault.quorum_lives {
            return true;
        }
        hit.extend(&fault.members);
    }
    hit.sort_unstable();
    hit.dedup();
    hit.len() > own_hit && hit.len() * 2 >= history.run.members
}
