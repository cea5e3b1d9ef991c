//! Making a member out of its configuration: who it is, what it listens on, what it serves.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    consistency, discovery,
    doors::{Door, Doors},
    features, upkeep,
};
use crate::{
    cluster::ids,
    config::{self, Address, ClusterState, Config, Founding, ListenUrl, Place, Url},
    grpc, http, log,
    node::{
        CorruptionRules, Ended, Identity, Limits, MembershipRules, Options, Running, SpaceRules,
        Tuning, credentials::Options as Credentials, data_dir::DataDir,
    },
    proto::etcdserverpb::Member,
    raft::{
        Retention, Threads, Timing, Workers,
        network::{
            Network, PeerUrl, Proxied, Tls as PeerTransport, TunedSockets, UrlError, listen_shared,
            remove_left_over,
        },
        peers::fetch_members,
    },
    tls::{ClientTls, ServerTls},
    types::{ClusterId, MemberId},
};

/// Bytes of the newest log entries kept in memory: what members that are a little behind, and
/// applying itself, read without touching the disk.
const LOG_CACHE_BYTES: usize = 64 << 20;

const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// TLS for each kind of connections; `None` where there is none.
pub(super) struct Tls {
    pub(super) clients: Option<ServerTls>,
    pub(super) peers: Option<PeerTls>,
}

/// Peers talk both ways.
pub(super) struct PeerTls {
    pub(super) server: ServerTls,
    pub(super) client: ClientTls,
    /// Hold members to the addresses in their certificates.
    pub(super) check_address: bool,
}

/// A member that serves clients. Its directory stays taken until it has stopped.
pub(super) struct Serving {
    member: Running,
    listeners: TaskTracker,
    stopping: CancellationToken,
    _data_dir: DataDir,
}

/// Starts a member and serves clients as soon as it takes part in the cluster.
pub(super) async fn start(
    mut config: Config,
    mut data_dir: DataDir,
    (tls, credentials): (Tls, Credentials),
    threads: Threads,
) -> anyhow::Result<Serving> {
    let shared = config.sockets.reuse_port;
    let bound = [
        (Door::Clients, bind(&config.clients.listen, "--listen-client-urls", shared).await?),
        (Door::Pages, bind(&config.http.listen, "--listen-client-http-urls", shared).await?),
        (Door::Metrics, bind(&config.metrics_listen, "--listen-metrics-urls", shared).await?),
    ];

    match data_dir.identity() {
        Some(_) => discovery::ignore(&config),
        None => discovery::complete(&mut config).await?,
    }
    let reach = Reach { network: network(&config), tls: tls.peers.map(transport) };
    let who = identify(&config, &data_dir, &reach).await?;
    data_dir.bind(who.identity)?;
    let options = options(&config, &data_dir, who, reach, threads)?;
    let member = Running::start(Options { credentials, ..options }).await?;

    let (listeners, stopping) = (TaskTracker::new(), CancellationToken::new());
    let node = &member.node;
    let mut registry = Registry::default();
    let extent = match config.http.metrics {
        config::Metrics::Basic => grpc::Extent::Basic,
        config::Metrics::Extensive => grpc::Extent::Extensive,
    };
    let counters = grpc::Metrics::register(&mut registry, extent);
    let limits = requests(&config);
    let consistency = consistency::defaults(&config, node);
    let services = grpc::router(node, limits, consistency, &counters, stopping.clone());
    let services = match &config.tracing {
        Some(tracing) => grpc::traced(services, tracing.sampling_rate),
        None => services,
    };
    let metrics = Arc::new(http::Metrics::new(node.identity, &features::of(&config), registry));
    metrics.count_defragmentations(&node.space);
    let leader = node.status.leader();
    let counting = {
        let metrics = metrics.clone();
        async move { metrics.count_leader_changes(leader).await }
    };
    listeners.spawn(stopping.clone().run_until_cancelled_owned(counting));
    for work in upkeep::work(&config, node) {
        listeners.spawn(stopping.clone().run_until_cancelled_owned(work));
    }
    let doors = Doors { config: &config, node, services, metrics, limits };
    let server = tls.clients.map(|tls| Arc::new(move || tls.current()) as http::TlsSource);
    let settings = connections(&config);
    for (kind, sockets) in bound {
        for Bound { named, url, listener } in sockets {
            info!(url, "listening for clients");
            let is_secure = url.starts_with("https") || url.starts_with("unixs");
            let tls = is_secure.then(|| server.clone()).flatten();
            tell_served(&url, tls.is_some());
            let front = doors.front(kind, &named, tls.is_some());
            listeners.spawn(http::serve(listener, tls, front, settings, stopping.clone()));
        }
    }
    Ok(Serving { member, listeners, stopping, _data_dir: data_dir })
}

fn requests(config: &Config) -> grpc::Limits {
    grpc::Limits {
        max_request_bytes: config.limits.max_request_bytes,
        max_txn_ops: config.limits.max_txn_ops,
        progress_interval: config.watch_progress_notify_interval,
        election_timeout: config.timing.election,
        slow_unary: config.warning_unary_request_duration,
        slow_apply: config.warning_apply_duration,
    }
}

const TRAFFIC: &str = "grpc+http";

/// In etcd's words, which people and tests look for.
fn tell_served(url: &str, securely: bool) {
    let address = url.split_once("://").map_or("", |(_, address)| address);
    if securely {
        info!(traffic = TRAFFIC, address, "serving client traffic securely");
    } else {
        info!(
            traffic = TRAFFIC,
            address, "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
}

fn connections(config: &Config) -> http::Connections {
    http::Connections {
        streams_max: Some(config.limits.max_concurrent_streams).filter(|most| *most < u32::MAX),
        ping_after: config.keepalive.interval,
        ping_patience: config.keepalive.timeout,
    }
}

impl Serving {
    /// Returns when the cluster knows this member and it serves.
    pub(super) async fn ready(&self) {
        self.member.ready().await;
    }

    /// Returns when the member has stopped by itself.
    pub(super) async fn ended(&self) -> Ended {
        self.member.ended().await
    }

    /// Ends a member that has stopped by itself: what waits for it is answered, and connections end
    /// as clients expect them to.
    pub(super) async fn close(&self) {
        self.member.stop().await;
        self.stopping.cancel();
        self.listeners.close();
        self.listeners.wait().await;
    }

    /// Hands over leadership, lets requests under way finish, closes the files.
    pub(super) async fn stop(&self) {
        self.member.hand_over().await;
        self.stopping.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.member.stop().await;
    }
}

/// A socket of a flag.
struct Bound {
    /// As the flag has it.
    named: Url,
    /// As it is now that port 0 has become a number.
    url: String,
    listener: http::Listener,
}

async fn bind(urls: &[ListenUrl], flag: &str, shared: bool) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for listen in urls {
        let taken = || format!("{flag}={}: cannot listen", listen.url);
        let (url, listener) = match &listen.address {
            Address::Tcp(address) => {
                let listener = match shared {
                    true => listen_shared(*address),
                    false => TcpListener::bind(address).await,
                };
                let listener = listener.with_context(taken)?;
                let local = listener.local_addr().with_context(taken)?;
                (with_port(&listen.url, local), http::Listener::Tcp(listener))
            }
            Address::Unix(path) => {
                remove_left_over(path).await.with_context(taken)?;
                let listener = UnixListener::bind(path).with_context(taken)?;
                (listen.url.to_string(), http::Listener::Unix(listener))
            }
        };
        bound.push(Bound { named: listen.url.clone(), url, listener });
    }
    Ok(bound)
}

fn with_port(url: &Url, local: SocketAddr) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    match &url.place {
        Place::Tcp { host, .. } if host.contains(':') => {
            format!("{scheme}://[{host}]:{}", local.port())
        }
        Place::Tcp { host, .. } => format!("{scheme}://{host}:{}", local.port()),
        Place::Unix(_) => url.to_string(),
    }
}

/// How other members are reached.
struct Reach {
    network: Arc<dyn Network>,
    tls: Option<PeerTransport>,
}

impl Reach {
    /// The members that the one at this URL knows of.
    async fn members_at(&self, url: &str) -> Result<(ClusterId, Vec<Member>), String> {
        let url: PeerUrl = url.parse().map_err(|error: UrlError| error.to_string())?;
        let fetched = fetch_members(&*self.network, self.tls.as_ref(), &url).await;
        fetched.map_err(|error| error.to_string())
    }
}

fn transport(tls: PeerTls) -> PeerTransport {
    let PeerTls { server, client, check_address } = tls;
    PeerTransport {
        client: Arc::new(move || client.current()),
        server: Arc::new(move || server.current()),
        check_address,
    }
}

/// Which member of which cluster this is, and with whom the cluster begins.
struct Who {
    identity: Identity,
    /// Empty when the cluster exists.
    founders: Vec<Member>,
}

async fn identify(config: &Config, data_dir: &DataDir, reach: &Reach) -> anyhow::Result<Who> {
    let founders = founders(&config.founding);
    let own = founders.iter().find(|member| member.name == config.name);
    if let Some(identity) = data_dir.identity() {
        // A member that stopped before its cluster was founded founds it now.
        let new = config.founding.state == ClusterState::New
            && ids::cluster_id(founders.iter().map(|member| MemberId(member.id)))
                == identity.cluster;
        return Ok(Who { identity, founders: if new { founders } else { Vec::new() } });
    }
    let own = own.context("--name is not in --initial-cluster")?.clone();
    match config.founding.state {
        ClusterState::New => {
            let cluster = ids::cluster_id(founders.iter().map(|member| MemberId(member.id)));
            let identity = Identity { cluster, member: MemberId(own.id) };
            refuse_second_bootstrap(config, identity, &founders, reach).await?;
            Ok(Who { identity, founders })
        }
        ClusterState::Existing => {
            let identity = join(config, &own, &founders, reach).await?;
            Ok(Who { identity, founders: Vec::new() })
        }
    }
}

/// This member without its id, which is in its data.
fn as_flags_say(config: &Config) -> Member {
    let peer_ur_ls = config.peers.advertise.iter().map(ToString::to_string).collect();
    Member { name: config.name.clone(), peer_ur_ls, ..Member::default() }
}

/// The members that the flags name, with the ids that etcd would give them.
pub(super) fn founders(founding: &Founding) -> Vec<Member> {
    let members = founding.members.iter().map(|(name, urls)| {
        let peer_ur_ls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let id = ids::member_id(&peer_ur_ls, &founding.token, None);
        Member { id: id.0, name: name.clone(), peer_ur_ls, ..Default::default() }
    });
    members.collect()
}

/// A member that comes without data to a cluster that runs has lost its data, and with it the votes
/// that it gave: it must not come back under its old id.
async fn refuse_second_bootstrap(
    config: &Config,
    identity: Identity,
    founders: &[Member],
    reach: &Reach,
) -> anyhow::Result<()> {
    for other in founders.iter().filter(|member| member.id != identity.member.0) {
        for url in &other.peer_ur_ls {
            // Who does not answer has not begun either.
            let Ok((cluster, members)) = reach.members_at(url).await else { continue };
            let mut own = members.iter().filter(|member| member.id == identity.member.0);
            if cluster == identity.cluster && own.any(has_run) {
                return Err(already_bootstrapped(identity.member, config));
            }
        }
    }
    Ok(())
}

/// A member that has started has told the others where clients find it.
fn has_run(member: &Member) -> bool {
    !member.client_ur_ls.is_empty()
}

fn already_bootstrapped(id: MemberId, config: &Config) -> anyhow::Error {
    anyhow::anyhow!(
        "--data-dir={}: member {id} has already been bootstrapped, and its data is not here; if it \
         is lost, remove the member and add it again",
        config.data_dir.display()
    )
}

/// Asks the members of a running cluster which of them this one is.
async fn join(
    config: &Config,
    own: &Member,
    founders: &[Member],
    reach: &Reach,
) -> anyhow::Result<Identity> {
    let mut trouble = Vec::new();
    for other in founders.iter().filter(|member| member.name != own.name) {
        for url in &other.peer_ur_ls {
            match reach.members_at(url).await {
                Ok((cluster, members)) => {
                    let mut wanted = own.peer_ur_ls.clone();
                    wanted.sort();
                    let mut rows = members.into_iter();
                    let row = rows.find(|member| {
                        let mut urls = member.peer_ur_ls.clone();
                        urls.sort();
                        urls == wanted
                    });
                    match row {
                        Some(row) if has_run(&row) => {
                            return Err(already_bootstrapped(MemberId(row.id), config));
                        }
                        Some(row) => return Ok(Identity { cluster, member: MemberId(row.id) }),
                        None => trouble.push(format!(
                            "{url}: no member with peer URLs {}: add it first",
                            wanted.join(",")
                        )),
                    }
                }
                Err(error) => trouble.push(error),
            }
        }
    }
    anyhow::bail!(
        "error validating peerURLs: --initial-cluster-state=existing, and no member of \
         --initial-cluster tells who this one is: {}",
        trouble.join("; ")
    )
}

fn network(config: &Config) -> Arc<dyn Network> {
    let from = if config.features.set_member_local_addr { local_address(config) } else { None };
    let sockets = TunedSockets { shared_ports: config.sockets.reuse_port, from };
    Arc::new(Proxied { sockets, proxies: config.proxies.clone() })
}

/// The first address under which others reach this member from other machines, as in etcd.
fn local_address(config: &Config) -> Option<IpAddr> {
    let addresses = config.peers.advertise.iter().filter_map(|url| match &url.place {
        Place::Tcp { host, .. } => host.parse::<IpAddr>().ok(),
        Place::Unix(_) => None,
    });
    let found = addresses.into_iter().find(|ip| !ip.is_loopback() && !ip.is_unspecified());
    match found {
        Some(ip) => info!("LocalAddr" = %ip, "setting member local address"),
        None => {
            warn!("unable to set a member local address due to lack of suitable local addresses")
        }
    }
    found
}

fn options(
    config: &Config,
    data_dir: &DataDir,
    who: Who,
    reach: Reach,
    threads: Threads,
) -> anyhow::Result<Options> {
    let urls = config.peers.listen.iter().map(|listen| listen.url.as_str().parse::<PeerUrl>());
    let election = config.timing.election;
    // One and a half election timeouts, in whole seconds, as in etcd.
    let lease_ttl_min = (election * 3 / 2).as_millis().div_ceil(1000);
    Ok(Options {
        identity: who.identity,
        incarnation: data_dir.incarnation(),
        epoch: rand::random(),
        name: config.name.clone(),
        client_urls: config.clients.advertise.iter().map(ToString::to_string).collect(),
        labels: config.labels.clone(),
        founders: who.founders,
        timing: Timing { heartbeat: config.timing.heartbeat, election },
        retention: Retention {
            snapshot_count: config.snapshot_count,
            catchup_entries: config.snapshot_catchup_entries,
        },
        limits: Limits {
            request_bytes: config.limits.max_request_bytes,
            lease_ttl_min_secs: i64::try_from(lease_ttl_min)?,
            timeout: Duration::from_secs(5) + election * 2,
        },
        tuning: tuning(config),
        rules: MembershipRules {
            max_learners: config.max_learners,
            strict: config.strict_reconfig_check,
        },
        space: SpaceRules {
            quota_bytes: config.limits.quota_backend_bytes,
            places: vec![data_dir.path().to_owned(), data_dir.log()],
            reserve_bytes: config.limits.disk_reserve_bytes,
            disarms_itself: config.limits.auto_disarm_nospace,
        },
        corruption: corruption(config),
        credentials: Credentials::default(),
        log: log::Options {
            dir: data_dir.log(),
            group: 0,
            segment_bytes: LOG_SEGMENT_BYTES,
            cache_bytes: LOG_CACHE_BYTES,
        },
        files: match config.unsafe_no_fsync {
            true => Arc::new(log::UnsyncedFiles(log::OsFiles)),
            false => Arc::new(log::OsFiles),
        },
        force_new_cluster: config.force_new_cluster.then(|| as_flags_say(config)),
        state_dir: Some(data_dir.state()),
        workers: Workers::Threads(threads),
        network: reach.network,
        peer_tls: reach.tls,
        peer_listen: urls.collect::<Result<_, _>>().context("--listen-peer-urls")?,
        version: grpc::version::SERVER.to_owned(),
        downgrade_check: config.downgrade_check_time,
        seed: rand::random(),
    })
}

fn tuning(config: &Config) -> Tuning {
    Tuning {
        initial_election: config.initial_election_tick_advance,
        compaction_batch: config.compaction.batch_limit,
        compaction_pause: config.compaction.sleep_interval,
        slow_apply: config.warning_apply_duration,
    }
}

fn corruption(config: &Config) -> CorruptionRules {
    CorruptionRules {
        at_start: config.corruption.at_start,
        period: config.corruption.period,
        compaction_period: config.corruption.compaction_period,
    }
}
