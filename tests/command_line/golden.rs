//! Flags and refusals as a real etcd has them, recorded in `tests/golden/`.
//!
//! `make golden` compares the records with an etcd that `ETCD` names, and writes them anew with
//! `ORRERY_GOLDEN_RECORD=1`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{orrery, refusals::leaves_nothing};

const FLAGS: &str = include_str!("../golden/flags.txt");
const REFUSALS: &str = include_str!("../golden/refusals.txt");

/// Whatever an etcd refuses, it refuses within that time.
const REFUSAL_MAX: Duration = Duration::from_secs(10);

/// The flags in a help, each with its default as it is printed there.
fn listed(help: &str) -> BTreeMap<String, String> {
    let flag = |line: &str| {
        let line = line.strip_prefix("  --")?;
        let (name, default) = line.split_once(' ').unwrap_or((line, ""));
        Some((name.to_owned(), default.trim_matches('\'').to_owned()))
    };
    help.lines().filter_map(flag).collect()
}

fn lines(golden: &str) -> impl Iterator<Item = Vec<&str>> {
    golden.lines().map(|line| line.split('\t').collect())
}

/// What our help must say where etcd's help says this; `None` where we have no such flag.
fn expected<'a>(name: &str, printed: &'a str) -> Option<&'a str> {
    match (name, printed) {
        // Neither server should find the other's data by accident.
        ("data-dir", _) => Some("${name}.orrery"),
        // Still in etcd's help, and unknown to etcd.
        ("discovery" | "discovery-proxy", _) => None,
        // What etcd takes by default, and its help leaves out.
        ("max-concurrent-streams", "math.MaxUint32") => Some("4294967295"),
        ("backend-batch-interval" | "compaction-sleep-interval", "") => Some("0s"),
        ("bootstrap-defrag-threshold-megabytes", "") => Some("0"),
        ("downgrade-check-time", "") => Some("5s"),
        ("enable-grpc-gateway", "") => Some("true"),
        ("memory-mlock", "") => Some("false"),
        ("snapshot-catchup-entries", "") => Some("5000"),
        (_, printed) => Some(printed),
    }
}

#[test]
fn every_flag_of_etcd_is_there_under_its_name_and_with_its_default() {
    let output = orrery(Path::new(".")).arg("--help").output().unwrap();
    let mut ours = listed(&String::from_utf8(output.stdout).unwrap());
    for line in lines(FLAGS) {
        let [name, printed] = line.as_slice() else { panic!("{line:?}") };
        assert_eq!(ours.remove(*name).as_deref(), expected(name, printed), "--{name}");
    }
    let own: Vec<&String> = ours.keys().collect();
    let flags_of_ours = [
        "auto-disarm-nospace",
        "default-consistency",
        "disk-reserve-bytes",
        "identity-consistency",
        "listen-consistency",
        "region",
        "zone",
    ];
    assert_eq!(own, flags_of_ours, "not of etcd");
}

#[test]
fn what_etcd_refuses_is_refused_with_its_words_and_its_status() {
    for line in lines(REFUSALS) {
        let [code, arguments, words] = line.as_slice() else { panic!("{line:?}") };
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = leaves_nothing(&arguments, code.parse().unwrap());
        let told = told(code, &String::from_utf8_lossy(&output.stderr));
        assert_eq!(told.as_deref(), Some(*words), "{arguments:?}");
    }
}

/// The reason, in what is written to standard error by who ends with this status.
fn told(code: &str, stderr: &str) -> Option<String> {
    if code == "2" {
        return stderr.lines().next().map(str::to_owned);
    }
    let error = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["error"].as_str()?.to_owned())
    };
    stderr.lines().rev().find_map(error)
}

#[test]
#[ignore = "needs an etcd: make golden"]
fn the_records_are_what_etcd_says() {
    let etcd = std::env::var("ETCD").expect("ETCD names an etcd");
    let help = Command::new(&etcd).arg("--help").output().unwrap();
    let help = [help.stdout, help.stderr].concat();
    let listed = listed(&String::from_utf8(help).unwrap());
    let flags: String =
        listed.iter().map(|(name, default)| format!("{name}\t{default}\n")).collect();
    let refused = lines(REFUSALS).map(|line| {
        let (code, words) = refusal(&etcd, line[1]);
        format!("{code}\t{}\t{words}\n", line[1])
    });
    let refused: BTreeSet<String> = refused.collect();
    let refused: String = refused.into_iter().collect();
    for (file, recorded, said) in [("flags.txt", FLAGS, flags), ("refusals.txt", REFUSALS, refused)]
    {
        if std::env::var_os("ORRERY_GOLDEN_RECORD").is_some() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            std::fs::write(folder.join(file), said).unwrap();
        } else {
            assert_eq!(said, recorded, "{file}");
        }
    }
}

/// Exit status and words of an etcd that is called so.
fn refusal(etcd: &str, arguments: &str) -> (String, String) {
    let dir = TempDir::new().unwrap();
    let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
    let mut command = Command::new(etcd);
    command.current_dir(dir.path()).args(arguments.split(' ')).stderr(log);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > REFUSAL_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("etcd takes {arguments}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let code = status.code().unwrap().to_string();
    let said = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
    let words = told(&code, &said).unwrap_or_else(|| panic!("{arguments}: {said}"));
    (code, words)
}
