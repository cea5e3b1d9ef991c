//! Running one member: everything around the server itself, from the first check to the last
//! signal.

use std::{
    convert::Infallible, future::Future, net::IpAddr, path::Path, process::ExitCode, time::Duration,
};

use anyhow::Context;
use sd_notify::NotifyState;
use serde_json::Map;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    credentials,
    member::{self, PeerTls, Serving, Tls},
    wal_dir,
};

use crate::{
    config::{self, Address, Config, ListenUrl, Listeners, Url, Warning},
    grpc::version::SERVER,
    node::{
        Ended,
        credentials::{JwtError, Options as Credentials},
        data_dir::{DataDir, Token},
    },
    raft::Threads,
    telemetry::{self, Destination, Exporter},
    tls::{self, CLIENT_PROTOCOLS, ClientTls, ServerTls},
};

/// Protocols on the peers' listener: ours, named by nothing, and HTTP for `/version` and
/// `/members`.
const PEER_PROTOCOLS: &[&[u8]] = &[];

/// What goes wrong is the last line of the log and exit status 1.
pub(crate) fn run(config: Config, warnings: &[Warning]) -> ExitCode {
    let traces = traces(&config);
    let exporter = traces.as_ref().ok().and_then(Option::as_ref);
    let outcome = match telemetry::start(&config.log, exporter) {
        Ok(()) => traces.and_then(|traces| start(config, warnings, traces)),
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| {
        let mut fields = Map::new();
        // Causes behind the message are part of it.
        fields.insert("error".to_owned(), format!("{error:#}").into());
        if let Some(about) = about(&error) {
            fields.insert("about".to_owned(), about.into());
        }
        telemetry::fatal("failed to start", fields);
        ExitCode::FAILURE
    })
}

/// The setting that is wrong, where etcd's words do not say it.
fn about(error: &anyhow::Error) -> Option<String> {
    let of_tls = || error.downcast_ref::<tls::Error>()?.about();
    let of_tokens = || error.downcast_ref::<JwtError>()?.about();
    let of_flags = || error.downcast_ref::<config::Error>()?.about();
    of_tls().or_else(of_tokens).or_else(of_flags)
}

fn start(
    config: Config,
    warnings: &[Warning],
    traces: Option<Exporter>,
) -> anyhow::Result<ExitCode> {
    for warning in warnings {
        if warning.level() == telemetry::Level::Info {
            info!(about = warning.about(), "{warning}");
        } else {
            warn!(about = warning.about(), "{warning}");
        }
    }
    // Everything that can be refused is refused before anything is written.
    if !DataDir::holds_member(&config.data_dir) {
        config.discovery.check(config.founding.state)?;
        config.founding.check(&config.name, &config.peers.advertise)?;
    }
    check_files(&config)?;
    let credentials = credentials::load(&config)?;
    check_ports(&config)?;
    let token = Token { value: &config.founding.token, is_set: config.token_is_set };
    let data_dir = DataDir::open(&config.data_dir, token)?;
    wal_dir::prepare(&data_dir, config.wal_dir.as_deref())?;
    let tls = tls(&config, &data_dir)?;
    if traces.is_some() {
        info!("distributed tracing setup enabled");
    }
    if config.memory_mlock {
        lock_memory().context("--memory-mlock")?;
    }
    allow_files();
    // Reads FAILPOINTS; does nothing in a build without the feature.
    let _failures = fail::FailScenario::setup();
    warn_of_danger(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let threads = Threads::default();
    let serving = serve(config, data_dir, (tls, credentials), traces, threads.clone());
    let code = runtime.block_on(serving);
    drop(runtime);
    threads.join();
    code
}

/// Where traces go, if they are to be sent.
fn traces(config: &Config) -> anyhow::Result<Option<Exporter>> {
    let Some(tracing) = &config.tracing else { return Ok(None) };
    let to = Destination {
        address: tracing.address.clone(),
        service_name: tracing.service_name.clone(),
        instance_id: tracing.instance_id.clone(),
        member: config.name.clone(),
    };
    let exporter = Exporter::new(to).with_context(|| {
        format!("--distributed-tracing-address={}: not a collector's", tracing.address)
    })?;
    Ok(Some(exporter))
}

async fn send_the_rest(traces: Option<&Exporter>) {
    if let Some(traces) = traces {
        traces.stop().await;
    }
}

/// Each client is a file. The limit that processes start with is often kept low for old programs;
/// up to the other one a process may raise it by itself, as every program in Go does.
pub(super) fn allow_files() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    let raised =
        getrlimit(RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// All pages, those to come included.
fn lock_memory() -> nix::Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
}

/// Flags that nobody should forget in a unit file.
fn warn_of_danger(config: &Config) {
    if config.unsafe_no_fsync {
        warn!(
            "UNSAFE: --unsafe-no-fsync is set: writes are acknowledged before they are on disk, \
             and a machine that crashes or loses power loses them; this is for tests alone"
        );
    }
    if config.force_new_cluster {
        warn!(
            "UNSAFE: --force-new-cluster is set: all other members are removed from the cluster, \
             at this start and at each one with this flag; take it away once the member is up"
        );
    }
}

async fn serve(
    config: Config,
    data_dir: DataDir,
    secrets: (Tls, Credentials),
    traces: Option<Exporter>,
    threads: Threads,
) -> anyhow::Result<ExitCode> {
    let mut signals = listen_to_signals().context("cannot listen to signals")?;
    tell_start(&config, &data_dir);
    let serving = tokio::select! {
        serving = member::start(config, data_dir, secrets, threads) => serving?,
        Some(signal) = signals.recv() => {
            info!(signal, "received signal while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let code = until_stopped(
        signals,
        async {
            let code = watch(&serving).await;
            let _ = tokio::time::timeout(LAST_ANSWERS, serving.close()).await;
            send_the_rest(traces.as_ref()).await;
            code
        },
        || async {
            serving.stop().await;
            send_the_rest(traces.as_ref()).await;
        },
    )
    .await;
    info!("member stopped");
    Ok(code)
}

/// With the names that etcd has for its settings, which people look for in the first lines.
fn tell_start(config: &Config, data_dir: &DataDir) {
    let urls = |urls: &[Url]| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
    let listen = |urls: &[ListenUrl]| {
        urls.iter().map(|listen| listen.url.as_str()).collect::<Vec<_>>().join(",")
    };
    info!(
        name = config.name,
        region = config.labels.region,
        zone = config.labels.zone,
        data_dir = %data_dir.path().display(),
        wal_dir = %config.wal_dir.as_deref().unwrap_or(Path::new("")).display(),
        version = env!("CARGO_PKG_VERSION"),
        etcd_version = SERVER,
        heartbeat_interval = ?config.timing.heartbeat,
        election_timeout = ?config.timing.election,
        initial_election_tick_advance = config.initial_election_tick_advance,
        snapshot_count = config.snapshot_count,
        snapshot_catchup_entries = config.snapshot_catchup_entries,
        initial_advertise_peer_urls = urls(&config.peers.advertise),
        listen_peer_urls = listen(&config.peers.listen),
        advertise_client_urls = urls(&config.clients.advertise),
        listen_client_urls = listen(&config.clients.listen),
        listen_metrics_urls = listen(&config.metrics_listen),
        initial_cluster = %config.founding,
        initial_cluster_token = config.founding.token,
        quota_backend_bytes = config.limits.quota_backend_bytes,
        max_request_bytes = config.limits.max_request_bytes,
        max_concurrent_streams = config.limits.max_concurrent_streams,
        max_learners = config.max_learners,
        feature_gates = %config.features,
        "starting member"
    );
}

/// Tells when the member serves, and returns when it has stopped by itself.
async fn watch(serving: &Serving) -> ExitCode {
    let ready = async {
        serving.ready().await;
        info!("ready to serve client requests");
        notify(&[NotifyState::Ready]);
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        never = ready => match never {},
        ended = serving.ended() => ended,
    };
    match ended {
        // Not a failure: whoever restarts what fails must leave it alone.
        Ended::Removed => {
            warn!("the member has been permanently removed from the cluster");
            warn!("data-dir used by this member must be removed");
            return ExitCode::SUCCESS;
        }
        Ended::DataLost => error!(
            "the cluster knows this member with another data directory: its data was lost, and with \
             it what it has promised; remove the member and add it again"
        ),
        Ended::Failed(reason) => error!(reason, "the member can't go on"),
    }
    ExitCode::FAILURE
}

/// Files that flags name are read before anything is written, so that a wrong name leaves no trace.
fn check_files(config: &Config) -> Result<(), tls::Error> {
    for listeners in [&config.clients, &config.peers] {
        if let tls::Source::Files(files) = &listeners.tls {
            ServerTls::load(files, &[])?;
        }
    }
    if let tls::Source::Files(files) = &config.peers.tls {
        ClientTls::load(files, &[])?;
    }
    Ok(())
}

/// A port that is taken must leave no trace either. The sockets are bound again when the member
/// starts.
fn check_ports(config: &Config) -> anyhow::Result<()> {
    for (flag, urls) in [
        ("--listen-client-urls", &config.clients.listen),
        ("--listen-peer-urls", &config.peers.listen),
        ("--listen-client-http-urls", &config.http.listen),
        ("--listen-metrics-urls", &config.metrics_listen),
    ] {
        for listen in urls {
            // One that may be shared may be taken.
            if let Address::Tcp(address) = listen.address
                && !config.sockets.reuse_port
            {
                std::net::TcpListener::bind(address)
                    .with_context(|| format!("{flag}={}: cannot listen", listen.url))?;
            }
        }
    }
    Ok(())
}

fn tls(config: &Config, data_dir: &DataDir) -> Result<Tls, tls::Error> {
    let fixtures = data_dir.path().join("fixtures");
    let files = |listeners: &Listeners, folder: &str, flags: tls::FlagNames| {
        Ok::<_, tls::Error>(match &listeners.tls {
            tls::Source::None => None,
            tls::Source::Files(files) => Some(files.as_ref().clone()),
            tls::Source::Automatic { years, protocol } => {
                let (dir, hosts) = (fixtures.join(folder), hosts(listeners));
                Some(tls::Files::automatic(&dir, &hosts, *years, protocol.clone(), flags)?)
            }
        })
    };
    let clients = files(&config.clients, "client", tls::FlagNames::CLIENTS)?
        .map(|files| ServerTls::load(&files, CLIENT_PROTOCOLS))
        .transpose()?;
    let peers = match files(&config.peers, "peer", tls::FlagNames::PEERS)? {
        None => None,
        Some(files) => Some(PeerTls {
            check_address: files.check_address,
            server: ServerTls::load(&files, PEER_PROTOCOLS)?,
            client: ClientTls::load(&files, PEER_PROTOCOLS)?,
        }),
    };
    Ok(Tls { clients, peers })
}

/// What an automatic certificate is valid for: where the member listens, and what it tells others.
fn hosts(listeners: &Listeners) -> Vec<String> {
    let listened = listeners.listen.iter().filter_map(|listen| match &listen.address {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) => None,
    });
    let mut hosts: Vec<String> =
        listened.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()).collect();
    hosts.extend(listeners.advertise.iter().filter_map(|url| match &url.place {
        crate::config::Place::Tcp { host, .. } => Some(host.clone()),
        crate::config::Place::Unix(_) => None,
    }));
    hosts.extend(["localhost".to_owned(), IpAddr::from([127, 0, 0, 1]).to_string()]);
    hosts.sort();
    hosts.dedup();
    hosts
}

/// One message per SIGTERM or SIGINT from now on.
fn listen_to_signals() -> std::io::Result<mpsc::Receiver<&'static str>> {
    // The first signal stops, the second ends; nobody counts more.
    let (sender, receiver) = mpsc::channel(2);
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")]
    {
        tokio::spawn(forward(signal(kind)?, name, sender.clone()));
    }
    Ok(receiver)
}

async fn forward(mut signal: Signal, name: &'static str, to: mpsc::Sender<&'static str>) {
    while signal.recv().await.is_some() {
        if to.send(name).await.is_err() {
            return;
        }
    }
}

/// How long a member that can't go on may take to end its connections in order.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Tells systemd, if it has started this process and wants to know.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "failed to notify systemd");
    }
}

/// Signals that come together are one: `timeout` and terminals tell a process and its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Waits for a signal, then for the stop, then for neither: a second signal, later than the first
/// one, ends the process at once.
async fn until_stopped<S: Future<Output = ()>>(
    mut signals: mpsc::Receiver<&'static str>,
    ended: impl Future<Output = ExitCode>,
    stop: impl FnOnce() -> S,
) -> ExitCode {
    tokio::select! {
        Some(signal) = signals.recv() => info!(signal, "received signal; stopping"),
        code = ended => return code,
    }
    notify(&[NotifyState::Stopping]);
    let first = Instant::now();
    let second = async {
        loop {
            match signals.recv().await {
                Some(signal) if first.elapsed() >= SAME_SIGNAL => break signal,
                Some(_) => (),
                None => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = stop() => ExitCode::SUCCESS,
        signal = second => {
            warn!(signal, "received a second signal; ending at once");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// How a member that stops in the given way ends, after that many signals, two seconds apart.
    async fn ended(signals: usize, stops: bool, fails: bool) -> ExitCode {
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            for _ in 0..signals {
                sender.send("SIGTERM").await.unwrap();
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            pending::<()>().await;
        });
        let trouble =
            async move { if fails { ready(ExitCode::FAILURE).await } else { pending().await } };
        let stop = || async move { if stops { ready(()).await } else { pending().await } };
        until_stopped(receiver, trouble, stop).await
    }

    #[tokio::test(start_paused = true)]
    async fn signals_that_come_together_are_one() {
        let (sender, receiver) = mpsc::channel(2);
        sender.send("SIGTERM").await.unwrap();
        sender.send("SIGTERM").await.unwrap();
        let stop = || tokio::time::sleep(Duration::from_secs(5));
        assert_eq!(until_stopped(receiver, pending(), stop).await, ExitCode::SUCCESS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_stops_a_second_one_ends_and_trouble_is_a_failure() {
        assert_eq!(ended(1, true, false).await, ExitCode::SUCCESS);
        assert_eq!(ended(2, false, false).await, ExitCode::FAILURE);
        assert_eq!(ended(0, true, true).await, ExitCode::FAILURE);
    }
}
