//! Cells, and what is written of many of them.

use std::collections::BTreeMap;

use orrery_plot::wellformed;

use super::*;
use crate::history::{Run, Step};

const SECOND: Nanos = 1_000_000_000;
const HOSTILE: &str = "</pre><script>a</script> | b\n# c\n```\n\"'&\0";

fn checked(name: &str, verdict: Verdict) -> Checked {
    Checked { name: name.to_owned(), verdict, checked: 10, notes: Vec::new() }
}

/// A run with a hundred operations, and a fault for each recovery time in milliseconds.
fn history(server: &str, recoveries: &[Option<u64>]) -> History {
    let step = |at: u64| Step {
        process: 0,
        member: 0,
        f: "read".to_owned(),
        key: None,
        value: serde_json::Value::Null,
        began: at * SECOND / 20,
        ended: at * SECOND / 20 + at * 1_000_000,
        kind: if at <= 90 { Kind::Ok } else { Kind::Fail },
        result: serde_json::Value::Null,
        revision: 0,
        error: String::new(),
    };
    let fault = |recovery: &Option<u64>| Fault {
        name: "kill".to_owned(),
        members: vec![0],
        detail: String::new(),
        began: SECOND,
        ended: 2 * SECOND,
        outage: 0,
        recovered: recovery.map(|after| 2 * SECOND + after * 1_000_000),
        evidence: Some("it was gone".to_owned()),
        quorum_lives: true,
        hit_leader: true,
    };
    let mut history = History {
        run: Run {
            server: server.to_owned(),
            workload: "register".to_owned(),
            nemesis: "kill".to_owned(),
            seed: 7,
            members: 3,
            duration: 10 * SECOND,
            began_at: "2026-11-21T20:00:00Z".to_owned(),
        },
        steps: (1..=100).map(step).collect(),
        faults: recoveries.iter().map(fault).collect(),
        ..History::default()
    };
    history.ending.leaders = BTreeMap::from([(2, 0), (4, 1), (5, 0)]);
    history
}

fn cell(server: &str, recoveries: &[Option<u64>], verdict: Verdict) -> Cell {
    Cell::from(&history(server, recoveries), &[checked("replay", verdict)], "abcdef0")
}

/// Well-formed, apart from our style, in which nothing has to be escaped.
#[track_caller]
fn check(html: &str) {
    wellformed::check(html).expect("well-formed");
    assert!(!html.contains("<script"), "a script");
}

#[test]
fn a_cell_has_the_figures_of_its_run() {
    let cell = cell("orrery 0.1.0", &[Some(300), None], Verdict::Valid);
    assert_eq!(cell.verdict, Standing::Valid);
    assert_eq!(cell.steps, Counts { ok: 90, fail: 10, info: 0 });
    assert_eq!((cell.p50_ms, cell.p99_ms), (Some(45.0), Some(90.0)));
    assert_eq!(cell.throughput, 9.0);
    assert_eq!(cell.leaders_lost, 2);
    assert_eq!(cell.faults[0].recovery_s, Some(0.3));
    assert_eq!(cell.faults[1].recovery_s, None);
}

#[test]
fn a_run_in_which_nothing_was_checked_is_no_pass() {
    assert_eq!(Cell::from(&history("orrery", &[]), &[], "").verdict, Standing::Unknown);
}

#[test]
fn cells_are_read_as_they_were_written_and_a_run_done_again_replaces_its_cell() {
    let directory = tempfile::tempdir().unwrap();
    let results = directory.path().join("results");
    assert_eq!(Cell::read_all(&results).unwrap(), []);
    let unknown = Verdict::Unknown(HOSTILE.to_owned());
    let (ours, etcd) = (cell("orrery", &[Some(1)], unknown), cell("etcd 3.6", &[], Verdict::Valid));
    cell("orrery", &[], Verdict::Valid).write(&results).unwrap();
    ours.write(&results).unwrap();
    etcd.write(&results).unwrap();
    assert_eq!(Cell::read_all(&results).unwrap(), [etcd, ours]);
    fs::write(results.join("zzz.json"), "{").unwrap();
    let error = Cell::read_all(&results).unwrap_err().to_string();
    assert!(error.contains("zzz.json"), "{error}");
}

#[test]
fn recovery_stands_beside_that_of_etcd_under_the_same_seed() {
    let mut other_seed = cell("etcd 3.6.0", &[Some(9_990)], Verdict::Valid);
    other_seed.seed = 8;
    let cells = [
        other_seed,
        cell("orrery 0.1.0", &[Some(300), Some(100), Some(500), None], Verdict::Valid),
        cell("etcd 3.6.0", &[Some(1_200), Some(1_200), Some(1_400)], Verdict::Valid),
    ];
    let text = results_markdown(&cells);
    assert!(
        text.contains("| kill | 4 | 0.300 | 0.500 | 0.000 | **1** | 1.200 | 1.400 | 0.000 |  |"),
        "{text}"
    );
    assert!(text.contains("**1 cell: 1 valid, 0 violated, 0 unknown.**"), "{text}");
    let html = index_html(&cells);
    check(&html);
    assert!(html.contains(">300 ms (0.25×)<"), "{html}");
}

#[test]
fn what_is_not_valid_comes_first_with_its_reason() {
    let cells = [
        cell("orrery", &[], Verdict::Valid),
        cell("orrery", &[], Verdict::Unknown("too late".to_owned())),
        cell("orrery", &[], Verdict::Violated("lost 3\nat revision 9".to_owned())),
    ];
    let text = results_markdown(&cells);
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in {text}"));
    assert!(place("### violated: register under kill, seed 7") < place("### unknown: register"));
    assert!(place("\n    lost 3\n    at revision 9\n") < place("\n    too late\n"));
    assert!(place("### unknown: register") < place("| register | **1 of 3** |"));
    let html = index_html(&cells);
    check(&html);
    assert!(html.contains("A promise was broken"));
}

#[test]
fn hostile_text_stays_text() {
    let mut cell = cell(HOSTILE, &[Some(1)], Verdict::Violated(HOSTILE.to_owned()));
    (cell.workload, cell.nemesis) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    (cell.commit, cell.report) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    check(&index_html(&[cell.clone()]));
    let text = results_markdown(&[cell]);
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        assert!(!line.contains("<script") || line.contains("\\<script"), "{line}");
        assert!(!line.starts_with("# c") && !line.starts_with("```"), "{line}");
    }
}

#[test]
fn a_matrix_without_cells_says_so() {
    let html = index_html(&[]);
    check(&html);
    assert!(html.contains("Nothing was run yet"));
    assert!(results_markdown(&[]).contains("**0 cells"));
}
