//! The command line's words, formats and exit statuses.

use super::*;
use crate::{exchange::Status, mvcc::HashKv};

#[track_caller]
fn fails(words: &[&str], exit: Exit, message: &str) {
    let arguments = [&["snapshot"], words].concat().into_iter().map(OsString::from).collect();
    let failure = match parse::<Arguments>(arguments) {
        Ok(Parsed::Run(Arguments { command: Command::Save(arguments), .. })) => {
            save::run(arguments).unwrap_err()
        }
        Ok(Parsed::Run(Arguments { command: Command::Offline(offline), output })) => {
            offline.run(&output).unwrap_err()
        }
        Ok(Parsed::Print(text)) => panic!("{text}"),
        Err(failure) => failure,
    };
    assert_eq!(failure, Failure { exit, message: message.to_owned() });
}

#[test]
fn wrong_command_lines_end_as_etcds() {
    use Exit::{BadArguments, BadFeature, Error};
    fails(&["status"], BadArguments, "snapshot status requires exactly one argument");
    fails(&["status", "a", "b"], BadArguments, "snapshot status requires exactly one argument");
    fails(&["status", "/no/file"], Error, "stat /no/file: no such file or directory");
    fails(&["status", "/dev/null", "-w", "xml"], BadFeature, "unsupported output format");
    fails(&["restore"], BadArguments, "snapshot restore requires exactly one argument");
    fails(&["save"], BadArguments, "snapshot save expects one argument <filename>");
    let message = "--mark-compacted required if --revision-bump > 0";
    fails(&["restore", "a", "--bump-revision", "5"], BadArguments, message);
    fails(&["restore", "a", "--mark-compacted"], BadArguments, message);
    fails(&["restore", "a", "--bump-revision=5", "--mark-compacted=false"], BadArguments, message);
    fails(&["status", "--no"], Error, "unknown flag: --no");
}

#[test]
fn sizes_are_shown_as_etcd_shows_them() {
    let cases = [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_480, "20 kB"),
        (9_950, "10 kB"),
        (25_165_824, "25 MB"),
        (1 << 30, "1.1 GB"),
    ];
    for (bytes, text) in cases {
        assert_eq!(show::human(bytes), text);
    }
}

#[test]
fn results_are_shown_in_every_format() {
    let status = Status {
        hash: 0xcafe,
        revision: 7,
        total_keys: 3,
        total_bytes: 24576,
        version: "3.7.0".to_owned(),
    };
    let shown = |format: &str| show::Format::parse(format).unwrap().status(&status);
    assert_eq!(shown("simple").unwrap(), "cafe, 7, 3, 25 kB, 3.7.0\n");
    let json = r#"{"hash":51966,"revision":7,"totalKey":3,"totalSize":24576,"version":"3.7.0"}"#;
    assert_eq!(shown("json").unwrap(), format!("{json}\n"));
    let fields =
        "\"Hash\" : 51966\n\"Revision\" : 7\n\"Keys\" : 3\n\"Size\" : 24576\n\"Version\" : 3.7.0\n";
    assert_eq!(shown("fields").unwrap(), fields);
    let refused = shown("protobuf").unwrap_err();
    let words = "protobuf not supported as output format";
    assert_eq!((refused.exit, refused.message.as_str()), (Exit::BadFeature, words));

    let hash = HashKv { hash: 9, compact_revision: None, hash_revision: 4 };
    let shown = |format: &str| show::Format::parse(format).unwrap().hash_kv(&hash).unwrap();
    assert_eq!(shown("simple"), "9, 4, -1\n");
    assert_eq!(shown("json"), "{\"hash\":9,\"hashRevision\":4,\"compactRevision\":-1}\n");
}
