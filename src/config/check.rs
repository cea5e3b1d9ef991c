//! From settings to a [`Config`]: everything that can be wrong is refused here.

mod logging;
mod security;

use std::time::Duration;

use security::{CLIENTS, Names, PEERS};

use super::{
    AutoCompaction, ClusterState, Compaction, Config, Discovery, ELECTION_MS_MAX, Error, Features,
    Founding, Keepalive, Limits, ListenUrl, Listeners, QUOTA_BYTES_DEFAULT, SocketOptions, Timing,
    Url, Warning, auth, consistency, duration, http, raw::RawConfig, services, url,
};
use crate::{cluster::Labels, raft::network::Proxies, tls};

/// Largest `--max-request-bytes`: what one gRPC message and one log record can hold.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Who a cluster of one is, if it has no name; the member that has none does not find itself there.
const NAME_DEFAULT: &str = "default";

/// What etcd takes 0 for.
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);
const SLOW_UNARY_DEFAULT: Duration = Duration::from_millis(300);
const COMPACTION_BATCH_DEFAULT: usize = 1000;
const COMPACTION_SLEEP_DEFAULT: Duration = Duration::from_millis(10);

/// etcd's bound: more often than that is not worth the messages.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(crate) fn check(mut raw: RawConfig) -> Result<(Config, Vec<Warning>), Error> {
    let mut warnings = std::mem::take(&mut raw.warnings);
    if raw.file.is_none() && raw.text("discovery-fallback") == "proxy" {
        return Err(Error::FallbackToProxy);
    }
    let log = logging::options(&raw)?;
    let name = raw.text("name").to_owned();
    let peers = listeners(&raw, &PEERS, &mut warnings)?;
    let clients = listeners(&raw, &CLIENTS, &mut warnings)?;
    let http = http::http(&raw, &clients)?;
    let metrics_listen = extra_listeners(&raw, METRICS, &clients)?;
    // A file leaves etcd with its default.
    if raw.is_set("listen-client-urls")
        && !raw.is_set("advertise-client-urls")
        && raw.file.is_none()
    {
        return Err(Error::NoAdvertiseClientUrls);
    }
    let discovery = Discovery::parse(&raw)?;
    let config = Config {
        founding: founding(&raw, &name, &peers.advertise, &discovery)?,
        data_dir: data_dir(&raw, &name).into(),
        wal_dir: Some(raw.text("wal-dir")).filter(|dir| !dir.is_empty()).map(Into::into),
        name,
        labels: labels(&raw)?,
        sockets: sockets(&raw),
        proxies: Proxies::default(),
        // With a token of discovery the other one is not looked at.
        token_is_set: raw.is_set("initial-cluster-token")
            && !matches!(discovery, Discovery::Registry(_)),
        discovery,
        timing: timing(&raw)?,
        initial_election_tick_advance: raw.bool("initial-election-tick-advance"),
        limits: limits(&raw)?,
        keepalive: keepalive(&raw),
        snapshot_count: or(raw.count("snapshot-count"), 0, SNAPSHOT_COUNT_DEFAULT),
        snapshot_catchup_entries: raw.count("snapshot-catchup-entries"),
        strict_reconfig_check: raw.bool("strict-reconfig-check"),
        max_learners: u64::try_from(raw.number("max-learners"))
            .map_err(|_| Error::NegativeLearners)?,
        watch_progress_notify_interval: progress_interval(&raw),
        auto_compaction: auto_compaction(&raw)?,
        compaction: compaction(&raw),
        corruption: services::corruption_checks(&raw)?,
        downgrade_check_time: raw.duration("downgrade-check-time"),
        bootstrap_defrag_threshold_megabytes: raw.count("bootstrap-defrag-threshold-megabytes"),
        features: features(&raw, &mut warnings)?,
        auth: auth::check(&raw, &mut warnings)?,
        consistency: consistency::defaults(&raw, [&clients.listen, &http.listen], &mut warnings)?,
        http,
        warning_unary_request_duration: or(
            raw.duration("warning-unary-request-duration"),
            Duration::ZERO,
            SLOW_UNARY_DEFAULT,
        ),
        warning_apply_duration: raw.duration("warning-apply-duration"),
        tracing: services::tracing(&raw)?,
        memory_mlock: raw.bool("memory-mlock"),
        force_new_cluster: raw.bool("force-new-cluster"),
        unsafe_no_fsync: raw.bool("unsafe-no-fsync"),
        peers,
        clients,
        metrics_listen,
        log,
    };
    // Whether or not there are certificates for it.
    security::protocol(&raw)?;
    Ok((config, warnings))
}

fn sockets(raw: &RawConfig) -> SocketOptions {
    SocketOptions {
        reuse_port: raw.bool("socket-reuse-port"),
        reuse_address: raw.bool("socket-reuse-address"),
    }
}

fn labels(raw: &RawConfig) -> Result<Labels, Error> {
    let text = |flag| raw.text(flag).to_owned();
    let labels = Labels { region: text("region"), zone: text("zone") };
    if labels.region.is_empty() && !labels.zone.is_empty() {
        return Err(Error::ZoneWithoutRegion(labels.zone));
    }
    Ok(labels)
}

fn data_dir(raw: &RawConfig, name: &str) -> String {
    match raw.text("data-dir") {
        given if raw.is_set("data-dir") && !given.is_empty() => given.to_owned(),
        default => {
            let default = if default.is_empty() { "${name}.orrery" } else { default };
            default.replace("${name}", name)
        }
    }
}

fn progress_interval(raw: &RawConfig) -> Duration {
    let given = raw.duration("watch-progress-notify-interval");
    or(given, Duration::ZERO, PROGRESS_INTERVAL_DEFAULT).max(PROGRESS_INTERVAL_MIN)
}

/// The URLs of a flag, sorted, each once.
pub(super) fn urls<T>(
    raw: &RawConfig,
    flag: &'static str,
    parse: impl Fn(&str) -> Result<T, url::Error>,
    text: impl Fn(&T) -> String,
) -> Result<Vec<T>, Error> {
    parse_urls(raw, flag, parse, text).map_err(|why| Error::BadUrls { flag, why })
}

fn parse_urls<T>(
    raw: &RawConfig,
    flag: &'static str,
    parse: impl Fn(&str) -> Result<T, url::Error>,
    text: impl Fn(&T) -> String,
) -> Result<Vec<T>, url::Error> {
    let value = match raw.text(flag) {
        // To etcd, a flag without URLs is one that was not set.
        "" => super::flags::find(flag).map_or("", |flag| flag.default),
        value => value,
    };
    let parts = value.split(',').filter(|_| !value.is_empty());
    let mut urls = parts.map(parse).collect::<Result<Vec<T>, url::Error>>()?;
    urls.sort_by_cached_key(&text);
    urls.dedup_by_key(|url| text(url));
    Ok(urls)
}

fn listen_urls(raw: &RawConfig, flag: &'static str) -> Result<Vec<ListenUrl>, Error> {
    urls(raw, flag, ListenUrl::parse, |listen| listen.url.to_string())
}

/// Flags whose URLs are served with the clients' certificate.
const CLIENT_LISTENERS: [&str; 3] = ["listen-client-urls", "listen-client-http-urls", METRICS];

const METRICS: &str = "listen-metrics-urls";

fn listeners(
    raw: &RawConfig,
    names: &Names,
    warnings: &mut Vec<Warning>,
) -> Result<Listeners, Error> {
    let listen = listen_urls(raw, names.listen)?;
    let advertise = parse_urls(raw, names.advertise, Url::parse_advertised, Url::to_string);
    let advertise = advertise.map_err(|why| {
        let value = raw.text(names.advertise).to_owned();
        match names.advertise == PEERS.advertise {
            true => Error::BadPeerUrls { value, why },
            false => Error::BadClientUrls { value, why },
        }
    })?;
    // Members prepare to call each other, whatever they listen to.
    let is_needed = names.listen == PEERS.listen || clients_need_tls(raw)?;
    let tls = security::source(raw, names, is_needed, warnings)?;
    for listener in &listen {
        let url = &listener.url;
        if url.tls && tls == tls::Source::None {
            return Err(no_certificate(names, url));
        }
        if !url.tls && security::is_asked_for(raw, names) {
            warnings.push(Warning::TlsUnused(format!("--{} {url}", names.listen)));
        }
    }
    Ok(Listeners { listen, advertise, tls })
}

fn clients_need_tls(raw: &RawConfig) -> Result<bool, Error> {
    for flag in CLIENT_LISTENERS {
        if listen_urls(raw, flag)?.iter().any(|listen| listen.url.tls) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_certificate(names: &Names, url: &Url) -> Error {
    let what = if names.listen == PEERS.listen { "peer url" } else { "client url" };
    let flags = format!("--{}, --{}", names.tls.cert, names.tls.key);
    Error::NoCertificate { what, url: url.to_string(), flags }
}

/// Listeners besides the clients', with the clients' certificate.
pub(super) fn extra_listeners(
    raw: &RawConfig,
    flag: &'static str,
    clients: &Listeners,
) -> Result<Vec<ListenUrl>, Error> {
    let listen = listen_urls(raw, flag)?;
    match listen.iter().find(|listener| listener.url.tls) {
        Some(_) if clients.tls == tls::Source::None && flag == METRICS => {
            Err(Error::NoMetricsCertificate)
        }
        Some(listener) if clients.tls == tls::Source::None => {
            Err(no_certificate(&CLIENTS, &listener.url))
        }
        _ => Ok(listen),
    }
}

fn founding(
    raw: &RawConfig,
    name: &str,
    advertise: &[Url],
    discovery: &Discovery,
) -> Result<Founding, Error> {
    let state = match raw.text("initial-cluster-state") {
        "new" => ClusterState::New,
        "existing" => ClusterState::Existing,
        "" if raw.file.is_some() => ClusterState::New,
        other => return Err(Error::UnknownClusterState(other.to_owned())),
    };
    // A member that is told of no other is the cluster, under whatever name and URLs it has.
    let own = |name: &str| vec![(name.to_owned(), advertise.to_vec())];
    let token = raw.text("initial-cluster-token").to_owned();
    match discovery {
        // Until the others are known; the ids come from this token.
        Discovery::Registry(registry) => {
            Ok(Founding { state, token: registry.token.clone(), members: own(name) })
        }
        Discovery::Srv(_) => Ok(Founding { state, token, members: own(name) }),
        Discovery::None if raw.is_set("initial-cluster") => {
            Founding::parse(raw.text("initial-cluster"), state, token)
        }
        Discovery::None => {
            let name = if name.is_empty() { NAME_DEFAULT } else { name };
            Ok(Founding { state, token, members: own(name) })
        }
    }
}

fn timing(raw: &RawConfig) -> Result<Timing, Error> {
    let heartbeat_ms = raw.count("heartbeat-interval");
    let election_ms = raw.count("election-timeout");
    if heartbeat_ms == 0 {
        return Err(Error::ZeroInterval("heartbeat-interval"));
    }
    if election_ms == 0 {
        return Err(Error::ZeroInterval("election-timeout"));
    }
    if election_ms < heartbeat_ms.saturating_mul(5) {
        return Err(Error::ElectionTooShort { election_ms, heartbeat_ms });
    }
    if election_ms > ELECTION_MS_MAX {
        return Err(Error::ElectionTooLong(election_ms));
    }
    Ok(Timing {
        heartbeat: Duration::from_millis(heartbeat_ms),
        election: Duration::from_millis(election_ms),
    })
}

fn out_of_range(raw: &RawConfig, flag: &'static str, why: &'static str) -> Error {
    Error::OutOfRange { flag, value: raw.text(flag).to_owned(), why }
}

fn at_least_one(raw: &RawConfig, flag: &'static str) -> Result<u64, Error> {
    match raw.count(flag) {
        0 => Err(out_of_range(raw, flag, "expected 1 or more")),
        count => Ok(count),
    }
}

fn limits(raw: &RawConfig) -> Result<Limits, Error> {
    let bytes = at_least_one(raw, "max-request-bytes")?;
    if bytes > REQUEST_BYTES_MAX {
        return Err(out_of_range(raw, "max-request-bytes", "expected at most 1073741824 (1 GiB)"));
    }
    let too_many = |_| out_of_range(raw, "max-txn-ops", "expected at most 4294967295");
    let operations = u32::try_from(at_least_one(raw, "max-txn-ops")?).map_err(too_many)?;
    Ok(Limits {
        max_request_bytes: bytes as usize,
        max_txn_ops: operations as usize,
        max_concurrent_streams: raw.count_32("max-concurrent-streams"),
        quota_backend_bytes: match raw.number("quota-backend-bytes") {
            0 => QUOTA_BYTES_DEFAULT,
            quota => quota,
        },
        disk_reserve_bytes: match raw.number("disk-reserve-bytes") {
            0 => None,
            bytes => Some(u64::try_from(bytes).unwrap_or(0)),
        },
        auto_disarm_nospace: raw.bool("auto-disarm-nospace"),
    })
}

/// `value`, or `default` when it is the one that stands for it.
fn or<T: PartialEq>(value: T, unset: T, default: T) -> T {
    if value == unset { default } else { value }
}

fn keepalive(raw: &RawConfig) -> Keepalive {
    let interval = raw.duration("grpc-keepalive-interval");
    let timeout = raw.duration("grpc-keepalive-timeout");
    // As in etcd, where either of them switches pings off.
    let is_on = !interval.is_zero() && !timeout.is_zero();
    Keepalive { interval: is_on.then_some(interval), timeout }
}

fn auto_compaction(raw: &RawConfig) -> Result<AutoCompaction, Error> {
    let retention = match raw.text("auto-compaction-retention") {
        "" => "0",
        retention => retention,
    };
    let whole = retention.parse::<u64>().ok();
    let bad = || Error::BadRetention(duration::refusal(retention));
    match raw.text("auto-compaction-mode") {
        "periodic" => {
            // A bare number is hours.
            let period = match whole {
                Some(hours) => hours.checked_mul(3_600).map(Duration::from_secs),
                None => duration::parse(retention),
            };
            match period.ok_or_else(bad)? {
                Duration::ZERO => Ok(AutoCompaction::Off),
                period => Ok(AutoCompaction::Periodic(period)),
            }
        }
        "revision" => match whole.ok_or_else(bad)? {
            0 => Ok(AutoCompaction::Off),
            revisions => Ok(AutoCompaction::Revision(revisions)),
        },
        "" => Err(Error::NoCompactionMode),
        mode => Err(Error::UnknownCompactionMode(mode.to_owned())),
    }
}

fn compaction(raw: &RawConfig) -> Compaction {
    let batch_limit = match raw.number("compaction-batch-limit") {
        ..=0 => COMPACTION_BATCH_DEFAULT,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let sleep = raw.duration("compaction-sleep-interval");
    Compaction { batch_limit, sleep_interval: or(sleep, Duration::ZERO, COMPACTION_SLEEP_DEFAULT) }
}

fn features(raw: &RawConfig, warnings: &mut Vec<Warning>) -> Result<Features, Error> {
    let features = raw.features();
    if features.lease_checkpoint_persist && !features.lease_checkpoint {
        return Err(Error::CheckpointPersist);
    }
    warnings.extend(features.changed().filter(|gate| !gate.acts()).map(Warning::GateNoEffect));
    Ok(features)
}
