//! Wrong input: one clear line, exit status 1, and nothing half-started.

use std::{net::TcpListener, path::Path};

use tempfile::TempDir;

use super::{Cluster, orrery, runs, text};

const BROKEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/api-model/broken.json");

/// Refused with a line that has these words, and nothing is written.
#[track_caller]
fn refuses(dir: &Path, arguments: &[&str], words: &str) {
    let before = std::fs::read_dir(dir).unwrap().count();
    let output = orrery(dir, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("WARN[")).collect();
    let [line] = lines.as_slice() else { panic!("{arguments:?}: {said}") };
    assert!(line.starts_with("orrery: ") && line.contains(words), "{arguments:?}: {line}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), before, "{arguments:?} wrote something");
}

#[test]
fn regions_and_flags_that_make_no_sense_are_refused() {
    let dir = TempDir::new().unwrap();
    let refuses = |arguments: &str, words: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        refuses(dir.path(), &arguments, words);
    };
    refuses("up --regions eastus,westeurope", "a witness is enough");
    refuses(
        "up --regions eastus,atlantis,japaneast",
        "region \"atlantis\" is not known: centralus,",
    );
    refuses("up --regions eastus,westus2,southeastasia", "the round trip between westus2 and");
    refuses("up --regions eastus,japaneast,eastus", "region eastus stands there twice");
    refuses("up --members-per-region 0", "0 is not in 1..");
    refuses("up --port 99999", "99999 is not in 0..");
    refuses("up --no-such-flag", "up: unknown flag: --no-such-flag");
    refuses("up --api-model no.json", "up: no.json: No such file");
    refuses(&format!("up --api-model {BROKEN}"), "line 1, column 14: not valid JSON");
    refuses("verify", "there is nothing; orrery up makes it");
    refuses("down", "there is nothing; orrery up makes it");
    refuses("wan --topology no.json", "wan: no.json: No such file");
}

#[test]
fn accounts_that_make_no_sense_are_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("model.json");
    let refuses = |locations: &[(&str, i64)], words: &str| {
        let list = locations.iter().map(|(name, priority)| {
            format!(r#"{{"locationName": "{name}", "failoverPriority": {priority}}}"#)
        });
        let list = list.collect::<Vec<_>>().join(", ");
        let text = format!(
            r#"{{"apiVersion": "vlabs", "properties": {{
                "masterProfile": {{"count": 1, "dnsPrefix": "p", "cosmosEtcd": true}},
                "databaseAccount": {{"locations": [{list}]}}}}}}"#
        );
        std::fs::write(&file, text).unwrap();
        refuses(dir.path(), &["up", "--api-model", "model.json"], words);
    };
    refuses(
        &[("East US", 0), ("West Europe", 1), ("Japan East", 1)],
        "model.json: failoverPriority 1 is given twice: to westeurope and to japaneast",
    );
    refuses(
        &[("East US", 0), ("West Europe", 1), ("Japan East", 3)],
        "model.json: failoverPriority 2 is missing",
    );
    refuses(&[("East US", 0), ("West Europe", 1)], "a witness is enough");
    refuses(
        &[("East US", 0), ("Atlantis", 1), ("Japan East", 2)],
        "region \"atlantis\" is not known",
    );
    refuses(&[("East US", -1)], "locations[0].failoverPriority: expected a whole number, found -1");
}

#[test]
fn ports_that_are_taken_are_named_with_what_they_are_for() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let words = format!("{port} for clients of eastus-0: it is in use by another program");
    refuses(dir.path(), &["up", "--port", &port], &words);
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("_output")).unwrap();
    std::fs::write(dir.path().join("_output/thesis.tex"), "chapter 1").unwrap();
    for word in ["up", "down", "verify"] {
        refuses(dir.path(), &[word], "was not made by orrery up");
    }
    assert!(dir.path().join("_output/thesis.tex").exists());
}

/// A cluster that is there, and not running, but no longer as it was.
#[test]
fn what_does_not_fit_any_more_is_refused_and_nothing_is_started() {
    let cluster = Cluster::up(&["--regions", "eastus", "--members-per-region", "1"]);
    cluster.runs(&["down", "--keep-data"]);
    let before = cluster.processes();
    let refuses = |words: &str| {
        refuses(cluster.dir.path(), &["up"], words);
        assert_eq!(cluster.processes(), before);
        assert!(before.values().all(|pid| !runs(*pid)));
    };
    let key = std::fs::read(cluster.path("etcdclient.key")).unwrap();
    std::fs::copy(cluster.path("client.key"), cluster.path("etcdclient.key")).unwrap();
    refuses("etcdclient.key is not the key of");
    std::fs::remove_file(cluster.path("etcdclient.key")).unwrap();
    refuses("etcdclient.crt is there and");
    std::fs::write(cluster.path("etcdclient.key"), key).unwrap();

    let endpoints = cluster.json("endpoints.json");
    let client = endpoints["members"][0]["client"].as_str().unwrap();
    let taken = TcpListener::bind(client.strip_prefix("https://").unwrap()).unwrap();
    refuses("for clients of eastus-0: it is in use by another program");
    drop(taken);
    let proxy = endpoints["regions"][0]["proxy"].as_str().unwrap();
    let taken = TcpListener::bind(proxy.strip_prefix("http://").unwrap()).unwrap();
    refuses("for the proxy of eastus: it is in use by another program");
    drop(taken);

    let state = std::fs::read_to_string(cluster.path("orrery.json")).unwrap();
    std::fs::write(cluster.path("orrery.json"), state.replace("\"format\": 1", "\"format\": 9"))
        .unwrap();
    refuses("format 9 is not known");
    std::fs::write(cluster.path("orrery.json"), state).unwrap();
    cluster.runs(&["up"]);
}
