//! Writes a report of a run that never happened, with everything that a report can show:
//! `cargo run --release -p orrery-jepsen --example demo_report -- DIRECTORY`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use orrery_jepsen::{
    check::{Checked, Verdict},
    history::{Ending, Fault, History, Kind, MemberState, Run, Sample, Step},
    matrix::summary::{Cell, index_html, results_markdown},
    report::{self, Links},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;
const LENGTH: u64 = 60;
const MEMBERS: usize = 5;
const CLIENTS: u64 = 12;

/// Name, members, what was done, from and to in seconds, whether it hit the leader.
type Plan = (&'static str, &'static [usize], &'static str, f64, f64, bool);

const PLAN: [Plan; 10] = [
    ("kill", &[0], "SIGKILL to the leader, started again after 4 s", 5.0, 9.0, true),
    ("partition-leader", &[2], "member 2 hears nobody and nobody hears it", 14.0, 19.0, true),
    ("pause", &[1, 3], "SIGSTOP to two followers", 17.0, 22.0, false),
    ("packet-loss", &[0, 1, 2, 3, 4], "30 % of packets between members", 26.0, 32.0, false),
    ("clock-jump", &[4], "4 h forward, then back", 30.0, 33.0, false),
    ("compact", &[], "compaction at revision 3,120", 24.0, 24.0, false),
    ("defragment", &[3], "defragmentation of member 3", 35.0, 35.0, false),
    ("disk-full", &[2], "no room left on the volume of member 2", 37.0, 42.0, false),
    ("power-loss", &[1], "what was not synced of member 1 is gone", 45.0, 48.5, true),
    ("remove-member", &[4], "member 4 removed, and added anew", 51.0, 54.0, false),
];

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).map(PathBuf::from).context("which directory?")?;
    fs::create_dir_all(&directory)?;
    let history = history();
    let links = Links {
        history: Some("history.jsonl".to_owned()),
        others: (0..MEMBERS)
            .map(|member| (format!("log of member {member}"), format!("member-{member}.log")))
            .collect(),
    };
    fs::write(directory.join("violated.html"), report::html(&history, &checked(true), &links))?;
    fs::write(directory.join("valid.html"), report::html(&history, &checked(false), &links))?;
    let cells = cells(&history);
    fs::write(directory.join("index.html"), index_html(&cells))?;
    fs::write(directory.join("RESULTS.md"), results_markdown(&cells))?;
    Ok(())
}

/// A matrix of runs that were all much like the one, some of them of etcd.
fn cells(history: &History) -> Vec<Cell> {
    let mut random = StdRng::seed_from_u64(7);
    let mut cells = Vec::new();
    let workloads = ["append", "bank", "lease", "lock-fenced", "register", "set", "watch"];
    let nemeses = ["kill", "partition-leader", "pause", "power-loss-minority", "clock-jump", "all"];
    for (row, workload) in workloads.iter().enumerate() {
        for (column, nemesis) in nemeses.iter().enumerate().filter(|it| (row + it.0) % 4 != 3) {
            let place = row * nemeses.len() + column;
            let seed = 4_217_000 + place as u64;
            let broken = place == 16;
            let mut cell = Cell::from(history, &checked(broken), "1de4450c0ffee");
            (cell.workload, cell.nemesis) = ((*workload).to_owned(), (*nemesis).to_owned());
            (cell.seed, cell.members) = (seed, [3, 3, 5][place % 3]);
            cell.report = if broken { "violated.html" } else { "valid.html" }.to_owned();
            cell.faults.truncate(1 + place % 3);
            let mut etcd = Cell { server: "etcd 3.6.5".to_owned(), ..cell.clone() };
            etcd.report = String::new();
            for fault in cell.faults.iter_mut().chain(&mut etcd.faults) {
                fault.recovery_s = Some(random.random_range(0.05..1.6));
            }
            cells.push(cell);
            if place.is_multiple_of(5) {
                cells.push(etcd);
            }
        }
    }
    cells
}

fn history() -> History {
    let mut random = StdRng::seed_from_u64(42);
    History {
        run: Run {
            server: "orrery 0.1.0".to_owned(),
            workload: "append".to_owned(),
            nemesis: "all".to_owned(),
            seed: 4_217_003,
            members: MEMBERS,
            duration: LENGTH * SECOND,
            began_at: "2026-11-21T19:55:10Z".to_owned(),
        },
        steps: steps(&mut random),
        calls: Vec::new(),
        watches: Vec::new(),
        faults: PLAN.iter().map(fault).collect(),
        samples: samples(),
        ending: Ending {
            healed_in: Some(1_840_000_000),
            hashes: (0..MEMBERS).map(|member| (member, (0x5eed_c0de, 3_120))).collect(),
            hash_revision: 9_118,
            ..Ending::default()
        },
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn fault((name, members, detail, from, to, leader): &Plan) -> Fault {
    let recovered = (*name != "disk-full").then_some(nanos(to + 0.03 * from));
    let evidence = match *leader {
        true => Some(format!("leader changed; {} requests failed", (from * 3.0) as u64)),
        false if *name == "clock-jump" => None,
        false => Some(format!("{} requests failed or were late", (from * 2.0) as u64)),
    };
    Fault {
        name: (*name).to_owned(),
        members: members.to_vec(),
        detail: (*detail).to_owned(),
        began: nanos(*from),
        ended: nanos(*to),
        recovered,
        outage: 0,
        evidence,
        quorum_lives: *name != "pause",
        hit_leader: *leader,
    }
}

/// Whether a member is cut off at a time, and whether clients have no leader then.
fn hurt(at: f64, member: usize) -> (bool, bool) {
    let during = |(name, members, _, from, to, _): &&Plan| {
        (*from..*to).contains(&at)
            && members.contains(&member)
            && !matches!(*name, "packet-loss" | "clock-jump" | "disk-full")
    };
    let leaderless =
        PLAN.iter().any(|(.., from, _, hit)| *hit && (*from..from + 1.4).contains(&at));
    (PLAN.iter().any(|plan| during(&plan)), leaderless)
}

fn steps(random: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    for client in 0..CLIENTS {
        let (mut process, mut at) = (client, random.random_range(0.0..0.05));
        while at < LENGTH as f64 {
            let step = step(random, process, client as usize % MEMBERS, at, steps.len());
            at = step.ended as f64 / 1e9 + random.random_range(0.002..0.09);
            if step.kind == Kind::Info {
                process += CLIENTS;
            }
            steps.push(step);
        }
    }
    steps.sort_by_key(|step| step.ended);
    steps
}

fn step(random: &mut StdRng, process: u64, member: usize, at: f64, count: usize) -> Step {
    let (cut, leaderless) = hurt(at, member);
    let lossy = (26.0..32.0).contains(&at);
    let spread: f64 = random.random_range(0.0..1.0);
    let mut took = 0.0012 * (1.0 + 9.0 * spread.powi(6)) * if lossy { 30.0 } else { 1.0 };
    let (mut kind, mut error) = (Kind::Ok, "");
    if cut && random.random_bool(0.6) {
        (kind, took, error) = (Kind::Info, 1.0, "DeadlineExceeded: context deadline exceeded");
    } else if leaderless && random.random_bool(0.7) {
        (kind, error) = (Kind::Fail, "Unavailable: etcdserver: no leader");
        took = 0.0006 + spread * 0.02;
    } else if leaderless {
        took = 0.3 + spread;
    }
    let key = format!("k{}", random.random_range(0..8));
    let reads = random.random_bool(0.5);
    let f = if reads { "read" } else { "append" };
    let value = if reads { Value::Null } else { json!(count) };
    let result = match kind {
        Kind::Ok if reads => json!([count / 9, count / 5, count / 3]),
        Kind::Ok => json!(count),
        Kind::Fail | Kind::Info => Value::Null,
    };
    let (began, ended) = (nanos(at), nanos(at + took));
    let revision = if kind == Kind::Ok { count as i64 } else { 0 };
    let (f, error, key) = (f.to_owned(), error.to_owned(), Some(key));
    Step { process, member, f, key, value, began, ended, kind, result, revision, error }
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for tick in 0..LENGTH * 5 {
        let at = tick as f64 / 5.0;
        let lost = PLAN.iter().filter(|(.., from, _, hit)| *hit && at >= from + 1.4).count();
        let leader = [0, 2, 1, 3][lost.min(3)];
        for member in 0..MEMBERS {
            let (cut, leaderless) = hurt(at, member);
            let late = PLAN.iter().any(|(_, members, _, _, to, _)| {
                members.len() < 3 && members.contains(&member) && (*to..to + 1.5).contains(&at)
            });
            let behind = if late { 120 } else { (member as u64 * 7 + tick) % 97 / 94 };
            let applied = (tick * 30).saturating_sub(behind);
            let state = MemberState {
                leads: member == leader && !leaderless,
                is_learner: member == 4 && (54.0..57.0).contains(&at),
                term: 2 + 2 * lost as u64,
                applied,
                revision: applied as i64,
                db_size: 20_000_000 + applied as i64 * 1500 + member as i64 * 400_000,
            };
            samples.push(Sample { at: nanos(at), member, state: (!cut).then_some(state) });
        }
    }
    samples
}

fn checked(broken: bool) -> Vec<Checked> {
    let one = |name: &str, verdict, checked, notes: &[&str]| Checked {
        name: name.to_owned(),
        verdict,
        checked,
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    };
    let replay = match broken {
        true => Verdict::Violated(
            "revision 3,817: member 2 answered a read of k3 with [12, 40], but the model has \
             [12, 40, 71].\n  71 was appended by process 4 at revision 3,790 (acknowledged at \
             18.204 s)\n  the read began at 19.377 s and ended at 19.381 s at member 2, which was \
             cut off from 14.0 s to 19.0 s\nA linearizable read must see what was acknowledged \
             before it began."
                .to_owned(),
        ),
        false => Verdict::Valid,
    };
    let late = match broken {
        true => Verdict::Unknown("k5: not decided within 30 s (1,204 operations)".to_owned()),
        false => Verdict::Valid,
    };
    vec![
        one("replay", replay, 12_345, &["revisions 1 to 9,118", "reads at old revisions: 211"]),
        one("linearizable", late, 8, &["longest key: 1,204 operations, 3.2 s"]),
        one("transactions", Verdict::Valid, 6_120, &["cycles: none", "unfinished: 41"]),
        one("watch", Verdict::Valid, 9_044, &["12 watchers, 31 resumed"]),
        one("hashes", Verdict::Valid, 5, &["revision 9,118: 5 equal hashes"]),
        one("recovery", Verdict::Valid, 10, &["slowest: 1.53 s of 10 s"]),
        one("coverage", Verdict::Valid, 10, &["9 of 10 faults took effect", "3 leaders lost"]),
        one("logs", Verdict::Valid, 5, &[]),
    ]
}
