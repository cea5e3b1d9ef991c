//! A good run, and everything that can be wrong with it.

use serde_json::json;

use super::*;
use crate::{
    check::{
        Verdict,
        sketch::{fault, ok, unknown, valid, violated},
    },
    history::{Ending, Run},
};

const SECOND: Nanos = 1_000_000_000;

/// Three members, a request a second for a minute, one of them killed for 20 seconds.
fn good() -> History {
    let step = |at: Nanos| ok("read", json!(null), json!(1)).at(at * SECOND, at * SECOND + 1);
    History {
        run: Run { members: 3, nemesis: "kill".into(), duration: 60 * SECOND, ..Run::default() },
        steps: (1..60).map(step).collect(),
        faults: vec![fault("kill", &[0], 10 * SECOND, 30 * SECOND)],
        ending: Ending {
            healed_in: Some(SECOND),
            hashes: (0..3).map(|member| (member, (0xabcd, 7))).collect(),
            hash_revision: 99,
            ..Ending::default()
        },
        ..History::default()
    }
}

fn part(history: &History, name: &str) -> Checked {
    let mut parts = super::check(history).into_iter().filter(|checked| checked.name == name);
    parts.next().unwrap()
}

/// What the part says of the good run after a change.
#[track_caller]
fn changed(name: &str, change: impl FnOnce(&mut History)) -> Checked {
    let mut history = good();
    change(&mut history);
    part(&history, name)
}

fn silent(from: Nanos, until: Nanos) -> impl FnOnce(&mut History) {
    move |history| {
        history.steps.retain(|step| !(from * SECOND..until * SECOND).contains(&step.began));
    }
}

#[test]
fn a_good_run_is_valid() {
    super::check(&good()).into_iter().for_each(valid);
}

#[test]
fn a_run_without_faults_is_valid() {
    let mut history = good();
    history.run.nemesis = "none".into();
    history.faults.clear();
    let verdicts = super::check(&history).into_iter().map(|checked| checked.verdict);
    assert_eq!(verdicts.reduce(Verdict::and), Some(Verdict::Valid));
}

#[test]
fn members_that_differ_are_found() {
    let other = |hash| {
        move |it: &mut History| {
            it.ending.hashes.insert(1, hash);
        }
    };
    violated(changed("hashes", other((0xabce, 7))), "[0, 2] have 0000abcd, [1] have 0000abce");
    unknown(changed("hashes", other((0xabce, 6))), "different compact revisions: [6, 7]");
}

#[test]
fn missing_hashes_are_no_pass_unless_members_were_taken_away() {
    let two_left = |it: &mut History| {
        it.ending.hashes.remove(&1);
    };
    unknown(changed("hashes", two_left), "2 of 3 members");
    let taken = |it: &mut History| {
        two_left(it);
        it.faults[0].name = "member-remove".into();
    };
    valid(changed("hashes", taken));
    unknown(changed("hashes", |it| it.ending.hashes.clear()), "0 of 3 members");
}

#[test]
fn panics_and_sudden_ends_are_found() {
    let panicked = |it: &mut History| it.ending.panics.push((2, "thread panicked".into()));
    violated(changed("alive", panicked), "member 2: thread panicked");
    let ended = |it: &mut History| it.ending.ended_alone.push((1, "exit status 101".into()));
    violated(changed("alive", ended), "member 1 ended by itself: exit status 101");
}

#[test]
fn a_cluster_that_does_not_recover_is_found() {
    violated(changed("recovery", |it| it.faults[0].recovered = None), "never recovered");
    violated(
        changed("recovery", |it| it.faults[0].recovered = Some(61 * SECOND)),
        "recovered only after 31.000000 s",
    );
    valid(changed("recovery", |it| it.faults[0].recovered = Some(59 * SECOND)));
    violated(changed("recovery", |it| it.ending.healed_in = None), "did not agree");
}

#[test]
fn recovery_counts_from_when_there_was_a_quorum_again() {
    let change = |quorum_lives| {
        move |it: &mut History| {
            it.faults[0].recovered = Some(65 * SECOND);
            it.faults.push(fault("kill-all", &[0, 1, 2], 25 * SECOND, 40 * SECOND));
            it.faults[1].quorum_lives = quorum_lives;
        }
    };
    valid(changed("recovery", change(false)));
    violated(changed("recovery", change(true)), "35.000000 s: kill of [0]");
}

#[test]
fn silence_while_a_quorum_lives_is_found() {
    valid(changed("availability", silent(11, 20)));
    violated(changed("availability", silent(11, 23)), "nothing acknowledged for 13.0");
    // It began late in the fault, but early enough to be the fault's.
    violated(changed("availability", silent(24, 40)), "nothing acknowledged for 17.0");
    // Not the fault's any more, or before it began: the deadline for recovery is for that.
    valid(changed("availability", silent(27, 60)));
    violated(changed("availability", silent(0, 60)), "nothing acknowledged for 50.0");
}

#[test]
fn silence_is_nobodys_fault_when_clients_had_ended() {
    let late = |it: &mut History| {
        it.run.duration = 17 * SECOND;
        it.steps.retain(|step| step.ended < 12 * SECOND);
    };
    valid(changed("availability", late));
    let later = |it: &mut History| {
        late(it);
        it.run.duration = 23 * SECOND;
    };
    violated(changed("availability", later), "nothing acknowledged for 11.");
}

#[test]
fn silence_without_a_quorum_is_excused() {
    let with = |other: Fault| {
        move |it: &mut History| {
            silent(11, 29)(it);
            it.faults.push(other);
        }
    };
    let no_quorum =
        Fault { quorum_lives: false, ..fault("kill-all", &[0, 1, 2], 12 * SECOND, 14 * SECOND) };
    valid(changed("availability", with(no_quorum)));
    // Two faults that leave a quorum each, and none together.
    valid(changed("availability", with(fault("pause", &[1], 12 * SECOND, 14 * SECOND))));
    let harmless = [
        fault("pause", &[0], 12 * SECOND, 14 * SECOND),
        fault("compact", &[], 12 * SECOND, 14 * SECOND),
        fault("pause", &[1], 50 * SECOND, 55 * SECOND),
    ];
    for other in harmless {
        violated(changed("availability", with(other)), "nothing acknowledged");
    }
    let everybody = |it: &mut History| {
        silent(11, 29)(it);
        it.faults[0] = fault("clock", &[0, 1, 2], 10 * SECOND, 30 * SECOND);
    };
    violated(changed("availability", everybody), "nothing acknowledged");
}

#[test]
fn a_run_in_which_nothing_happened_is_no_pass() {
    unknown(changed("coverage", |it| it.steps.clear()), "nothing was acknowledged");
    unknown(changed("coverage", |it| it.faults.clear()), "kill did nothing");
    unknown(changed("coverage", |it| it.faults[0].evidence = None), "nothing shows");
    let one_of_two = |it: &mut History| {
        let shy = Fault { evidence: None, ..it.faults[0].clone() };
        it.faults.push(shy);
    };
    valid(changed("coverage", one_of_two));
}
