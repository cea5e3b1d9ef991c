//! What every run is checked for, whatever its workload: members agree in the end, none broke by
//! itself, the cluster served while it could, it recovered when it had to, and faults were real.

mod availability;

use std::collections::BTreeMap;

use super::{Checked, Findings, findings::seconds};
use crate::history::{Fault, History, MemberIndex, Nanos};

/// From the end of a fault, or of the last one that left no quorum, to the next write.
pub const RECOVERY_MAX: Nanos = 30_000_000_000;

/// Faults that change how many members there are have this word in their name.
const MEMBERSHIP: &str = "member";

/// What a run without faults calls its nemesis.
const NO_NEMESIS: &[&str] = &["", "none"];

/// One verdict for each of the five questions.
pub fn check(history: &History) -> Vec<Checked> {
    let signs = history.signs_of_life().into_iter();
    let acknowledged: Vec<Nanos> = signs.map(|(ended, _)| ended).collect();
    vec![
        hashes(history),
        alive(history),
        recovery(history),
        availability::check(history, &acknowledged),
        coverage(history, acknowledged.len()),
    ]
}

/// All members have the same key space at one revision.
fn hashes(history: &History) -> Checked {
    let mut findings = Findings::new("hashes");
    let ending = &history.ending;
    let changes_members = history.faults.iter().any(|fault| fault.name.contains(MEMBERSHIP));
    // A member alone has nobody to differ from.
    let expected = if changes_members { 2 } else { history.run.members };
    if ending.hashes.len() < expected {
        findings.unknown(format!("{} of {expected} members gave a hash", ending.hashes.len()));
    }
    // A hash covers what is above the compact revision: only under the same one it says the same.
    let mut groups: BTreeMap<i64, BTreeMap<u32, Vec<MemberIndex>>> = BTreeMap::new();
    for (member, (hash, compacted)) in &ending.hashes {
        groups.entry(*compacted).or_default().entry(*hash).or_default().push(*member);
        findings.looked_at(1);
    }
    for (compacted, group) in &groups {
        findings.demand(group.len() <= 1, || {
            let (revision, parts) = (ending.hash_revision, groups_text(group));
            format!("members differ at revision {revision}, compacted at {compacted}: {parts}")
        });
    }
    if groups.len() > 1 {
        let compacted: Vec<&i64> = groups.keys().collect();
        findings.unknown(format!("hashes of different compact revisions: {compacted:?}"));
    }
    findings.note(format!("{} hashes at revision {}", ending.hashes.len(), ending.hash_revision));
    findings.finish()
}

fn groups_text(group: &BTreeMap<u32, Vec<MemberIndex>>) -> String {
    let parts = group.iter().map(|(hash, members)| format!("{members:?} have {hash:08x}"));
    parts.collect::<Vec<String>>().join(", ")
}

/// Nothing panicked, and no member ended that nobody had ended.
fn alive(history: &History) -> Checked {
    let mut findings = Findings::new("alive");
    findings.looked_at(history.run.members);
    for (member, line) in &history.ending.panics {
        findings.violated(format!("in the log of member {member}: {line}"));
    }
    for (member, how) in &history.ending.ended_alone {
        findings.violated(format!("member {member} ended by itself: {how}"));
    }
    findings.finish()
}

/// After each fault the cluster takes writes again in time, and in the end all members agree.
fn recovery(history: &History) -> Checked {
    let mut findings = Findings::new("recovery");
    let mut slowest = 0;
    for fault in &history.faults {
        findings.looked_at(1);
        match fault.recovered {
            None => findings.violated(format!("never recovered: {}", say(fault))),
            Some(at) => {
                let took = at.saturating_sub(free_from(fault, at, &history.faults));
                slowest = slowest.max(took);
                findings.demand(took <= RECOVERY_MAX, || {
                    format!("recovered only after {}: {}", seconds(took), say(fault))
                });
            }
        }
    }
    findings.note(format!(
        "{} faults, slowest recovery {}",
        history.faults.len(),
        seconds(slowest)
    ));
    findings.looked_at(1);
    match history.ending.healed_in {
        Some(took) => findings.note(format!("healed in {}", seconds(took))),
        None => findings.violated("when all was healed, members did not agree in time".into()),
    }
    findings.finish()
}

/// From when on the cluster could recover from a fault: there was neither it nor another one that
/// left no quorum.
fn free_from(fault: &Fault, recovered: Nanos, faults: &[Fault]) -> Nanos {
    let others = faults.iter().filter(|other| !other.quorum_lives && other.ended <= recovered);
    others.map(|other| other.ended).fold(fault.ended, Nanos::max)
}

/// Something was done, and the faults took effect; else the run shows nothing.
fn coverage(history: &History, acknowledged: usize) -> Checked {
    let mut findings = Findings::new("coverage");
    let faults = &history.faults;
    findings.looked_at(acknowledged);
    if acknowledged == 0 {
        findings.unknown("nothing was acknowledged in the whole run".into());
    }
    let shown = faults.iter().filter(|fault| fault.evidence.is_some()).count();
    if faults.is_empty() && !NO_NEMESIS.contains(&history.run.nemesis.as_str()) {
        findings.unknown(format!("{} did nothing", history.run.nemesis));
    }
    if !faults.is_empty() && shown == 0 {
        findings.unknown(format!("nothing shows that any of {} faults took effect", faults.len()));
    }
    findings.note(format!("{shown} of {} faults took effect for certain", faults.len()));
    for fault in faults.iter().filter(|fault| fault.evidence.is_none()) {
        findings.note(format!("without evidence: {}", say(fault)));
    }
    let hit = faults.iter().filter(|fault| fault.hit_leader).count();
    let terms = history.ending.leaders.len();
    findings.note(format!("{hit} faults hit the leader; {terms} terms had one"));
    findings.finish()
}

/// A fault in a line.
fn say(fault: &Fault) -> String {
    let (began, ended) = (seconds(fault.began), seconds(fault.ended));
    format!("{} of {:?} [{began}, {ended}] {}", fault.name, fault.members, fault.detail)
}

#[cfg(test)]
mod tests;
