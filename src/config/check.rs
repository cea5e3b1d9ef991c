//! From settings to a [`Config`]: everything that can be wrong is refused here.

use std::{fmt::Display, time::Duration};

use super::{
    AutoCompaction, ClusterState, Config, CorruptionChecks, Discovery, ELECTION_MS_MAX, Error,
    Founding, Limits, ListenUrl, Listeners, QUOTA_BYTES_DEFAULT, Timing, Url, Warning, auth,
    duration, http, raw::RawConfig, tracing, url,
};
use crate::{telemetry, tls};

/// Largest `--max-request-bytes`: what one gRPC message and one log record can hold.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// What etcd takes 0 for.
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);

/// etcd's bound: more often than that is not worth the messages.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Names of the flags for one kind of connections.
struct Names {
    listen: &'static str,
    advertise: &'static str,
    auto: &'static str,
    tls: tls::FlagNames,
}

const PEERS: Names = Names {
    listen: "listen-peer-urls",
    advertise: "initial-advertise-peer-urls",
    auto: "peer-auto-tls",
    tls: tls::FlagNames::PEERS,
};

const CLIENTS: Names = Names {
    listen: "listen-client-urls",
    advertise: "advertise-client-urls",
    auto: "auto-tls",
    tls: tls::FlagNames::CLIENTS,
};

pub(crate) fn check(mut raw: RawConfig) -> Result<(Config, Vec<Warning>), Error> {
    let mut warnings = std::mem::take(&mut raw.warnings);
    let name = raw.text("name").to_owned();
    if name.is_empty() {
        // A member without a name is one that has not started yet.
        return Err(unknown(&raw, "name", "a name"));
    }
    if raw.is_set("listen-client-urls") && !raw.is_set("advertise-client-urls") {
        return Err(Error::NoAdvertiseClientUrls);
    }
    let peers = listeners(&raw, &PEERS, &mut warnings)?;
    let clients = listeners(&raw, &CLIENTS, &mut warnings)?;
    let metrics_listen = extra_listeners(&raw, "listen-metrics-urls", &clients)?;
    let http = http::http(&raw, &clients)?;
    let discovery = Discovery::parse(&raw)?;
    if raw.text("discovery-fallback") == "proxy" {
        return Err(Error::FallbackToProxy);
    }
    let founding = founding(&raw, &name, &peers.advertise, &discovery)?;
    let data_dir = match raw.text("data-dir") {
        given if raw.is_set("data-dir") && !given.is_empty() => given.to_owned(),
        default => {
            let default = if default.is_empty() { "${name}.orrery" } else { default };
            default.replace("${name}", &name)
        }
    };
    let config = Config {
        data_dir: data_dir.into(),
        name,
        peers,
        clients,
        metrics_listen,
        http,
        founding,
        // With a token of discovery the other one is not looked at.
        token_is_set: raw.is_set("initial-cluster-token")
            && !matches!(discovery, Discovery::Registry(_)),
        discovery,
        timing: timing(&raw)?,
        limits: limits(&raw)?,
        snapshot_count: or(raw.count("snapshot-count"), 0, SNAPSHOT_COUNT_DEFAULT),
        snapshot_catchup_entries: raw.count("snapshot-catchup-entries"),
        strict_reconfig_check: raw.bool("strict-reconfig-check"),
        max_learners: at_least_one(&raw, "max-learners")?,
        downgrade_check_time: raw.duration("downgrade-check-time"),
        force_new_cluster: raw.bool("force-new-cluster"),
        unsafe_no_fsync: raw.bool("unsafe-no-fsync"),
        pre_vote: raw.bool("pre-vote"),
        watch_progress_notify_interval: or(
            raw.duration("watch-progress-notify-interval"),
            Duration::ZERO,
            PROGRESS_INTERVAL_DEFAULT,
        )
        .max(PROGRESS_INTERVAL_MIN),
        auto_compaction: auto_compaction(&raw)?,
        corruption: corruption_checks(&raw)?,
        auth: auth::check(&raw, &mut warnings)?,
        tracing: tracing::check(&raw)?,
        log_level: telemetry::Level::parse(raw.text("log-level"))
            .ok_or_else(|| unknown(&raw, "log-level", telemetry::Level::NAMES))?,
    };
    Ok((config, warnings))
}

fn unknown(raw: &RawConfig, flag: &str, known: impl Display) -> Error {
    let why = format!("expected {known}");
    let value = raw.text(flag).to_owned();
    Error::BadValue { setting: format!("--{flag}"), value, why }
}

pub(super) fn urls<T>(
    raw: &RawConfig,
    flag: &'static str,
    parse: impl Fn(&str) -> Result<T, url::Error>,
    text: impl Fn(&T) -> String,
) -> Result<Vec<T>, Error> {
    let value = raw.text(flag);
    let bad = |why| Error::BadUrls { flag, value: value.to_owned(), why };
    let parts = value.split(',').filter(|_| !value.is_empty());
    let mut urls = parts.map(|url| parse(url).map_err(bad)).collect::<Result<Vec<T>, Error>>()?;
    urls.sort_by_cached_key(&text);
    urls.dedup_by_key(|url| text(url));
    Ok(urls)
}

fn listeners(
    raw: &RawConfig,
    names: &Names,
    warnings: &mut Vec<Warning>,
) -> Result<Listeners, Error> {
    let listen = urls(raw, names.listen, ListenUrl::parse, |listen| listen.url.to_string())?;
    let advertise = urls(raw, names.advertise, Url::parse_advertised, Url::to_string)?;
    for (flag, is_empty) in
        [(names.listen, listen.is_empty()), (names.advertise, advertise.is_empty())]
    {
        if is_empty {
            return Err(Error::NoUrls(flag));
        }
    }
    let tls = tls_source(raw, names, warnings)?;
    for listener in &listen {
        let url = &listener.url;
        if url.tls && tls == tls::Source::None {
            return Err(no_certificate(names.listen, url));
        }
        if !url.tls && tls != tls::Source::None {
            warnings.push(Warning::TlsUnused(format!("--{} {url}", names.listen)));
        }
    }
    Ok(Listeners { listen, advertise, tls })
}

fn no_certificate(flag: &'static str, url: &Url) -> Error {
    let names = if flag == PEERS.listen { &PEERS.tls } else { &CLIENTS.tls };
    let url = url.to_string();
    Error::NoCertificate { flag, url, cert_flag: names.cert, key_flag: names.key }
}

fn tls_source(
    raw: &RawConfig,
    names: &Names,
    warnings: &mut Vec<Warning>,
) -> Result<tls::Source, Error> {
    let flags = names.tls;
    let file = |flag: &str| Some(raw.text(flag)).filter(|path| !path.is_empty()).map(Into::into);
    let pair = |cert_flag, key_flag| match (file(cert_flag), file(key_flag)) {
        (Some(cert), Some(key)) => Ok(Some(tls::Pair { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(Error::HalfACertificate {
            cert_flag,
            key_flag,
            cert: raw.text(cert_flag).to_owned(),
            key: raw.text(key_flag).to_owned(),
        }),
    };
    let shown = pair(flags.cert, flags.key)?;
    let dialling = pair(flags.client_cert, flags.client_key)?;
    let versions = versions(raw)?;
    let automatic = raw.bool(names.auto);
    Ok(match shown {
        Some(shown) => {
            if automatic {
                warnings.push(Warning::AutoTlsUnused(names.auto));
            }
            tls::Source::Files(Box::new(tls::Files {
                shown,
                // etcd's flag of this name for clients is for dialling itself, which we never do.
                dialling: dialling.filter(|_| names.auto == PEERS.auto),
                trust: file(flags.trusted_ca).map_or(tls::Trust::System, tls::Trust::File),
                client_cert_auth: raw.bool(flags.client_cert_auth),
                revoked: file(flags.revoked),
                versions,
                flags,
            }))
        }
        None if automatic => {
            let years = raw.count("self-signed-cert-validity");
            let years = u32::try_from(years).ok().filter(|years| (1..=1_000).contains(years));
            tls::Source::Automatic {
                years: years.ok_or_else(|| {
                    out_of_range(raw, "self-signed-cert-validity", "expected 1 to 1000 years")
                })?,
                versions,
            }
        }
        None => tls::Source::None,
    })
}

fn versions(raw: &RawConfig) -> Result<tls::Versions, Error> {
    let (min, max) = (raw.text("tls-min-version"), raw.text("tls-max-version"));
    match (min, max) {
        ("TLS1.2" | "", "" | "TLS1.3") => Ok(tls::Versions::Both),
        ("TLS1.2" | "", "TLS1.2") => Ok(tls::Versions::Only12),
        ("TLS1.3", "" | "TLS1.3") => Ok(tls::Versions::Only13),
        ("TLS1.3", "TLS1.2") => {
            Err(Error::TlsVersions { min: min.to_owned(), max: max.to_owned() })
        }
        ("" | "TLS1.2" | "TLS1.3", _) => Err(unknown(raw, "tls-max-version", "TLS1.2 or TLS1.3")),
        _ => Err(unknown(raw, "tls-min-version", "TLS1.2 or TLS1.3")),
    }
}

/// Listeners besides the clients', with the clients' certificate.
pub(super) fn extra_listeners(
    raw: &RawConfig,
    flag: &'static str,
    clients: &Listeners,
) -> Result<Vec<ListenUrl>, Error> {
    let listen = urls(raw, flag, ListenUrl::parse, |listen| listen.url.to_string())?;
    match listen.iter().find(|listener| listener.url.tls) {
        Some(listener) if clients.tls == tls::Source::None => {
            Err(no_certificate(flag, &listener.url))
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
        _ => return Err(unknown(raw, "initial-cluster-state", "new or existing")),
    };
    let own = || vec![(name.to_owned(), advertise.to_vec())];
    let token = match discovery {
        // Until the others are known this member is the cluster; the ids come from this token.
        Discovery::Registry(registry) => {
            return Ok(Founding { state, token: registry.token.clone(), members: own() });
        }
        Discovery::Srv(_) | Discovery::None => raw.text("initial-cluster-token").to_owned(),
    };
    if matches!(discovery, Discovery::Srv(_)) {
        return Ok(Founding { state, token, members: own() });
    }
    let cluster = if raw.is_set("initial-cluster") {
        raw.text("initial-cluster").to_owned()
    } else {
        // A member that is told of no other is the cluster, under whatever name and URLs it has.
        advertise.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    Founding::parse(&cluster, state, token)
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

/// The gates are those of etcd 3.7; others than these two change nothing here.
fn corruption_checks(raw: &RawConfig) -> Result<CorruptionChecks, Error> {
    let gates = feature_gates(raw)?;
    let is_on = |gate: &str| gates.iter().rev().find(|(name, _)| *name == gate).map(|gate| gate.1);
    let all = is_on("AllAlpha").unwrap_or(false);
    let old = |flag: &str| raw.is_set(flag) && raw.bool(flag);
    let period = raw.duration("corrupt-check-time");
    let compaction_period = raw.duration("compact-hash-check-time");
    if compaction_period.is_zero() {
        return Err(out_of_range(raw, "compact-hash-check-time", "must be >0"));
    }
    let at_compactions =
        is_on("CompactHashCheck").unwrap_or(all) || old("experimental-compact-hash-check-enabled");
    Ok(CorruptionChecks {
        at_start: is_on("InitialCorruptCheck").unwrap_or(all)
            || old("experimental-initial-corrupt-check"),
        period: (!period.is_zero()).then_some(period),
        compaction_period: at_compactions.then_some(compaction_period),
    })
}

/// etcd's features that can be switched, and the names that stand for many.
const GATES: &[&str] = &[
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "FastLeaseKeepAlive",
    "InitialCorruptCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];

fn feature_gates(raw: &RawConfig) -> Result<Vec<(&str, bool)>, Error> {
    let flag = "feature-gates";
    let gates = raw.text(flag).split(',').map(str::trim).filter(|gate| !gate.is_empty());
    gates
        .map(|gate| {
            let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
            let value = match value.trim() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            };
            match value {
                Some(value) if GATES.contains(&name.trim()) => Ok((name.trim(), value)),
                Some(_) => Err(unknown(raw, flag, "a feature of etcd")),
                None => Err(unknown(raw, flag, "Name=true or Name=false")),
            }
        })
        .collect()
}

/// `value`, or `default` when it is the one that stands for it.
fn or<T: PartialEq>(value: T, unset: T, default: T) -> T {
    if value == unset { default } else { value }
}

fn auto_compaction(raw: &RawConfig) -> Result<AutoCompaction, Error> {
    let flag = "auto-compaction-retention";
    let retention = raw.text(flag);
    let whole = retention.parse::<u64>().ok();
    match raw.text("auto-compaction-mode") {
        "periodic" => {
            // A bare number is hours.
            let period = match whole {
                Some(hours) => hours.checked_mul(3_600).map(Duration::from_secs),
                None => duration::parse(retention),
            };
            match period.ok_or_else(|| unknown(raw, flag, "a duration or a number of hours"))? {
                Duration::ZERO => Ok(AutoCompaction::Off),
                period => Ok(AutoCompaction::Periodic(period)),
            }
        }
        "revision" => match whole.ok_or_else(|| unknown(raw, flag, "a number of revisions"))? {
            0 => Ok(AutoCompaction::Off),
            revisions => Ok(AutoCompaction::Revision(revisions)),
        },
        _ => Err(unknown(raw, "auto-compaction-mode", "periodic or revision")),
    }
}
