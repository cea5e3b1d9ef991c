//! `orrery up`, `verify` and `down`, and the network between regions, as people meet them.

mod etcd;
mod refusals;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

fn orrery(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
    // What a person's shell may have must not reach the members.
    command.env("ETCD_NAME", "somebody").env("HTTPS_PROXY", "http://127.0.0.1:1");
    command.current_dir(dir).stdin(Stdio::null()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory with a cluster in `_output`, which is gone with it.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn up(arguments: &[&str]) -> Cluster {
        let cluster = Cluster { dir: TempDir::new().unwrap() };
        cluster.runs(&[&["up", "--port", "0"], arguments].concat());
        cluster
    }

    /// Standard output of a command that succeeds.
    #[track_caller]
    fn runs(&self, arguments: &[&str]) -> String {
        let output = orrery(self.dir.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        text(&output.stdout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("_output").join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Names with process ids.
    fn processes(&self) -> BTreeMap<String, i32> {
        let entries =
            std::fs::read_dir(self.path("run")).unwrap().map(|entry| entry.unwrap().path());
        let process = |path: PathBuf| {
            let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, value["pid"].as_i64().unwrap() as i32)
        };
        entries.map(process).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.path("orrery.json").exists() {
            orrery(self.dir.path(), &["down"]);
        }
    }
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

const REGIONS: [&str; 3] = ["eastus", "eastus2", "centralus"];

#[test]
fn a_cluster_comes_up_verifies_comes_back_and_leaves_nothing() {
    let cluster = Cluster::up(&["--regions", "eastus,eastus2,centralus"]);
    let mut expected = vec![
        "apimodel.json".to_owned(),
        "data".to_owned(),
        "endpoints.json".to_owned(),
        "env".to_owned(),
        "log".to_owned(),
        "orrery.json".to_owned(),
        "orrery.lock".to_owned(),
        "run".to_owned(),
        "topology.json".to_owned(),
        "wan.sock".to_owned(),
    ];
    let pairs = ["ca", "apiserver", "client", "kubectlClient", "etcdserver", "etcdclient"];
    let peers = ["etcdpeer0", "etcdpeer1", "etcdpeer2"];
    for name in pairs.iter().chain(&peers) {
        expected.extend([format!("{name}.crt"), format!("{name}.key")]);
    }
    expected.sort();
    let entries = std::fs::read_dir(cluster.path("")).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, expected);
    let before = cluster.processes();
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(names, ["centralus-0", "eastus-0", "eastus2-0", "wan"]);

    let report: Value = serde_json::from_str(&cluster.runs(&["verify", "-w", "json"])).unwrap();
    assert_eq!(report["isHealthy"], true);
    assert!(REGIONS.contains(&report["leaderRegion"].as_str().unwrap()), "{report}");
    let outcomes = report["checks"].as_array().unwrap().iter().map(|check| {
        format!("{} {}", check["check"].as_str().unwrap(), check["outcome"].as_str().unwrap())
    });
    let written = REGIONS.map(|_| "write and read ok".to_owned());
    let rest = ["lock ok", "lease ok", "watch ok", "kubectl get nodes skipped"];
    let expected = std::iter::once("keys without values ok".to_owned());
    let expected = expected.chain(written).chain(rest.map(str::to_owned));
    assert!(outcomes.eq(expected), "{report}");

    // Again: nothing is started that runs, and what does not is.
    cluster.runs(&["up"]);
    assert_eq!(cluster.processes(), before);
    let killed = ["eastus2-0", "wan"];
    for name in killed {
        kill(Pid::from_raw(before[name]), Signal::SIGKILL).unwrap();
    }
    cluster.runs(&["up", "--regions", "eastus,eastus2,centralus"]);
    for (name, pid) in cluster.processes() {
        assert_eq!(pid != before[&name], killed.contains(&name.as_str()), "{name}");
    }

    let other = orrery(cluster.dir.path(), &["up", "--regions", "eastus"]);
    assert!(text(&other.stderr).contains("has another cluster"), "{other:?}");

    let now = cluster.processes();
    cluster.runs(&["down", "--keep-data"]);
    assert!(now.values().all(|pid| !runs(*pid)));
    cluster.runs(&["up"]);
    let report = cluster.runs(&["verify"]);
    assert!(report.contains("All is well."), "{report}");

    let now = cluster.processes();
    std::fs::write(cluster.path("mine"), "a person's").unwrap();
    let said = cluster.runs(&["down"]);
    assert!(said.contains("stopped 4 processes") && said.contains("mine"), "{said}");
    assert!(now.values().all(|pid| !runs(*pid)));
    assert_eq!(std::fs::read_dir(cluster.path("")).unwrap().count(), 1);
}

/// As the articles have it, but for what their cloud wants to know.
#[test]
fn the_articles_lines_work() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/api-model/article.json");
    let dir = TempDir::new().unwrap();
    let cluster = Cluster { dir };
    let line = "up --port 0 --subscription-id 1234 --client-id a --client-secret b --dns-prefix \
                aks-sg-test --location centralus --resource-group group --force-overwrite";
    let line: Vec<&str> = line.split_whitespace().chain(["--api-model", model]).collect();
    let output = orrery(cluster.dir.path(), &line);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    let mut warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("WARN[")).collect();
    warnings.iter_mut().for_each(|line| *line = line.split_once("] ").unwrap().1);
    let expected = [
        "apimodel: agentPoolProfiles has no meaning here",
        "apimodel: linuxProfile has no meaning here",
        "apimodel: orchestratorProfile.kubernetesConfig has no meaning here",
        "apimodel: masterProfile.vmSize has no meaning here",
        "--subscription-id has no meaning here",
        "--client-id has no meaning here",
        "--client-secret has no meaning here",
        "--resource-group has no meaning here",
        "apimodel: missing masterProfile.dnsPrefix will use \"aks-sg-test\"",
    ];
    assert_eq!(warnings, expected);
    assert!(said.contains("] Starting deployment (aks-sg-test-"), "{said}");
    assert!(said.trim_end().ends_with("). Succeeded"), "{said}");

    let filled_in = cluster.json("apimodel.json");
    let properties = &filled_in["properties"];
    assert_eq!(properties["masterProfile"]["dnsPrefix"], "aks-sg-test");
    assert_eq!(properties["masterProfile"]["vmSize"], "Standard_D2_v3");
    let locations = &properties["databaseAccount"]["locations"];
    assert_eq!(locations[0]["locationName"], "centralus");
    assert_eq!(locations[2]["failoverPriority"], 2);

    // The line that the predecessor refused.
    let Some(etcdctl) = etcd::program("etcdctl") else { return };
    let endpoints = cluster.json("endpoints.json");
    let url = endpoints["members"][0]["client"].as_str().unwrap();
    let shell = |rest: &str| {
        let line = format!(
            ". _output/env && ETCDCTL_API=3 {} --cert=_output/etcdclient.crt \
             --key=_output/etcdclient.key --endpoints={url} {rest}",
            etcdctl.display()
        );
        let mut command = Command::new("sh");
        let output = command.current_dir(cluster.dir.path()).args(["-c", &line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        text(&output.stdout)
    };
    shell("put /registry/namespaces/default value");
    assert_eq!(shell("get /registry --prefix --keys-only").trim(), "/registry/namespaces/default");
}
