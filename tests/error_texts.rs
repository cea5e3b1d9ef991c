//! Each of etcd's errors is provoked by a script or a test, or cannot be.

use std::{collections::BTreeSet, fs, path::Path};

const LISTED: &str = include_str!("golden/etcd_errors.txt");

/// What this server can answer with. That the code has these texts is tested beside it.
const OURS: &str = include_str!("golden/errors.txt");

/// etcd sends these two without a status of their own.
const SENT_AS_UNKNOWN: [&str; 2] =
    ["ErrGRPCMemberNotEnoughStarted", "ErrGRPCRequestTooManyRequests"];

struct Listed<'a> {
    name: &'a str,
    text: &'a str,
    /// As it arrives: code and text.
    sent: String,
    /// A kind and what belongs to it.
    shown: (&'a str, &'a str),
}

fn listed() -> Vec<Listed<'static>> {
    let lines: Vec<&str> = LISTED.lines().filter(|line| !line.starts_with('#')).collect();
    let pairs = lines.chunks(2).map(|pair| {
        let [error, shown] = pair else { panic!("{pair:?} says not how it is known") };
        let (name, status) = error.split_once(' ').expect("a name and a status");
        let (code, text) = status.split_once(": ").expect("a code and a text");
        let code = if SENT_AS_UNKNOWN.contains(&name) { "Unknown" } else { code };
        let shown = shown.trim_start().split_once(' ').expect("a kind and more");
        Listed { name, text, sent: format!("{code}: {text}"), shown }
    });
    pairs.collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// From the line that declares the function to the brace that ends it.
fn body<'a>(source: &'a str, function: &str) -> Option<&'a str> {
    let begin = ["fn ", "func "].iter().find_map(|word| {
        let (generic, plain) = (format!("{word}{function}<"), format!("{word}{function}("));
        source.find(&generic).or_else(|| source.find(&plain))
    })?;
    let rest = &source[begin..];
    Some(&rest[..rest.find("\n}")?])
}

/// Why the list is wrong about an error.
fn fault(error: &Listed) -> Option<String> {
    let is_ours = OURS.lines().any(|line| line == error.sent);
    let (kind, what) = error.shown;
    let holds = match kind {
        "script" => {
            let answer = format!("error {}", error.sent);
            is_ours && read(&format!("tests/conformance/{what}")).lines().any(|it| it == answer)
        }
        "test" => {
            let (file, function) = what.split_once(' ').expect("a file and a function");
            let source = read(file);
            let body = body(&source, function).unwrap_or_default();
            is_ours && (body.contains(error.name) || body.contains(error.text))
        }
        "race" => is_ours,
        "never" => !is_ours,
        _ => false,
    };
    (!holds).then(|| format!("{} ({}): {kind} {what}", error.name, error.sent))
}

#[test]
fn each_of_etcds_errors_is_provoked_or_cannot_be() {
    let listed = listed();
    let texts: BTreeSet<&str> = listed.iter().map(|error| error.text).collect();
    assert_eq!((listed.len(), texts.len()), (63, 63));
    let faults: Vec<String> = listed.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "not so:\n{}", faults.join("\n"));
}
