//! The binary as people and scripts meet it: what it prints, what it refuses, what it leaves
//! behind.

mod golden;
mod refusals;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use orrery::proto::etcdserverpb::{DowngradeRequest, maintenance_client::MaintenanceClient};
use refusals::{only_line, refuses};
use tempfile::TempDir;

/// The binary in an empty directory, without variables of etcd's.
fn orrery(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    orrery(dir).args(arguments).output().unwrap()
}

/// Ports chosen by the system, so that nothing collides.
const ANYWHERE: [&str; 6] = [
    "--listen-client-urls",
    "http://127.0.0.1:0",
    "--advertise-client-urls",
    "http://127.0.0.1:0",
    "--listen-peer-urls",
    "http://127.0.0.1:0",
];

/// A member that runs until it is dropped.
struct Member {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Member {
    fn start(dir: &Path, arguments: &[&str]) -> Member {
        Member::spawn(orrery(dir).args(ANYWHERE).args(arguments))
    }

    fn spawn(command: &mut Command) -> Member {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Member { child, lines }
    }

    /// Reads log lines up to the one with this message.
    #[track_caller]
    fn wait_for(&mut self, message: &str) -> Vec<serde_json::Value> {
        let mut seen = Vec::new();
        for line in &mut self.lines {
            let line = line.unwrap();
            let value: serde_json::Value = serde_json::from_str(&line).expect(&line);
            seen.push(value.clone());
            if value["msg"] == message {
                return seen;
            }
        }
        panic!("no line says {message:?}: {seen:?}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let dir = TempDir::new().unwrap();
    let version = run(dir.path(), &["--version"]);
    assert!(version.status.success());
    assert!(version.stdout.starts_with(b"etcd Version: 3.7."));
    let help = run(dir.path(), &["-h"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--listen-client-urls"));
}

#[test]
fn a_port_can_be_shared_on_request() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut first = Member::start(one.path(), &["--socket-reuse-port"]);
    let seen = first.wait_for("listening for clients");
    let url = seen.last().unwrap()["url"].as_str().unwrap().to_owned();
    let arguments = ["--socket-reuse-port", "--listen-client-urls", &url];
    Member::start(two.path(), &arguments).wait_for("ready to serve client requests");
}

#[test]
fn the_file_of_a_socket_is_in_nobodys_way_after_a_stop_or_a_kill() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("clients:1");
    let url = format!("unix://{}", socket.display());
    let arguments = ["--listen-client-urls", &url];
    for (signal, is_left) in [(Signal::SIGKILL, true), (Signal::SIGTERM, false)] {
        let mut member = Member::start(dir.path(), &arguments);
        member.wait_for("ready to serve client requests");
        std::os::unix::net::UnixStream::connect(&socket).unwrap();
        member.signal(signal);
        member.child.wait().unwrap();
        assert_eq!(socket.exists(), is_left, "{signal}");
    }
}

#[test]
fn a_member_takes_its_directory_and_stops_when_asked() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = TempDir::new().unwrap();
        let mut member = Member::start(
            dir.path(),
            &["--wal-dir", "elsewhere", "--backend-bbolt-freelist-type", "array"],
        );
        let seen = member.wait_for("starting member");
        assert_eq!(seen[0]["msg"], "flag has no effect here");
        assert_eq!(seen[0]["about"], "--backend-bbolt-freelist-type");
        assert_eq!(seen[0]["level"], "warn");

        let second = run(dir.path(), &ANYWHERE);
        let words = "--data-dir default.orrery is in use by another process";
        assert_eq!(only_line(&second)["error"], words);
        assert_eq!(second.status.code(), Some(1));
        member.wait_for("ready to serve client requests");
        let segments = std::fs::read_dir(dir.path().join("elsewhere")).unwrap().count();
        assert!(segments > 1, "the log is there");

        member.signal(signal);
        assert_eq!(member.child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(dir.path().join("default.orrery/orrery.json").exists());
    }
}

/// From the start to the stop, with a request between.
#[test]
fn a_clean_run_has_no_line_at_error_level_and_each_line_has_zaps_form() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("member.yml");
    let text = "name: m1\nlog-level: debug\nlisten-client-urls: http://127.0.0.1:0\n\
                advertise-client-urls: http://127.0.0.1:0\nlisten-peer-urls: http://127.0.0.1:0\n\
                initial-advertise-peer-urls: http://127.0.0.1:0\n\
                log-outputs: [stderr, logs/member.log]\n\
                enable-log-rotation: true\n";
    std::fs::write(&config, text).unwrap();
    let mut command = orrery(dir.path());
    let mut child =
        command.arg("--config-file").arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut member = Member { child, lines };
    let mut seen = member.wait_for("ready to serve client requests");
    member.signal(Signal::SIGTERM);
    seen.extend(member.lines.by_ref().map(|line| {
        let line = line.unwrap();
        serde_json::from_str::<serde_json::Value>(&line).expect(&line)
    }));
    assert_eq!(member.child.wait().unwrap().code(), Some(0));
    for line in &seen {
        for field in ["level", "ts", "caller", "msg"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        assert!(["debug", "info", "warn"].contains(&line["level"].as_str().unwrap()), "{line}");
    }
    let said = |words: &str| seen.iter().any(|line| line["msg"] == words);
    assert!(said("serving client traffic insecurely; this is strongly discouraged!"));
    let file = std::fs::read_to_string(dir.path().join("logs/member.log")).unwrap();
    assert_eq!(file.lines().count(), seen.len());
}

#[test]
fn slow_requests_are_told_without_their_values() {
    let dir = TempDir::new().unwrap();
    let slow = ["--warning-unary-request-duration", "1ns", "--warning-apply-duration", "1ns"];
    let mut member = Member::start(dir.path(), &slow);
    let seen = member.wait_for("listening for clients");
    let url = seen.last().unwrap()["url"].as_str().unwrap().to_owned();
    member.wait_for("ready to serve client requests");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = etcd_client::Client::connect([url], None).await.unwrap();
        client.put("k", "secret", None).await.unwrap();
        client.get("k", None).await.unwrap();
    });
    let seen = member.wait_for("request stats");
    let put = seen.last().unwrap();
    assert_eq!(put["level"], "warn");
    assert_eq!(put["response type"], "/etcdserverpb.KV/Put");
    assert_eq!(put["request count"], 1);
    assert_eq!(put["request content"], r#"key:"k" value_size:6 "#);
    assert!(put["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{put}");
    let seen = member.wait_for("request stats");
    let is_read = |line: &&serde_json::Value| line["prefix"] == "read-only range ";
    let read = seen.iter().find(is_read).expect("the read is told as well");
    assert_eq!(read["msg"], "apply request took too long");
    assert_eq!(read["request"], r#"key:"k" "#);
    assert_eq!(read["expected-duration"], "1ns");
    assert!(read["response"].as_str().unwrap().starts_with("range_response_count:1 size:"));
}

#[test]
fn a_member_may_open_as_many_files_as_the_system_lets_it() {
    let dir = TempDir::new().unwrap();
    let mut shell = Command::new("sh");
    shell.current_dir(dir.path()).args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]);
    let mut member = Member::spawn(shell.arg(env!("CARGO_BIN_EXE_orrery")).args(ANYWHERE));
    member.wait_for("ready to serve client requests");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", member.child.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [now, most] = [0, 1].map(|at| files.split_whitespace().nth(at).unwrap());
    assert!(now == most && now != "256", "{files}");
}

/// What systemd hears of a service with `Type=notify`.
#[test]
fn systemd_is_told_when_the_member_serves_and_when_it_stops() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let heard = || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut command = orrery(dir.path());
    command.args(ANYWHERE).env("NOTIFY_SOCKET", &path).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    assert_eq!(heard(), "READY=1\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(heard(), "STOPPING=1\n");
    assert!(child.wait().unwrap().success());
}

/// Images and pods call it by that name.
#[test]
fn the_program_is_the_server_under_etcds_name_too() {
    let dir = TempDir::new().unwrap();
    let etcd = dir.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_orrery"), &etcd).unwrap();
    let version = Command::new(etcd).arg("--version").output().unwrap();
    assert!(version.stdout.starts_with(b"etcd Version: 3.7."), "{version:?}");
}

#[test]
fn dangerous_flags_work_and_are_loudly_warned_of() {
    let dir = TempDir::new().unwrap();
    for _ in 0..2 {
        let mut member =
            Member::start(dir.path(), &["--unsafe-no-fsync", "--force-new-cluster=true"]);
        let seen = member.wait_for("ready to serve client requests");
        for flag in ["--unsafe-no-fsync", "--force-new-cluster"] {
            let words = format!("UNSAFE: {flag} is set");
            let warns = |line: &serde_json::Value| {
                line["level"] == "warn" && line["msg"].as_str().unwrap().starts_with(&words)
            };
            assert!(seen.iter().any(warns), "{seen:?}");
        }
        member.signal(Signal::SIGTERM);
        assert_eq!(member.child.wait().unwrap().code(), Some(0));
    }
}

/// The body of a page of the member that listens for clients at this URL.
fn page(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_cluster_version_is_decided_told_and_goes_back_by_one() {
    let dir = TempDir::new().unwrap();
    let mut member = Member::start(dir.path(), &[]);
    let seen = member.wait_for("updated storage version");
    let told = |message: &str| seen.iter().find(|line| line["msg"] == message).cloned();
    assert_eq!(told("set initial cluster version").unwrap()["cluster-version"], "3.7");
    let url = told("listening for clients").unwrap()["url"].as_str().unwrap().to_owned();
    let versions = r#"{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(page(&url, "/version"), versions);

    let mut client = MaintenanceClient::connect(url.clone()).await.unwrap();
    let mut ask = async |action, version: &str| {
        let version = version.to_owned();
        let answer = client.downgrade(DowngradeRequest { action, version }).await;
        answer.map(|answer| answer.into_inner().version).map_err(|it| it.message().to_owned())
    };
    let (validate, enable, cancel) = (0, 1, 2);
    let error = |text: &str| Err(format!("etcdserver: {text}"));
    assert_eq!(ask(cancel, "").await, Ok("3.7".to_owned()));
    assert_eq!(ask(validate, "v3.6").await, error("wrong downgrade target version format"));
    assert_eq!(ask(validate, "3.5").await, error("invalid downgrade target version"));
    assert_eq!(ask(validate, "3.6").await, Ok("3.7".to_owned()));
    assert_eq!(ask(7, "3.6").await, error("unknown method"));
    assert_eq!(ask(enable, "3.6.1").await, Ok("3.7".to_owned()));
    let ready = member.wait_for("The server is ready to downgrade");
    assert_eq!(ready.last().unwrap()["target-version"], "3.6.0");
    let versions = r#"{"etcdserver":"3.7.0","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
    assert_eq!(page(&url, "/version"), versions);
    assert_eq!(ask(enable, "3.5").await, error("cluster has a downgrade job in progress"));
    let metrics = page(&url, "/metrics");
    assert!(metrics.contains("etcd_cluster_version{cluster_version=\"3.6\"} 1\n"), "{metrics}");

    assert_eq!(ask(cancel, "").await, Ok("3.6".to_owned()));
    let back = member.wait_for("updated storage version");
    assert_eq!(back.last().unwrap()["new-storage-version"], "3.7.0");
}

/// A member that stops while its store is still being closed must not trip over the process's end.
#[test]
fn stopping_right_after_the_start_is_always_orderly() {
    let rounds = || {
        for _ in 0..20 {
            let dir = TempDir::new().unwrap();
            let mut member = Member::start(dir.path(), &[]);
            member.wait_for("ready to serve client requests");
            member.signal(Signal::SIGTERM);
            let last = member.lines.by_ref().map(Result::unwrap).last();
            assert_eq!(member.child.wait().unwrap().code(), Some(0), "{last:?}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(rounds);
        }
    });
}

#[test]
fn automatic_tls_keeps_its_certificates_under_the_data_directory() {
    let dir = TempDir::new().unwrap();
    let arguments = [
        "--data-dir",
        "d",
        "--auto-tls",
        "--peer-auto-tls",
        "--listen-client-urls",
        "https://127.0.0.1:0",
    ];
    let mut member = Member::start(dir.path(), &arguments);
    member.wait_for("starting member");
    for file in ["client/cert.pem", "client/key.pem", "peer/cert.pem", "peer/key.pem"] {
        assert!(dir.path().join("d/fixtures").join(file).exists(), "{file}");
    }
}

#[test]
fn certs_makes_what_members_and_clients_need() {
    let dir = TempDir::new().unwrap();
    let made = run(dir.path(), &["certs", "--out", "c", "--host", "localhost", "127.0.0.1"]);
    assert!(made.status.success(), "{made:?}");
    for name in ["ca", "server", "peer", "etcdclient"] {
        for extension in ["crt", "key"] {
            assert!(dir.path().join(format!("c/{name}.{extension}")).exists(), "{name}");
        }
    }
    let arguments = [
        "--cert-file=c/server.crt",
        "--key-file=c/server.key",
        "--trusted-ca-file=c/ca.crt",
        "--client-cert-auth",
        "--listen-client-urls=https://127.0.0.1:0",
    ];
    Member::start(dir.path(), &arguments).wait_for("starting member");
    let words = "certs: the following required arguments were not provided: --host <NAME>...";
    refuses(&["certs", "--out", "c"], words);
}
