//! The binary as people meet it. Runs need root and are `make jepsen-smoke`.

use std::process::{Command, Output};

fn jepsen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jepsen")).args(arguments).output().unwrap()
}

#[test]
fn a_history_that_is_none_is_a_failure_of_the_harness() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let output = jepsen(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.starts_with("jepsen: ") && line.contains("history.jsonl:1"), "{line}");
}

#[test]
fn names_that_do_not_exist_are_refused_with_those_that_do() {
    let output = jepsen(&["run", "--workload", "no-such"]);
    let text = String::from_utf8(output.stderr).unwrap();
    // Not clap's 2, which says that a history could not be judged.
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("no-such") && text.contains("register"), "{text}");
}

#[test]
fn who_asks_how_it_is_used_has_made_no_mistake() {
    let output = jepsen(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("Exit status"));
}
