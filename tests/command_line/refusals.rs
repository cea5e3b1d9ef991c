//! What is refused: with which words, with which exit status, and that nothing is left behind.

use std::process::Output;

use tempfile::TempDir;

use super::{ANYWHERE, orrery, run};

/// A tool refuses with exit status 1 and exactly that line, and nothing is written.
#[track_caller]
pub(crate) fn refuses(arguments: &[&str], message: &str) {
    let output = leaves_nothing(arguments, 1);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("orrery: {message}\n"));
}

/// What Go's flag package refuses ends with the usage and exit status 2, as in etcd.
#[track_caller]
fn refuses_the_form(arguments: &[&str], message: &str) {
    let output = leaves_nothing(arguments, 2);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with(&format!("{message}\nUsage:\n")), "{arguments:?}: {text}");
}

/// What etcd refuses after that is one line of the log, and exit status 1.
#[track_caller]
fn refuses_the_value(arguments: &[&str], error: &str) {
    let line = only_line(&leaves_nothing(arguments, 1));
    assert_eq!(line["msg"], "failed to verify flags", "{arguments:?}");
    assert_eq!(line["level"], "warn", "{arguments:?}");
    assert_eq!(line["error"], error, "{arguments:?}");
}

/// What shows when a member starts.
#[track_caller]
fn fails_to_start(arguments: &[&str], error: &str) {
    let line = only_line(&leaves_nothing(arguments, 1));
    assert_eq!(line["msg"], "failed to start", "{arguments:?}: {line}");
    assert_eq!(line["level"], "fatal");
    assert_eq!(line["error"], error, "{arguments:?}");
}

#[track_caller]
pub(crate) fn leaves_nothing(arguments: &[&str], code: i32) -> Output {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?} wrote something");
    output
}

/// The last line of the log, of which warnings about flags may come first.
#[track_caller]
pub(crate) fn only_line(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let (last, before) = lines.split_last().expect("something is said");
    assert!(before.iter().all(|line| line["level"] == "warn"), "{text}");
    last.clone()
}

#[test]
fn a_wrong_command_line_is_refused_as_etcd_refuses_it_and_leaves_nothing() {
    refuses_the_form(&["--no-such-flag=1"], "flag provided but not defined: -no-such-flag");
    refuses_the_form(
        &["--election-timeout", "slow"],
        r#"invalid value "slow" for flag -election-timeout: parse error"#,
    );
    refuses_the_form(
        &["--listen-peer-urls", "127.0.0.1:2380"],
        r#"invalid value "127.0.0.1:2380" for flag -listen-peer-urls: parse "127.0.0.1:2380": first path segment in URL cannot contain colon"#,
    );
    refuses_the_value(&["serve"], r#""serve" is not a valid flag"#);
    refuses_the_value(&["--config-file", "x.yml"], "open x.yml: no such file or directory");
    fails_to_start(
        &["--name", "a", "--initial-cluster", "b=http://localhost:2380"],
        r#"couldn't find local name "a" in the initial cluster configuration"#,
    );
    fails_to_start(
        &["--peer-cert-file", "no.crt", "--peer-key-file", "no.key"],
        "open no.crt: no such file or directory",
    );
}

#[test]
fn a_port_that_is_taken_is_refused_and_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    for flag in ["--listen-client-urls", "--listen-peer-urls", "--listen-metrics-urls"] {
        let given = format!("{flag}={url}");
        let reason = "cannot listen: Address already in use (os error 98)";
        fails_to_start(&[&ANYWHERE[..], &[&given]].concat(), &format!("{given}: {reason}"));
    }
}

#[test]
fn a_flag_and_its_variable_together_are_refused() {
    let dir = TempDir::new().unwrap();
    let output = orrery(dir.path()).args(["--name", "a"]).env("ETCD_NAME", "a").output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    let words = "conflicting environment variable is shadowed by corresponding command-line flag";
    assert!(line.contains(words) && line.contains("ETCD_NAME"), "{line}");
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1));
}

#[test]
fn data_of_etcd_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir_all(dir.path().join("data/member/wal")).unwrap();
    let output = run(dir.path(), &["--data-dir", "data"]);
    let line = only_line(&output).to_string();
    assert!(line.contains("orrery snapshot restore"), "{line}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(dir.path().join("data")).unwrap().count(), 1);
}
