//! Settings of what a member does besides storing keys: users, pages, checks, traces.

use std::time::Duration;

use super::{Error, ListenUrl, Warning, raw::RawConfig};

/// What bcrypt takes, and what etcd falls back to.
const BCRYPT_COSTS: std::ops::RangeInclusive<u64> = 4..=31;
const BCRYPT_COST_DEFAULT: u32 = 10;

const SAMPLING_RATE_MAX: i64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub token: AuthToken,
    pub bcrypt_cost: u32,
    /// How long a simple token is valid after its last use.
    pub token_ttl: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    Simple,
    /// With its options: `pub-key`, `priv-key`, `sign-method`, `ttl`; each name once.
    Jwt(Vec<(String, String)>),
}

pub(crate) fn auth(raw: &RawConfig, warnings: &mut Vec<Warning>) -> Result<Auth, Error> {
    let cost = raw.count("bcrypt-cost");
    let bcrypt_cost = if BCRYPT_COSTS.contains(&cost) {
        u32::try_from(cost).unwrap_or(BCRYPT_COST_DEFAULT)
    } else {
        warnings.push(Warning::BcryptCost(cost));
        BCRYPT_COST_DEFAULT
    };
    let token = auth_token(raw.text("auth-token"))?;
    let token_ttl = Duration::from_secs(raw.count("auth-token-ttl"));
    Ok(Auth { token, bcrypt_cost, token_ttl })
}

fn auth_token(text: &str) -> Result<AuthToken, Error> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (name, value) = part.split_once('=').ok_or(Error::BadAuthToken)?;
        if value.contains('=') || options.iter().any(|(known, _)| known == name) {
            return Err(Error::BadAuthToken);
        }
        options.push((name.to_owned(), value.to_owned()));
    }
    match kind {
        "" | "simple" => Ok(AuthToken::Simple),
        "jwt" => Ok(AuthToken::Jwt(options)),
        _ => Err(Error::BadAuthToken),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where HTTP is served instead of on the clients' listeners; empty for there.
    pub listen: Vec<ListenUrl>,
    pub origins: Origins,
    /// Host names that requests without TLS may name; empty for any.
    pub host_whitelist: Vec<String>,
    /// Serve the JSON gateway.
    pub gateway: bool,
    pub pprof: bool,
    /// Histograms of every gRPC method.
    pub extensive_metrics: bool,
}

/// Origins that browsers may send requests from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    All,
    These(Vec<String>),
}

pub(crate) fn http(raw: &RawConfig, listen: Vec<ListenUrl>) -> Http {
    let origins = match raw.text("cors") {
        "" | "*" => Origins::All,
        urls => Origins::These(urls.split(',').map(|url| url.trim().to_owned()).collect()),
    };
    let hosts = raw.text("host-whitelist");
    let hosts = hosts.split(',').filter(|_| !hosts.is_empty()).map(str::to_owned);
    let mut host_whitelist: Vec<String> = hosts.collect();
    if host_whitelist.iter().any(|host| host == "*") {
        host_whitelist.clear();
    }
    Http {
        listen,
        origins,
        host_whitelist,
        gateway: raw.bool("enable-grpc-gateway"),
        pprof: raw.bool("enable-pprof"),
        extensive_metrics: raw.text("metrics") == "extensive",
    }
}

/// Comparisons of the members' data that the leader makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Of all data; `None` for never.
    pub every: Option<Duration>,
    /// Of the hashes that compactions leave, where that feature is on.
    pub compact_hash_every: Duration,
}

pub(crate) fn corruption_checks(raw: &RawConfig) -> Result<CorruptionChecks, Error> {
    let every = Some(raw.duration("corrupt-check-time")).filter(|every| !every.is_zero());
    match raw.duration("compact-hash-check-time") {
        Duration::ZERO => Err(Error::ZeroHashCheckTime),
        compact_hash_every => Ok(CorruptionChecks { every, compact_hash_every }),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Host and port of the collector.
    pub address: String,
    pub service_name: String,
    pub instance_id: Option<String>,
    /// Of a million traces, how many are sent.
    pub sampling_rate: u32,
}

pub(crate) fn tracing(raw: &RawConfig) -> Result<Option<Tracing>, Error> {
    if !raw.bool("enable-distributed-tracing") {
        return Ok(None);
    }
    let sampling_rate = match raw.number("distributed-tracing-sampling-rate") {
        ..0 => return Err(Error::Tracing("tracing sampling rate must be positive")),
        rate if rate > SAMPLING_RATE_MAX => {
            return Err(Error::Tracing("tracing sampling rate must be less than 1000000"));
        }
        rate => u32::try_from(rate).unwrap_or_default(),
    };
    let id = raw.text("distributed-tracing-instance-id");
    Ok(Some(Tracing {
        address: raw.text("distributed-tracing-address").to_owned(),
        service_name: raw.text("distributed-tracing-service-name").to_owned(),
        instance_id: Some(id).filter(|id| !id.is_empty()).map(str::to_owned),
        sampling_rate,
    }))
}
