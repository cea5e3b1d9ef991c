//! Pages of all kinds of runs.

use orrery_plot::wellformed;

use super::*;
use crate::{
    cli::sla::{
        probe::{Outcome, Probe},
        run::{Fault, Region, Run},
    },
    types::Level,
};

const HOSTILE: &str = "</script><script>alert('\"&\u{202e}')</script>";

fn run(name: &str) -> Run {
    let region = |failover_priority| Region { name: name.to_owned(), failover_priority };
    let fault = Fault {
        what: "isolate region".to_owned(),
        target: name.to_owned(),
        from: 10.0,
        until: 20.0,
        lost_regions: Vec::new(),
    };
    Run {
        server: name.to_owned(),
        began_unix_ms: 1_800_000_000_000,
        seconds: 60.0,
        regions: vec![region(Some(0)), region(None)],
        round_trips_ms: vec![vec![0.0, 84.0], vec![84.0, 0.0]],
        acts: vec![Act::Write, Act::Read(Level::Strong)],
        rate: 10.0,
        max_staleness_ms: 5000,
        faults: vec![fault],
        lost: 0,
        unread: 0,
        keys: 1,
    }
}

fn probe(act: Act, second: u64, outcome: Outcome, counter: u64) -> Probe {
    let due = second * NANOS;
    Probe {
        region: 1,
        act,
        key: 0,
        due,
        sent: due,
        ended: due + 5_000_000,
        outcome,
        counter: Some(counter),
        revision: Some(1),
        token: None,
        error: None,
    }
}

#[track_caller]
fn check(history: &History, beside: Option<&History>, words: &str) {
    let html = html(history, beside);
    wellformed::check(&html).expect("well-formed");
    assert!(html.contains(words), "{words}");
    assert!(!html.contains("<script"), "nobody's name is a script");
    assert!(!html.contains("http://") || !html.contains("src="), "nothing is fetched");
}

#[test]
fn a_page_is_whole_whatever_the_names_and_however_little_was_probed() {
    let empty = History { run: run(HOSTILE), probes: Vec::new() };
    check(&empty, None, "KEPT");
    check(&empty, Some(&empty), "under the same faults");
}

#[test]
fn a_broken_promise_is_on_the_first_screen() {
    let probes = vec![
        probe(Act::Write, 1, Outcome::Done, 1),
        probe(Act::Read(Level::Strong), 5, Outcome::Done, 0),
    ];
    let history = History { run: run("eastus"), probes };
    check(&history, None, "BROKEN");
    check(&history, None, "key 0 was 0, and 1 had been acknowledged");
}

#[test]
fn a_share_is_never_rounded_up_to_all() {
    assert_eq!(per_cent(99.999_9), "99.999 %");
    assert_eq!(per_cent(100.0), "100 %");
}
