//! `deploy/prometheus/` with a real Prometheus and three real members: every expression of alerts
//! and dashboard can be evaluated and finds series, no alert fires while all is well, and those
//! about members fire when members die, when the space runs out, and when leaders change often.
//!
//! `make prometheus-test`; the program is Debian's, or the one that `PROMETHEUS` names.
//! With `ORRERY_BIN` the members are of another server.

#[path = "gateway/http.rs"]
mod http;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use etcd_client::{AlarmAction, AlarmType, Client, WatchOptions};
use members::{Cluster, Setup};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use serde_json::Value;
use tokio::{net::TcpSocket, sync::Mutex, time::sleep};

/// The name of the job of these members.
const JOB: &str = "orrery";

/// Longer than Prometheus takes to start, or to notice what it is about to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long all must be quiet while all is well: many times as long as alerts wait here.
const QUIET: Duration = Duration::from_secs(15);

/// How long alerts must stay as they are: longer than one that has begun takes to fire.
const SETTLED: Duration = Duration::from_secs(5);

/// What a busy machine sets off by itself.
const SLOWNESS: [&str; 5] = [
    "etcdGRPCRequestsSlow",
    "etcdHighCommitDurations",
    "etcdHighFsyncDurations",
    "etcdMemberCommunicationSlow",
    "orrerySlowApply",
];

/// One cluster at a time: members that wait for the processor set alerts off.
static TURN: Mutex<()> = Mutex::const_new(());

const QUOTA_BYTES: i64 = 16 << 20;

const GIBIBYTE: u64 = 1 << 30;

#[tokio::test]
async fn alerts_and_dashboard_work_on_real_members() {
    let Some(program) = program() else { return };
    let _turn = TURN.lock().await;
    let mut setup = Setup::new(3);
    setup.flags.push("--metrics=extensive".to_owned());
    let mut cluster = setup.start().await;
    let prometheus = Prometheus::start(&program, &cluster).await;
    let mut client = cluster.client(0).await;
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await.unwrap();
    prometheus.until_firing(&["orreryAlarm"]).await;
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None).await.unwrap();
    let busy = traffic(&cluster).await;
    prometheus.until("all members are scraped", "count(up == 1) == 3").await;
    // Two scrapes after the traffic began: rates have something to go by.
    prometheus.until("calls are counted", "rate(etcd_mvcc_put_total[20s]) > 1").await;

    let mut faults = prometheus.rules_without_series().await;
    faults.extend(prometheus.panels_without_series().await);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let begin = Instant::now();
    while begin.elapsed() < QUIET {
        assert_eq!(prometheus.firing().await, BTreeSet::new(), "while all is well");
        sleep(Duration::from_secs(1)).await;
    }
    busy.abort();

    let follower = (cluster.leader().await + 1) % 3;
    cluster.kill(&[follower]);
    prometheus.until_firing(&["etcdMembersDown"]).await;
    let quiet = ["etcdInsufficientMembers", "etcdNoLeader"];
    let firing = prometheus.firing().await;
    assert!(quiet.iter().all(|name| !firing.contains(*name)), "{firing:?} with a majority");
    cluster.kill(&[(follower + 1) % 3]);
    prometheus.until_firing(&["etcdMembersDown", "etcdInsufficientMembers", "etcdNoLeader"]).await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_of_before_and_after_writes_are_refused() {
    let Some(program) = program() else { return };
    let _turn = TURN.lock().await;
    let mut setup = Setup::new(3);
    setup.flags.push(format!("--quota-backend-bytes={QUOTA_BYTES}"));
    let cluster = setup.start().await;
    let prometheus = Prometheus::start(&program, &cluster).await;
    prometheus.until_only(&[]).await;

    let mut client = cluster.client(0).await;
    let mut written = 0;
    while client.status().await.unwrap().db_size() < QUOTA_BYTES * 97 / 100 {
        assert!(put(&mut client, written).await, "refused after {written} values");
        written += 1;
    }
    let growing = ["etcdDatabaseQuotaLowSpace", "etcdExcessiveDatabaseGrowth"];
    prometheus.until_only(&growing).await;
    while put(&mut client, written).await {
        written += 1;
    }
    prometheus.until_only(&[growing[0], growing[1], "orreryAlarm"]).await;
}

/// Whether a value of 16 KiB was taken, or the space is used up.
async fn put(client: &mut Client, number: usize) -> bool {
    match client.put(format!("key{number}"), vec![b'x'; 16 << 10], None).await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("space exceeded"), "{error}");
            false
        }
    }
}

#[tokio::test]
async fn a_disk_that_others_fill_is_told_of() {
    let Some(program) = program() else { return };
    let _turn = TURN.lock().await;
    // A reserve so large that little is left above it, in place of a disk that is small.
    let disk = tempfile::Builder::new().prefix("orrery-prometheus-").tempdir().unwrap();
    let free = statvfs(disk.path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    assert!(free > 4 * GIBIBYTE, "only {free} bytes are free here");
    let mut setup = Setup::new(3);
    setup.flags.push(format!("--disk-reserve-bytes={}", free - 2 * GIBIBYTE));
    let cluster = setup.start().await;
    let prometheus = Prometheus::start(&program, &cluster).await;
    prometheus.until_only(&[]).await;

    let file = fs::File::create(disk.path().join("file")).unwrap();
    let length = i64::try_from(3 * GIBIBYTE).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, length).unwrap();
    prometheus.until_only(&["orreryAlarm"]).await;
    drop(cluster);
}

#[tokio::test]
async fn leaders_that_change_often_are_told_of() {
    let Some(program) = program() else { return };
    let _turn = TURN.lock().await;
    let cluster = Setup::new(3).start().await;
    let prometheus = Prometheus::start(&program, &cluster).await;
    prometheus.until_only(&[]).await;

    let mut client = cluster.client(0).await;
    let busy = tokio::spawn(async move {
        for number in 0_u64.. {
            // Without a leader for a moment it may fail, as it does for everybody.
            let _ = client.put("key", number.to_string(), None).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    for _ in 0..6 {
        let leader = cluster.leader().await;
        let status = cluster.client((leader + 1) % 3).await.status().await.unwrap();
        let next = status.header().unwrap().member_id();
        cluster.client(leader).await.move_leader(next).await.unwrap();
        // So that it was scraped, with some writes.
        sleep(Duration::from_secs(1)).await;
    }
    prometheus.until_only(&["etcdHighNumberOfLeaderChanges"]).await;
    busy.abort();
}

/// `PROMETHEUS`, or the one that is installed; without one it is said that tests are left out.
fn program() -> Option<PathBuf> {
    let named = env::var_os("PROMETHEUS").filter(|named| !named.is_empty()).map(PathBuf::from);
    let installed = || {
        let places = env::split_paths(&env::var_os("PATH")?).collect::<Vec<_>>();
        places.into_iter().map(|place| place.join("prometheus")).find(|it| it.is_file())
    };
    let found = named.or_else(installed);
    if found.is_none() {
        let text = "SKIPPED Prometheus: there is none (apt-get install prometheus, PROMETHEUS=)";
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    found
}

/// A little of what members have to do all the time.
async fn traffic(cluster: &Cluster) -> tokio::task::JoinHandle<()> {
    let mut client = cluster.client(0).await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.unwrap();
    let watch = Some(WatchOptions::new().with_prefix());
    let mut watched = client.watch("key", watch).await.unwrap();
    let mut other = cluster.client(1).await;
    tokio::spawn(async move {
        for number in 0_u64.. {
            let key = format!("key{}", number % 10);
            let put = client.put(key.clone(), number.to_string(), None).await.unwrap();
            other.get(key, None).await.unwrap();
            watched.message().await.unwrap().unwrap();
            if number % 10 == 9 {
                keeper.keep_alive().await.unwrap();
                kept.message().await.unwrap().unwrap();
                let revision = put.header().unwrap().revision();
                client.compact(revision - 1, None).await.unwrap();
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
}

/// A Prometheus that scrapes the members each second. It dies with this.
struct Prometheus {
    address: SocketAddr,
    process: Child,
    /// The port is nobody else's as long as this is bound; it never listens.
    _reservation: TcpSocket,
    _home: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The shipped alerts, which wait for two seconds instead of minutes, and look each second where
/// they look each minute.
fn impatient(alerts: &str) -> String {
    let wait = |line: &str| match line.split_once("for: ") {
        Some((indent, time)) if indent.trim().is_empty() && time.ends_with('m') => {
            format!("{indent}for: 2s\n")
        }
        _ => format!("{line}\n"),
    };
    alerts.lines().map(wait).collect::<String>().replace("m:1m]", "m:1s]")
}

impl Prometheus {
    async fn start(program: &Path, cluster: &Cluster) -> Prometheus {
        let home = tempfile::Builder::new().prefix("orrery-prometheus-").tempdir().unwrap();
        let file = |name: &str| home.path().join(name);
        fs::write(file("alerts.yml"), impatient(&shipped("alerts.yml"))).unwrap();
        let targets = cluster.indices().into_iter().map(|at| cluster.client_address(at));
        let targets: Vec<String> = targets.map(|address| format!("{address:?}")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs:\n\
             - job_name: {JOB}\n  static_configs:\n  - targets: [\"{}\"]\n",
            targets.join("\", \"")
        );
        fs::write(file("prometheus.yml"), config).unwrap();
        let reservation = TcpSocket::new_v4().unwrap();
        reservation.set_reuseaddr(true).unwrap();
        reservation.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = reservation.local_addr().unwrap();
        let log_path = file("log");
        let log = fs::File::create(&log_path).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", file("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", file("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus =
            Prometheus { address, process, _reservation: reservation, _home: home };
        prometheus.until_ready(&log_path).await;
        prometheus
    }

    async fn until_ready(&mut self, log: &Path) {
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(self.address).await.is_err()
            || http::ask(self.address, &get("/-/ready")).await.status != 200
        {
            let said = || fs::read_to_string(log).unwrap();
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended: {}", said());
            assert!(begin.elapsed() < PATIENCE, "Prometheus is not ready: {}", said());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What an expression gives now, or Prometheus's complaint.
    async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let form = ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned());
        let request = http::Request {
            method: "POST",
            path: "/api/v1/query",
            headers: vec![form],
            body: &format!("query={}", escaped(expression)),
            lines: usize::MAX,
        };
        let answer = http::ask(self.address, &request).await;
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"]["result"].as_array().unwrap().clone())
    }

    async fn get(&self, path: &str) -> Value {
        let answer = http::ask(self.address, &get(path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str::<Value>(&answer.body).unwrap()["data"].take()
    }

    async fn until(&self, what: &str, expression: &str) {
        let begin = Instant::now();
        while self.query(expression).await.unwrap().is_empty() {
            assert!(begin.elapsed() < PATIENCE, "not yet in {PATIENCE:?}: {what}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Alerts whose time is up.
    async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.get("/api/v1/alerts").await;
        let alerts = alerts["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    async fn until_firing(&self, names: &[&str]) {
        let begin = Instant::now();
        loop {
            let firing = self.firing().await;
            if names.iter().all(|name| firing.contains(*name)) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{names:?} are expected, {firing:?} fire");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until these fire, and lets no other do so until they have for a while.
    async fn until_only(&self, names: &[&str]) {
        self.until("all members are scraped", "count(up == 1) == 3").await;
        let expected: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (begin, mut since) = (Instant::now(), None);
        while since.is_none_or(|since: Instant| since.elapsed() < SETTLED) {
            let mut firing = self.firing().await;
            firing.retain(|name| !SLOWNESS.contains(&name.as_str()));
            assert!(firing.is_subset(&expected), "{expected:?} are expected, {firing:?} fire");
            since = (firing == expected).then(|| since.unwrap_or_else(Instant::now));
            assert!(begin.elapsed() < PATIENCE, "{expected:?} are expected, {firing:?} fire");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Alerts that cannot be evaluated, or that would stay silent for want of series.
    async fn rules_without_series(&self) -> Vec<String> {
        let found = self.get("/api/v1/rules").await;
        let groups = found["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap().clone());
        let rules: Vec<Value> = rules.collect();
        let alerts = shipped("alerts.yml").matches("- alert:").count();
        assert_eq!(rules.len(), alerts, "all that is shipped is loaded");
        let mut faults = Vec::new();
        for rule in rules {
            let name = rule["name"].as_str().unwrap();
            if rule["health"] != "ok" {
                faults.push(format!("{name}: {} {}", rule["health"], rule["lastError"]));
            }
            let compared = compared(rule["query"].as_str().unwrap());
            faults.extend(self.without_series(name, &compared).await);
        }
        faults
    }

    async fn panels_without_series(&self) -> Vec<String> {
        let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")).unwrap();
        let mut faults = Vec::new();
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = variable["query"].as_str().unwrap();
            if let Some(values) = query.strip_prefix("label_values(") {
                let (metric, label) = values.trim_end_matches(')').split_once(", ").unwrap();
                let wanted = format!("count by ({label}) ({metric}{{{label}=\"{JOB}\"}})");
                faults.extend(self.without_series(query, &wanted).await);
            }
        }
        let mut expressions = 0;
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
                let expression = target["expr"].as_str().unwrap();
                let asked = expression.replace("$cluster", JOB).replace("$__rate_interval", "20s");
                faults.extend(self.without_series(title, &asked).await);
                expressions += 1;
            }
        }
        assert!(expressions > 50, "only {expressions} expressions in the dashboard");
        faults
    }

    async fn without_series(&self, name: &str, expression: &str) -> Option<String> {
        match self.query(expression).await {
            Ok(series) if series.is_empty() => Some(format!("{name}: no series: {expression}")),
            Ok(_) => None,
            Err(error) => Some(format!("{name}: {error}: {expression}")),
        }
    }
}

fn get(path: &str) -> http::Request<'_> {
    http::Request { method: "GET", path, headers: Vec::new(), body: "", lines: usize::MAX }
}

/// An alert's expression that says of every series whether it is over the threshold, where the
/// alert has only those that are.
fn compared(expression: &str) -> String {
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut told = Vec::new();
    for (at, word) in words.iter().enumerate() {
        told.push((*word).to_owned());
        let compares = ["<", ">", "==", ">="].contains(word);
        if compares && words.get(at + 1) != Some(&"bool") {
            told.push("bool".to_owned());
        }
    }
    told.join(" ")
}

/// As a value in a form.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[test]
fn comparisons_become_answers() {
    for (alert, answer) in [
        ("a > 0", "a > bool 0"),
        ("sum(up == bool 0) < (b + 1) / 2", "sum(up == bool 0) < bool (b + 1) / 2"),
        ("a{x=\">\"}\n  >= 4", "a{x=\">\"} >= bool 4"),
    ] {
        assert_eq!(compared(alert), answer);
    }
    assert_eq!(impatient("  for: 5m\n  x: for: 5m"), "  for: 2s\n  x: for: 5m\n");
    assert_eq!(impatient("(a)[15m:1m]"), "(a)[15m:1s]\n");
}
