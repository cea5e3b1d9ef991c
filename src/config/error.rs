//! What can be wrong with a configuration. Each message names the flag and the value.

use super::url;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("flag provided but not defined: {0}")]
    UnknownFlag(String),
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    #[error("flag needs an argument: --{0}")]
    NoValue(&'static str),
    #[error("invalid value {value:?} for {setting}: {why}")]
    BadValue { setting: String, value: String, why: String },
    #[error("an argument is not valid UTF-8: {0}")]
    NotText(String),
    #[error(
        "conflicting environment variable {0:?} is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag)"
    )]
    Shadowed(String),
    #[error("{flag}={value:?} is not supported yet")]
    NotYet { flag: String, value: String },
    #[error("--{flag} {value:?}: {why}")]
    BadUrls { flag: &'static str, value: String, why: url::Error },
    #[error("--{0} needs at least one URL")]
    NoUrls(&'static str),
    #[error(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}"
    )]
    BothListeners(String),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NoAdvertiseClientUrls,
    #[error("--{0} must be >0 (set to 0ms)")]
    ZeroInterval(&'static str),
    #[error(
        "--election-timeout[{election_ms}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat_ms}ms]"
    )]
    ElectionTooShort { election_ms: u64, heartbeat_ms: u64 },
    #[error(
        "--election-timeout[{0}ms] is too long, and should be set less than {max}ms",
        max = super::ELECTION_MS_MAX
    )]
    ElectionTooLong(u64),
    #[error("--{flag} {value} is out of range: {why}")]
    OutOfRange { flag: &'static str, value: String, why: &'static str },
    #[error("--initial-cluster {value:?}: {why}")]
    BadCluster { value: String, why: String },
    #[error(
        "--name {name:?}: couldn't find local name {name:?} in the initial cluster configuration --initial-cluster={cluster:?}"
    )]
    NameNotInCluster { name: String, cluster: String },
    #[error("--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={set}")]
    NotAdvertised { missing: String, set: String },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={set}")]
    NotInCluster { missing: String, set: String },
    #[error("--initial-cluster {0:?} has duplicate url")]
    DuplicateUrl(String),
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\""
    )]
    ManyWaysToFound,
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfADiscovery,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyDiscoveryEndpoint,
    #[error("discovery URL should not be set when joining existing initial cluster")]
    DiscoveryWhenJoining,
    #[error("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"")]
    FallbackToProxy,
    #[error(
        "TLS key/cert (--{cert_flag}, --{key_flag}) must be provided for --{flag} {url} with HTTPS \
         scheme"
    )]
    NoCertificate {
        flag: &'static str,
        url: String,
        cert_flag: &'static str,
        key_flag: &'static str,
    },
    #[error(
        "--{cert_flag} and --{key_flag} must both be present or both absent [cert: {cert:?}, key: \
         {key:?}]"
    )]
    HalfACertificate { cert_flag: &'static str, key_flag: &'static str, cert: String, key: String },
    #[error("--tls-min-version {min} is greater than --tls-max-version {max}")]
    TlsVersions { min: String, max: String },
    /// The spelling is etcd's.
    #[error("distributed tracing configurition is not valid: ({0})")]
    Tracing(&'static str),
}
