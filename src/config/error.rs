//! What can be wrong with a configuration, in etcd's words where etcd refuses it too.

use super::url;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    // What Go's flag package refuses.
    #[error("flag provided but not defined: -{0}")]
    UnknownFlag(String),
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid boolean value {value:?} for -{flag}: {why}")]
    BadBool { flag: &'static str, value: String, why: String },
    #[error("invalid value {value:?} for flag -{flag}: {why}")]
    BadFlag { flag: &'static str, value: String, why: String },

    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    #[error("an argument is not valid UTF-8: {0}")]
    NotText(String),
    #[error("invalid value {value:?} for {variable}: {why}")]
    BadVariable { variable: String, value: String, why: String },
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either \
         unset environment variable or disable flag))"
    )]
    Shadowed(String),

    #[error("{did} {path}: {why}")]
    ReadFile { did: &'static str, path: String, why: String },
    #[error("error converting YAML to JSON: yaml: {0}")]
    NotYaml(String),
    #[error("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {0}")]
    WrongType(String),
    #[error("{why}")]
    BadInFile { key: &'static str, why: String },
    #[error("unexpected error setting up {key}: {why}")]
    BadUrlsInFile { key: &'static str, why: String },
    #[error("auth: invalid auth options")]
    BadAuthToken(&'static str),
    #[error("invalid value {value:?} for {setting}: {why}")]
    BadValue { setting: String, value: String, why: String },
    #[error("{why}")]
    BadUrls { flag: &'static str, why: url::Error },
    #[error("--initial-advertise-peer-urls {value:?} must be \"host:port\" ({why})")]
    BadPeerUrls { value: String, why: url::Error },
    #[error(
        "--advertise-client-urls {value:?} must be in the format \"host:port\", \
         \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({why})"
    )]
    BadClientUrls { value: String, why: url::Error },
    #[error(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}"
    )]
    BothListeners(String),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NoAdvertiseClientUrls,
    #[error("--{0} must be >0 (set to 0ms)")]
    ZeroInterval(&'static str),
    #[error("--compact-hash-check-time must be >0 (set to 0s)")]
    ZeroHashCheckTime,
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
    #[error("invalid value {value:?} for --{flag}: {why}")]
    BadConsistency { flag: &'static str, value: String, why: String },
    #[error("--{flag} {value} is out of range: {why}")]
    OutOfRange { flag: &'static str, value: String, why: &'static str },
    #[error("undefined auto-compaction-mode")]
    NoCompactionMode,
    #[error("unknown auto-compaction-mode {0:?}")]
    UnknownCompactionMode(String),
    #[error("error parsing CompactionRetention: {0}")]
    BadRetention(String),
    /// Of which etcd takes none to be allowed.
    #[error("membership: too many learner members in cluster")]
    NegativeLearners,

    #[error("--zone={0} is set without --region: a zone is a part of a region")]
    ZoneWithoutRegion(String),
    #[error("unexpected clusterState {0:?}")]
    UnknownClusterState(String),
    #[error("error setting up initial cluster: {0}")]
    BadCluster(url::Error),
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NameNotInCluster { name: String, cluster: String },
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={set} \
         ({differ})"
    )]
    NotAdvertised { missing: String, set: String, differ: String },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={set}")]
    NotInCluster { missing: String, set: String },
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\""
    )]
    ManyWaysToFound,
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfADiscovery,
    #[error("discovery URL should not be set when joining existing initial cluster")]
    DiscoveryWhenJoining,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyDiscoveryEndpoint,
    #[error("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"")]
    FallbackToProxy,

    #[error(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    )]
    NoMetricsCertificate,
    #[error("TLS key/cert ({flags}) must be provided for {what} {url} with HTTPS scheme")]
    NoCertificate { what: &'static str, url: String, flags: String },
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfACertificate { cert_flag: &'static str, key_flag: &'static str, cert: String, key: String },
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: \
         {cert}]"
    )]
    HalfAClientCertificate {
        cert_flag: &'static str,
        key_flag: &'static str,
        cert: String,
        key: String,
    },
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={names}, hostnames={hosts})"
    )]
    AllowedTwice { names: String, hosts: String },
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoValidity,
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    UnknownTlsVersion(String),
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions { min: String, max: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesWithoutTls12,
    #[error("unexpected TLS cipher suite {0:?}")]
    UnknownSuite(String),

    #[error(
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
    )]
    CheckpointPersist,
    #[error("distributed tracing configurition is not valid: ({0})")]
    Tracing(&'static str),

    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    #[error("unknown logger option {0:?}")]
    UnknownLogger(String),
    #[error("unrecognized level: {0:?}")]
    UnknownLevel(String),
    #[error("unknown log format: {0}, supported values json, console")]
    UnknownLogFormat(String),
    #[error("multi logoutput for \"default\" is not supported yet")]
    DefaultAndOthers,
    #[error(
        "running with systemd/journal but other '--log-outputs' values ({0}) are configured with \
         'default'; override 'default' value with something else"
    )]
    JournalAndOthers(String),
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotationWithoutOneFile,
    #[error("improperly formatted log rotation config: {0}")]
    RotationNotJson(String),
    #[error("invalid log rotation config: json: cannot unmarshal {0}")]
    RotationType(String),
}

impl Error {
    /// Whether Go's flag package refuses it, which ends etcd with the usage and exit status 2.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::UnknownFlag(_)
                | Error::BadSyntax(_)
                | Error::NoValue(_)
                | Error::BadBool { .. }
                | Error::BadFlag { .. }
        )
    }

    /// The setting that it is about, where etcd's words do not say it.
    pub fn about(&self) -> Option<String> {
        if let Error::Shadowed(variable) = self {
            return Some(variable.clone());
        }
        if let Error::BadUrls { flag, .. } = self {
            return Some(format!("--{flag}"));
        }
        if let Error::BadInFile { key, .. } = self {
            return Some((*key).to_owned());
        }
        if let Error::NameNotInCluster { cluster, .. } = self {
            return Some(format!("--initial-cluster={cluster}"));
        }
        if let Error::BadAuthToken(why) = self {
            return Some(format!("--auth-token: {why}"));
        }
        if let Error::HalfACertificate { cert_flag, key_flag, .. }
        | Error::HalfAClientCertificate { cert_flag, key_flag, .. } = self
        {
            return Some(format!("--{cert_flag}, --{key_flag}"));
        }
        None
    }
}
