//! Reports as a whole: well-formed whatever stands in a history, and saying what they must.

use serde_json::json;

use orrery_plot::wellformed;

use super::*;
use crate::{
    check::Verdict,
    history::{Call, Ending, Failure, Fault, Kind, MemberState, Outcome, Run, Sample, Step},
};

const HOSTILE: &str = "</script><script>alert(1)</script>\"'&\0\u{202e} <img src=x onerror=y>";
const SECOND: u64 = 1_000_000_000;

fn step(process: u64, began: u64, kind: Kind) -> Step {
    Step {
        process,
        member: 1,
        f: HOSTILE.to_owned(),
        key: Some(HOSTILE.to_owned()),
        value: json!({ HOSTILE: [HOSTILE, 3] }),
        began,
        ended: began + 7_000_000,
        kind,
        result: json!(HOSTILE),
        revision: 9,
        error: HOSTILE.to_owned(),
    }
}

fn hostile() -> History {
    let fault = |name: &str, recovered| Fault {
        outage: 0,
        name: format!("{name} {HOSTILE}"),
        members: vec![0, 2],
        detail: HOSTILE.to_owned(),
        began: SECOND,
        ended: 3 * SECOND,
        recovered,
        evidence: recovered.map(|_| HOSTILE.to_owned()),
        quorum_lives: false,
        hit_leader: true,
    };
    let state = MemberState {
        leads: true,
        is_learner: false,
        term: 3,
        applied: u64::MAX,
        revision: i64::MAX,
        db_size: i64::MIN,
    };
    let failure = Failure { code: HOSTILE.to_owned(), message: HOSTILE.to_owned() };
    let call = Call {
        process: 0,
        member: 0,
        began: 0,
        ended: u64::MAX,
        request: orrery::proto::etcdserverpb::PutRequest::default().into(),
        outcome: Outcome::Fail(failure),
    };
    let kinds = [Kind::Ok, Kind::Fail, Kind::Info];
    History {
        run: Run {
            server: HOSTILE.to_owned(),
            workload: HOSTILE.to_owned(),
            nemesis: HOSTILE.to_owned(),
            seed: 7,
            members: 3,
            duration: 10 * SECOND,
            began_at: HOSTILE.to_owned(),
        },
        steps: (0..30).map(|at| step(at % 4, at * SECOND / 4, kinds[at as usize % 3])).collect(),
        calls: vec![call],
        watches: Vec::new(),
        faults: vec![fault("kill", Some(4 * SECOND)), fault("compact", None)],
        samples: vec![
            Sample { at: 0, member: 0, state: Some(state) },
            Sample { at: SECOND, member: 0, state: None },
        ],
        ending: Ending {
            panics: vec![(1, HOSTILE.to_owned())],
            hashes: [(0, (1, 2)), (1, (1, 2)), (2, (3, 2))].into(),
            ..Ending::default()
        },
    }
}

fn checked(verdict: Verdict) -> Checked {
    Checked { name: HOSTILE.to_owned(), verdict, checked: 0, notes: vec![HOSTILE.to_owned()] }
}

/// Well-formed apart from our own style and script, and nothing is loaded from anywhere.
#[track_caller]
fn check(html: &str) {
    let (before, script) = html.split_once("<script>\n").expect("our script");
    let (script, after) = script.split_once("</script>").expect("the end of our script");
    assert_eq!(script, timeline::SCRIPT);
    wellformed::check(&format!("{before}{after}")).expect("well-formed");
    for never in ["<script", "<img", "NaN", "http://", "https://", "@import", "url("] {
        let rest = format!("{before}{after}").replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(never), "{never}");
    }
}

#[test]
fn a_report_of_nothing_is_well_formed_and_no_pass() {
    let html = html(&History::default(), &[], &Links::default());
    check(&html);
    assert!(html.contains(">UNKNOWN<"));
}

#[test]
fn hostile_text_stays_text_wherever_it_stands() {
    let links = Links {
        history: Some("history.jsonl".to_owned()),
        others: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
    };
    let verdicts = [
        checked(Verdict::Valid),
        checked(Verdict::Unknown(HOSTILE.to_owned())),
        checked(Verdict::Violated(HOSTILE.to_owned())),
    ];
    let html = html(&hostile(), &verdicts, &links);
    check(&html);
    assert!(html.contains(">VIOLATED<"));
    assert!(html.contains("href=\"history.jsonl\""));
    assert!(html.contains("&lt;/script&gt;"));
    assert!(html.contains("<code>00000001</code> (compacted at 2) at 0, 1;"), "hashes that differ");
}

#[test]
fn a_report_says_how_to_run_it_again_and_proves_what_it_says() {
    let mut history = hostile();
    history.run.workload = "register".to_owned();
    history.run.nemesis = "kill".to_owned();
    let proof = "register k1: read 3 at revision 9, but 4 was written".to_owned();
    let verdicts = [checked(Verdict::Valid), checked(Verdict::Violated(proof.clone()))];
    let html = html(&history, &verdicts, &Links::default());
    check(&html);
    assert!(html.contains("jepsen run --workload register --nemesis kill --seed 7 --members 3"));
    assert!(html.contains(&format!("<pre>{proof}</pre>")));
}

#[test]
fn a_long_timeline_is_cut_and_says_so() {
    let mut history = hostile();
    history.steps = (0..10_500).map(|at| step(at % 9, at * 1_000_000, Kind::Ok)).collect();
    let html = html(&history, &[checked(Verdict::Valid)], &Links::default());
    check(&html);
    assert_eq!(html.matches("class=\"op ok\"").count(), 10_000);
    assert!(html.contains("The first 10,000 of 10,500 are shown."));
}
