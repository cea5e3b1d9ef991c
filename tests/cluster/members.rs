//! A cluster of server processes on loopback, which tests start, kill, stop and start again.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{net::TcpSocket, time::sleep};

/// The line that a server logs when clients may come; also etcd's tests wait for it.
const READY: &str = "ready to serve client requests";

/// Longer than a start with recovery takes on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Longer than a stop with a transfer of leadership takes.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// What to start.
pub(crate) struct Setup {
    pub binary: PathBuf,
    pub flags: Vec<String>,
    /// Flags of each member alone, where there are any.
    pub own_flags: Vec<Vec<String>>,
    pub environment: Vec<(String, String)>,
    /// One for each member. Members do not share it, and it need not exist.
    pub data_dirs: Vec<PathBuf>,
    /// With which clients come, if the members want certificates.
    tls: Option<TlsOptions>,
    home: TempDir,
}

impl Setup {
    /// Members of the server under test, with data in a temporary directory.
    pub(crate) fn new(size: usize) -> Setup {
        let home = tempfile::Builder::new().prefix("orrery-cluster-").tempdir().unwrap();
        let data_dirs = (0..size).map(|at| home.path().join(format!("m{at}.data"))).collect();
        let (flags, own_flags, environment) = (Vec::new(), Vec::new(), Vec::new());
        let binary = server_under_test();
        Setup { binary, flags, own_flags, environment, data_dirs, tls: None, home }
    }

    /// The same, with certificates that members want of clients and of each other.
    pub(crate) fn secure(size: usize) -> Setup {
        let mut setup = Setup::new(size);
        let dir = setup.home.path().join("certs");
        let made = Command::new(env!("CARGO_BIN_EXE_orrery"))
            .args(["certs", "--host", "127.0.0.1", "--out", path_text(&dir)])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "no certificates");
        let file = |name: &str| path_text(&dir.join(name)).to_owned();
        for (prefix, name) in [("", "server"), ("peer-", "peer")] {
            setup.flags.extend([
                format!("--{prefix}cert-file={}", file(&format!("{name}.crt"))),
                format!("--{prefix}key-file={}", file(&format!("{name}.key"))),
                format!("--{prefix}trusted-ca-file={}", file("ca.crt")),
                format!("--{prefix}client-cert-auth"),
            ]);
        }
        let read = |name: &str| fs::read(dir.join(name)).unwrap();
        let shown = Identity::from_pem(read("etcdclient.crt"), read("etcdclient.key"));
        let authority = Certificate::from_pem(read("ca.crt"));
        setup.tls = Some(TlsOptions::new().ca_certificate(authority).identity(shown));
        setup
    }

    /// Members that do not run yet.
    pub(crate) fn prepare(self) -> Cluster {
        let members = (0..self.data_dirs.len()).map(|at| self.member(at)).collect();
        Cluster { members, setup: self }
    }

    pub(crate) async fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        let all = cluster.indices();
        cluster.restart(&all).await.unwrap_or_else(|fault| panic!("{fault}"));
        cluster
    }

    fn member(&self, at: usize) -> Member {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Member {
            client_port: Port::reserve(scheme),
            peer_port: Port::reserve(scheme),
            data_dir: self.data_dirs[at].clone(),
            log: self.home.path().join(format!("m{at}.log")),
            log_read: 0,
            process: None,
            founder: true,
            removed: false,
        }
    }
}

/// The binary that `ORRERY_BIN` names, or else the one that cargo built.
pub(crate) fn server_under_test() -> PathBuf {
    let named = std::env::var_os("ORRERY_BIN");
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_orrery")), PathBuf::from)
}

/// A port of this machine that nobody else is given while this lives.
///
/// The socket is bound and never listens, so the server, which allows the reuse of addresses as
/// every server does, can listen there, and while it is down nobody answers. A port that was only
/// looked up and closed would sooner or later be given to some client while its member is down.
struct Port {
    scheme: &'static str,
    address: SocketAddr,
    _reservation: TcpSocket,
}

impl Port {
    fn reserve(scheme: &'static str) -> Port {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Port { scheme, address: socket.local_addr().unwrap(), _reservation: socket }
    }

    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

struct Member {
    client_port: Port,
    peer_port: Port,
    data_dir: PathBuf,
    log: PathBuf,
    /// Bytes of the log that earlier processes of this member wrote.
    log_read: usize,
    process: Option<Child>,
    /// Started with the cluster, not added later.
    founder: bool,
    /// No member any more.
    removed: bool,
}

impl Member {
    fn is_ready(&self) -> bool {
        let log = fs::read(&self.log).unwrap_or_default();
        let ours = log.get(self.log_read..).unwrap_or_default();
        ours.windows(READY.len()).any(|window| window == READY.as_bytes())
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the member runs");
        signal::kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

/// Members on loopback. They die with it.
pub(crate) struct Cluster {
    members: Vec<Member>,
    setup: Setup,
}

impl Cluster {
    /// Starts members of the server under test and waits until all are ready.
    pub(crate) async fn start(size: usize) -> Cluster {
        Setup::new(size).start().await
    }

    pub(crate) fn indices(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| !self.members[at].removed).collect()
    }

    /// Client URLs of all members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.indices().into_iter().map(|at| self.endpoint(at)).collect()
    }

    pub(crate) fn endpoint(&self, at: usize) -> String {
        self.members[at].client_port.url()
    }

    pub(crate) fn peer_url(&self, at: usize) -> String {
        self.members[at].peer_port.url()
    }

    /// Makes ports and a directory for one more member, to be started once the cluster knows it.
    pub(crate) fn prepare_member(&mut self) -> usize {
        let at = self.members.len();
        self.setup.data_dirs.push(self.setup.home.path().join(format!("m{at}.data")));
        let member = self.setup.member(at);
        self.members.push(Member { founder: false, ..member });
        at
    }

    /// The cluster has removed it: it does not count any more.
    pub(crate) fn forget(&mut self, at: usize) {
        self.members[at].removed = true;
    }

    /// Flags of every start from now on, besides those that make it a member.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.setup.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    pub(crate) fn data_dir(&self, at: usize) -> &Path {
        &self.members[at].data_dir
    }

    /// Destroys the data of a member that does not run.
    pub(crate) fn wipe(&self, at: usize) {
        assert!(self.members[at].process.is_none(), "member {at} runs");
        fs::remove_dir_all(&self.members[at].data_dir).unwrap();
    }

    /// Waits until a member has ended by itself.
    pub(crate) async fn ended(&mut self, at: usize) -> ExitStatus {
        let begin = Instant::now();
        let process = self.members[at].process.as_mut().expect("it was started");
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < STOP_DEADLINE, "member {at} does not end by itself");
            sleep(POLL).await;
        };
        self.members[at].process = None;
        status
    }

    pub(crate) fn client_address(&self, at: usize) -> SocketAddr {
        self.members[at].client_port.address
    }

    pub(crate) fn peer_address(&self, at: usize) -> SocketAddr {
        self.members[at].peer_port.address
    }

    /// The process of a member that runs.
    pub(crate) fn pid(&self, at: usize) -> u32 {
        self.members[at].pid().expect("the member runs")
    }

    /// What a member has logged, in all its lives.
    pub(crate) fn log(&self, at: usize) -> String {
        String::from_utf8_lossy(&fs::read(&self.members[at].log).unwrap()).into_owned()
    }

    /// SIGKILL, to all of them before the first is waited for.
    pub(crate) fn kill(&mut self, victims: &[usize]) {
        for &at in victims {
            self.members[at].signal(Signal::SIGKILL);
        }
        for &at in victims {
            self.members[at].kill();
        }
    }

    /// SIGSTOP: the process stays, and does nothing any more.
    pub(crate) fn pause(&self, victims: &[usize]) {
        for &at in victims {
            self.members[at].signal(Signal::SIGSTOP);
        }
    }

    /// SIGCONT: a paused process goes on.
    pub(crate) fn resume(&self, paused: &[usize]) {
        for &at in paused {
            self.members[at].signal(Signal::SIGCONT);
        }
    }

    /// SIGTERM, and waits until the process has ended.
    pub(crate) async fn stop(&mut self, at: usize) {
        self.members[at].signal(Signal::SIGTERM);
        let begin = Instant::now();
        let process = self.members[at].process.as_mut().expect("the member runs");
        while process.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < STOP_DEADLINE, "member {at} does not stop");
            sleep(POLL).await;
        }
        self.members[at].process = None;
    }

    /// Starts members that do not run and waits until they are ready.
    pub(crate) async fn restart(&mut self, members: &[usize]) -> Result<(), String> {
        for &at in members {
            self.spawn(at);
        }
        let begin = Instant::now();
        while !members.iter().all(|&at| self.members[at].is_ready()) {
            for &at in members {
                let process = self.members[at].process.as_mut().expect("just started");
                if let Some(status) = process.try_wait().unwrap() {
                    self.members[at].process = None;
                    return Err(format!("member {at} ended while it started: {status}"));
                }
            }
            if begin.elapsed() > START_DEADLINE {
                return Err(format!("members {members:?} are not all ready in {START_DEADLINE:?}"));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts a member that does not run and does not wait for it.
    pub(crate) fn spawn(&mut self, at: usize) {
        let arguments = self.arguments(at);
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "member {at} runs already");
        let log = File::options().create(true).append(true).open(&member.log).unwrap();
        member.log_read = log.metadata().unwrap().len().try_into().unwrap();
        let process = Command::new(&self.setup.binary)
            .args(arguments)
            .args(&self.setup.flags)
            .args(self.setup.own_flags.get(at).into_iter().flatten())
            .envs(self.setup.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.setup.binary.display()));
        member.process = Some(process);
    }

    fn arguments(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        let everybody: Vec<String> =
            self.indices().iter().map(|&at| format!("m{at}={}", self.peer_url(at))).collect();
        let state = if member.founder { "new" } else { "existing" };
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        vec![
            flag("name", &format!("m{at}")),
            flag("data-dir", path_text(&member.data_dir)),
            flag("listen-client-urls", &member.client_port.url()),
            flag("advertise-client-urls", &member.client_port.url()),
            flag("listen-peer-urls", &member.peer_port.url()),
            flag("initial-advertise-peer-urls", &member.peer_port.url()),
            flag("initial-cluster", &everybody.join(",")),
            flag("initial-cluster-state", state),
            flag("initial-cluster-token", path_text(self.setup.home.path())),
        ]
    }

    /// The member that leads, once one does.
    pub(crate) async fn leader(&self) -> usize {
        let begin = Instant::now();
        while begin.elapsed() < START_DEADLINE {
            for (at, member) in self.members.iter().enumerate() {
                if member.process.is_some() && leads(&mut self.client(at).await).await {
                    return at;
                }
            }
            sleep(POLL).await;
        }
        panic!("no leader in {START_DEADLINE:?}");
    }

    /// A client of one member only.
    pub(crate) async fn client(&self, at: usize) -> Client {
        let endpoints = [self.members[at].client_port.url()];
        let client = Client::connect(endpoints, Some(self.client_options())).await;
        client.expect("the endpoint is a URL")
    }

    /// What clients of this cluster must bring, besides a name and a password where they are asked.
    pub(crate) fn client_options(&self) -> ConnectOptions {
        match &self.setup.tls {
            Some(tls) => client_options().with_tls(tls.clone()),
            None => client_options(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        if std::thread::panicking() {
            self.setup.home.disable_cleanup(true);
            eprintln!("logs and data are kept in {}", self.setup.home.path().display());
        }
    }
}

/// A client of one endpoint. It connects when it is first used, and again whenever it must.
pub(crate) async fn client(endpoint: &str) -> Client {
    Client::connect([endpoint], Some(client_options())).await.expect("the endpoint is a URL")
}

fn client_options() -> ConnectOptions {
    ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(1))
        .with_timeout(Duration::from_secs(10))
}

async fn leads(client: &mut Client) -> bool {
    let Ok(status) = client.status().await else { return false };
    status.header().is_some_and(|header| header.member_id() == status.leader())
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
