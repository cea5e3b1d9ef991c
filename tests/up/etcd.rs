//! A real etcd under the same network.

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

const REGIONS: [&str; 3] = ["eastus", "westeurope", "japaneast"];
const ROUND_TRIPS: [[u64; 3]; 3] = [[1, 84, 158], [84, 1, 226], [158, 226, 1]];

/// How long a cluster may take to form, on a machine with much else to do.
const LONG: Duration = Duration::from_secs(120);

/// The etcd that ETCD names, or the one in the cache, or another program beside it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let cached = || {
        let peers = PathBuf::from(std::env::var_os("HOME")?).join(".cache/orrery/peers");
        let folders = std::fs::read_dir(peers).ok()?.filter_map(Result::ok);
        folders.map(|folder| folder.path().join("etcd")).find(|binary| binary.is_file())
    };
    let named = std::env::var_os("ETCD").filter(|named| !named.is_empty()).map(PathBuf::from);
    let etcd = named.or_else(cached);
    let found = etcd.map(|etcd| etcd.with_file_name(name)).filter(|path| path.is_file());
    if found.is_none() {
        // Seen although the test passes, which captures what it prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED {name} in a network between regions: no etcd");
    }
    found
}

/// Processes that end with the test.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A directory with certificates, and a network with a member in each region.
fn network(dir: &Path, proxies: &[u16; 3], relay: u16, client: u16) -> Child {
    let hosts = REGIONS.map(|region| format!("*.{region}.demo.test")).join(",");
    let orrery = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
        command.current_dir(dir);
        command
    };
    let hosts = format!("localhost,127.0.0.1,{hosts}");
    assert!(
        orrery().args(["certs", "--out", "certs", "--host", &hosts]).status().unwrap().success()
    );
    let regions = REGIONS.iter().zip(proxies);
    let topology = json!({
        "cluster": "demo",
        "control": "wan.sock",
        "regions": regions.map(|(name, port)| json!({
            "name": name, "proxy": format!("127.0.0.1:{port}"),
        })).collect::<Vec<_>>(),
        "members": REGIONS.map(|region| json!({
            "name": format!("{region}-0"), "region": region, "zone": "1", "host": "127.0.0.1",
        })),
        "relays": [{
            "region": "westeurope", "member": "eastus-0",
            "listen": format!("127.0.0.1:{relay}"), "port": client,
        }],
        "matrix": {"names": REGIONS, "milliseconds": ROUND_TRIPS},
    });
    std::fs::write(dir.join("topology.json"), topology.to_string()).unwrap();
    spawn(orrery().args(["wan", "--topology", "topology.json"]), &dir.join("wan.log"))
}

#[test]
fn a_real_etcd_forms_a_cluster_through_the_proxies_and_feels_the_distance() {
    let (Some(etcd), Some(etcdctl)) = (program("etcd"), program("etcdctl")) else { return };
    let dir = TempDir::new().unwrap();
    let (clients, peers, proxies, [relay]) = (ports::<3>(), ports::<3>(), ports::<3>(), ports());
    let mut running = Running(vec![network(dir.path(), &proxies, relay, clients[0])]);
    let url = |at: usize| {
        let region = REGIONS[at];
        format!("https://{region}-0.{region}.demo.test:{}", peers[at])
    };
    let founders: Vec<String> = (0..3).map(|at| format!("{}-0={}", REGIONS[at], url(at))).collect();
    for at in 0..3 {
        let name = format!("{}-0", REGIONS[at]);
        let client = format!("https://127.0.0.1:{}", clients[at]);
        let flags = [
            format!("--name={name}"),
            format!("--data-dir={name}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=https://127.0.0.1:{}", peers[at]),
            format!("--initial-advertise-peer-urls={}", url(at)),
            format!("--initial-cluster={}", founders.join(",")),
            "--heartbeat-interval=230".to_owned(),
            "--election-timeout=2300".to_owned(),
            "--cert-file=certs/server.crt".to_owned(),
            "--key-file=certs/server.key".to_owned(),
            "--trusted-ca-file=certs/ca.crt".to_owned(),
            "--client-cert-auth".to_owned(),
            "--peer-cert-file=certs/peer.crt".to_owned(),
            "--peer-key-file=certs/peer.key".to_owned(),
            "--peer-trusted-ca-file=certs/ca.crt".to_owned(),
            "--peer-client-cert-auth".to_owned(),
        ];
        let mut command = Command::new(&etcd);
        command.current_dir(dir.path()).args(flags);
        command.env("HTTPS_PROXY", format!("http://{name}@127.0.0.1:{}", proxies[at]));
        running.0.push(spawn(&mut command, &dir.path().join(format!("{name}.log"))));
    }
    let put = |port: u16| {
        let mut command = Command::new(&etcdctl);
        command.current_dir(dir.path()).args([
            &format!("--endpoints=https://127.0.0.1:{port}"),
            "--cacert=certs/ca.crt",
            "--cert=certs/etcdclient.crt",
            "--key=certs/etcdclient.key",
            "put",
            "k",
            "v",
        ]);
        let start = Instant::now();
        let output = command.output().unwrap();
        output.status.success().then(|| start.elapsed())
    };
    let deadline = Instant::now() + LONG;
    for port in clients {
        while put(port).is_none() {
            let log = || std::fs::read_to_string(dir.path().join("eastus-0.log")).unwrap();
            assert!(Instant::now() < deadline, "no write through {port}: {}", log());
        }
    }
    // Wherever the leader is, its nearest follower is a round trip of 84 ms away or farther.
    for port in clients {
        assert!(put(port).unwrap() >= Duration::from_millis(84));
    }
    // Connection, TLS and request each cross the ocean before.
    assert!(put(relay).unwrap() >= Duration::from_millis(84 * 4));
}
