//! Every flag of etcd, with its default and what becomes of it here.

use Effect::{Acts, Inert};
use Kind::{
    Bool, Choice, Choices, Count, Count32, Duration, Gates, Label, List, Number, Origins, Text,
    Urls,
};
use Section::{Auth, Clustering, Features, Logging, Member, Monitoring, Security, Tracing, Unsafe};

use super::removed::REMOVED;
pub(crate) use super::value::Kind;

/// What setting a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Acts,
    /// Accepted so that etcd's command lines work; a warning says that nothing comes of it.
    Inert,
    /// No longer in etcd, but still in scripts: accepted with a warning, and passed on to what came
    /// after it, if anything did.
    Removed,
    /// Only in files: no flag and no variable sets it.
    FileOnly,
}

/// Where `--help` lists a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
}

#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) section: Section,
    pub(crate) kind: Kind,
    /// As etcd prints it; `${name}.orrery` for the data directory.
    pub(crate) default: &'static str,
    pub(crate) effect: Effect,
    pub(crate) help: &'static str,
}

impl Flag {
    /// `ETCD_` and the name in capitals.
    pub(crate) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The flag of that name, removed ones and those of files included.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    let removed = REMOVED.iter().map(|removed| &removed.flag);
    FLAGS.iter().chain(OWN).chain(removed).chain(FILE_ONLY).find(|flag| flag.name == name)
}

const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    effect: Effect,
    help: &'static str,
) -> Flag {
    Flag { name, section, kind, default, effect, help }
}

/// What etcd takes from its file and by no flag.
pub(crate) const FILE_ONLY: &[Flag] = &[flag(
    Security,
    "client-cert-allowed-cn",
    List,
    "",
    Effect::FileOnly,
    "Common names, one of which a client's certificate must have.",
)];

/// The flags of etcd 3.7, in the order of its help.
#[rustfmt::skip] // a table: one flag, two lines
pub(crate) const FLAGS: &[Flag] = &[
    flag(Member, "name", Text, "default", Acts,
        "Human-readable name of this member."),
    flag(Member, "data-dir", Text, "${name}.orrery", Acts,
        "Directory that holds this member's data."),
    flag(Member, "wal-dir", Text, "", Acts,
        "Directory for the Raft log, to keep it on a disk of its own."),
    flag(Member, "snapshot-count", Count, "10000", Acts,
        "Applied entries after which older log entries may be dropped."),
    flag(Member, "heartbeat-interval", Count, "100", Acts,
        "Milliseconds between two heartbeats of a leader."),
    flag(Member, "election-timeout", Count, "1000", Acts,
        "Milliseconds without a leader until an election starts."),
    flag(Member, "initial-election-tick-advance", Bool, "true", Acts,
        "Shorten the first election after a start."),
    flag(Member, "listen-peer-urls", Urls, "http://localhost:2380", Acts,
        "URLs to listen on for other members."),
    flag(Member, "listen-client-urls", Urls, "http://localhost:2379", Acts,
        "URLs to listen on for clients: gRPC and HTTP."),
    flag(Member, "listen-client-http-urls", Urls, "", Acts,
        "URLs to listen on for clients that speak HTTP only."),
    flag(Member, "max-snapshots", Count, "5", Inert,
        "Snapshot files to keep; here there are none."),
    flag(Member, "max-wals", Count, "5", Inert,
        "Log files to keep; here as many as snapshot-catchup-entries says."),
    flag(Member, "memory-mlock", Bool, "false", Acts,
        "Keep the process in memory pages that are never swapped."),
    flag(Member, "quota-backend-bytes", Number, "0", Acts,
        "Size of the store that raises the NOSPACE alarm; 0 for 2 GiB, negative for no limit."),
    flag(Member, "backend-bbolt-freelist-type", Text, "map", Inert,
        "Free list of bbolt, which is not used here."),
    flag(Member, "backend-batch-interval", Duration, "0s", Inert,
        "Longest time between two commits of bbolt, which is not used here."),
    flag(Member, "backend-batch-limit", Number, "0", Inert,
        "Most operations in one commit of bbolt, which is not used here."),
    flag(Member, "max-txn-ops", Count, "128", Acts,
        "Most operations in one transaction."),
    flag(Member, "max-request-bytes", Count, "1572864", Acts,
        "Largest request of a client, in bytes."),
    flag(Member, "max-concurrent-streams", Count32, "4294967295", Acts,
        "Most streams that one client may have open."),
    flag(Member, "grpc-keepalive-min-time", Duration, "5s", Inert,
        "Shortest time that a client must leave between two pings."),
    flag(Member, "grpc-keepalive-interval", Duration, "2h", Acts,
        "Time between two pings from server to client."),
    flag(Member, "grpc-keepalive-timeout", Duration, "20s", Acts,
        "Time to wait for the answer to a ping before a connection is closed."),
    flag(Member, "socket-reuse-port", Bool, "false", Acts,
        "Set SO_REUSEPORT on listeners."),
    flag(Member, "socket-reuse-address", Bool, "false", Acts,
        "Set SO_REUSEADDR on listeners."),
    flag(Member, "enable-grpc-gateway", Bool, "true", Acts,
        "Serve the JSON gateway."),
    flag(Member, "raft-read-timeout", Duration, "5s", Inert,
        "How long a connection to a peer may be silent; here the election timeout."),
    flag(Member, "raft-write-timeout", Duration, "5s", Inert,
        "How long a write to a peer may stand still; here the election timeout."),
    flag(Member, "feature-gates", Gates, "", Acts,
        "Features to switch, as Name=true,Name=false."),

    flag(Clustering, "initial-advertise-peer-urls", Urls, "http://localhost:2380", Acts,
        "URLs under which the other members reach this one."),
    flag(Clustering, "initial-cluster", Text, "default=http://localhost:2380", Acts,
        "Founding members as name=peer-url,..."),
    flag(Clustering, "initial-cluster-state", Choice(&["new", "existing"]), "new", Acts,
        "'new' to found a cluster, 'existing' to join one; ignored once there is data."),
    flag(Clustering, "initial-cluster-token", Text, "etcd-cluster", Acts,
        "Tells clusters apart that are founded with the same URLs."),
    flag(Clustering, "advertise-client-urls", Urls, "http://localhost:2379", Acts,
        "URLs under which clients reach this member."),
    flag(Clustering, "discovery-token", Text, "", Acts,
        "Discovery: token of the cluster."),
    flag(Clustering, "discovery-endpoints", List, "", Acts,
        "Discovery: endpoints of the service."),
    flag(Clustering, "discovery-dial-timeout", Duration, "2s", Acts,
        "Discovery: time to connect."),
    flag(Clustering, "discovery-request-timeout", Duration, "5s", Acts,
        "Discovery: time for a request."),
    flag(Clustering, "discovery-keepalive-time", Duration, "2s", Acts,
        "Discovery: time between two pings."),
    flag(Clustering, "discovery-keepalive-timeout", Duration, "6s", Acts,
        "Discovery: time to wait for the answer to a ping."),
    flag(Clustering, "discovery-insecure-transport", Bool, "true", Acts,
        "Discovery: connect without TLS."),
    flag(Clustering, "discovery-insecure-skip-tls-verify", Bool, "false", Acts,
        "Discovery: do not check the server's certificate."),
    flag(Clustering, "discovery-cert", Text, "", Acts,
        "Discovery: certificate to show."),
    flag(Clustering, "discovery-key", Text, "", Acts,
        "Discovery: key of the certificate."),
    flag(Clustering, "discovery-cacert", Text, "", Acts,
        "Discovery: authority to check the server with."),
    flag(Clustering, "discovery-user", Text, "", Acts,
        "Discovery: user name."),
    flag(Clustering, "discovery-password", Text, "", Acts,
        "Discovery: password."),
    flag(Clustering, "discovery-fallback", Choice(&["exit", "proxy"]), "exit", Acts,
        "What to do when discovery fails."),
    flag(Clustering, "discovery-srv", Text, "", Acts,
        "DNS domain that lists the founding members."),
    flag(Clustering, "discovery-srv-name", Text, "", Acts,
        "Service name in that domain."),
    flag(Clustering, "strict-reconfig-check", Bool, "true", Acts,
        "Refuse changes of membership that would cost the quorum."),
    flag(Clustering, "pre-vote", Bool, "true", Inert,
        "Ask before an election whether it could be won; here always."),
    flag(Clustering, "auto-compaction-retention", Text, "0", Acts,
        "How much history to keep: a duration (or hours), or revisions; 0 for all of it."),
    flag(Clustering, "auto-compaction-mode", Text, "periodic", Acts,
        "How to read auto-compaction-retention: periodic or revision."),
    flag(Clustering, "v2-deprecation", Choices(V2_DEPRECATION), "write-only", Inert,
        "What to do about data of etcd's first API, which is not served."),

    flag(Security, "cert-file", Text, "", Acts,
        "Certificate to show to clients."),
    flag(Security, "key-file", Text, "", Acts,
        "Key of that certificate."),
    flag(Security, "client-cert-auth", Bool, "false", Acts,
        "Let in only clients with a certificate of the trusted authority."),
    flag(Security, "client-cert-file", Text, "", Acts,
        "Certificate of this member as a client of itself; only checked, it never is one."),
    flag(Security, "client-key-file", Text, "", Acts,
        "Key of that certificate."),
    flag(Security, "client-crl-file", Text, "", Acts,
        "Revoked certificates of clients (DER)."),
    flag(Security, "client-cert-allowed-hostname", List, "", Acts,
        "Host names, one of which a client's certificate must hold."),
    flag(Security, "trusted-ca-file", Text, "", Acts,
        "Authority that clients' certificates come from."),
    flag(Security, "auto-tls", Bool, "false", Acts,
        "Make a certificate for clients' connections."),
    flag(Security, "peer-cert-file", Text, "", Acts,
        "Certificate to show to other members."),
    flag(Security, "peer-key-file", Text, "", Acts,
        "Key of that certificate."),
    flag(Security, "peer-client-cert-auth", Bool, "false", Acts,
        "Let in only members with a certificate of the trusted authority."),
    flag(Security, "peer-client-cert-file", Text, "", Acts,
        "Certificate to show when connecting to other members, if it is another one."),
    flag(Security, "peer-client-key-file", Text, "", Acts,
        "Key of that certificate."),
    flag(Security, "peer-trusted-ca-file", Text, "", Acts,
        "Authority that members' certificates come from."),
    flag(Security, "peer-cert-allowed-cn", List, "", Acts,
        "Common names, one of which a member's certificate must have."),
    flag(Security, "peer-cert-allowed-hostname", List, "", Acts,
        "Host names, one of which a member's certificate must hold."),
    flag(Security, "peer-auto-tls", Bool, "false", Acts,
        "Make a certificate for connections between members, who do not check each other then."),
    flag(Security, "self-signed-cert-validity", Count, "1", Acts,
        "Years for which made certificates are valid."),
    flag(Security, "peer-crl-file", Text, "", Acts,
        "Revoked certificates of members (DER)."),
    flag(Security, "cipher-suites", List, "", Acts,
        "Cipher suites of TLS 1.2 to offer, by their names in Go."),
    flag(Security, "cors", Origins, "*", Acts,
        "Origins that browsers may send requests from."),
    flag(Security, "host-whitelist", Text, "*", Acts,
        "Host names that HTTP requests without TLS may name."),
    flag(Security, "tls-min-version", Text, "TLS1.2", Acts,
        "Lowest version of TLS: TLS1.2 or TLS1.3."),
    flag(Security, "tls-max-version", Text, "", Acts,
        "Highest version of TLS: TLS1.2 or TLS1.3."),

    flag(Auth, "auth-token", Text, "simple", Acts,
        "Kind of token: simple or jwt, with options."),
    flag(Auth, "bcrypt-cost", Count, "10", Acts,
        "Cost of hashing a password."),
    flag(Auth, "auth-token-ttl", Count, "300", Acts,
        "Seconds for which a simple token is valid."),

    flag(Monitoring, "enable-pprof", Bool, "false", Acts,
        "Serve profiles under /debug/pprof/."),
    flag(Monitoring, "metrics", Text, "basic", Acts,
        "'extensive' for histograms of every gRPC method."),
    flag(Monitoring, "listen-metrics-urls", Urls, "", Acts,
        "URLs to listen on for /metrics and /health."),

    flag(Logging, "logger", Text, "zap", Acts,
        "Shape of the log lines: zap's."),
    flag(Logging, "log-outputs", List, "default", Acts,
        "Where log lines go: default, stderr, stdout, systemd/journal or files."),
    flag(Logging, "log-level", Text, "info", Acts,
        "Least serious level to log: debug, info, warn, error, panic or fatal."),
    flag(Logging, "log-format", Text, "json", Acts,
        "Format of log lines: json or console."),
    flag(Logging, "enable-log-rotation", Bool, "false", Acts,
        "Rotate the file of log-outputs."),
    flag(Logging, "log-rotation-config-json", Text, LOG_ROTATION, Acts,
        "How to rotate log files."),
    flag(Logging, "warning-unary-request-duration", Duration, "300ms", Acts,
        "Time after which a request is logged as slow."),

    flag(Tracing, "enable-distributed-tracing", Bool, "false", Acts,
        "Send traces."),
    flag(Tracing, "distributed-tracing-address", Text, "localhost:4317", Acts,
        "Where traces go."),
    flag(Tracing, "distributed-tracing-service-name", Text, "etcd", Acts,
        "Name of the service in traces."),
    flag(Tracing, "distributed-tracing-instance-id", Text, "", Acts,
        "Name of this member in traces."),
    flag(Tracing, "distributed-tracing-sampling-rate", Number, "0", Acts,
        "Traces to send of a million."),

    flag(Features, "corrupt-check-time", Duration, "0s", Acts,
        "Time between two comparisons of the members' data; 0 for never."),
    flag(Features, "compact-hash-check-time", Duration, "1m", Acts,
        "Time between two comparisons of the members' compaction hashes."),
    flag(Features, "compaction-batch-limit", Number, "1000", Acts,
        "Most revisions deleted in one batch of a compaction."),
    flag(Features, "compaction-sleep-interval", Duration, "0s", Acts,
        "Pause between two batches of a compaction."),
    flag(Features, "peer-skip-client-san-verification", Bool, "false", Acts,
        "Do not compare a member's address with its certificate."),
    flag(Features, "watch-progress-notify-interval", Duration, "10m", Acts,
        "Time between two progress notifications of an idle watch."),
    flag(Features, "warning-apply-duration", Duration, "100ms", Acts,
        "Time after which applying an entry is logged as slow."),
    flag(Features, "bootstrap-defrag-threshold-megabytes", Count, "0", Acts,
        "Space to gain for which a start defragments."),
    flag(Features, "max-learners", Number, "1", Acts,
        "Most learners that the cluster may have."),
    flag(Features, "downgrade-check-time", Duration, "5s", Acts,
        "Time between two looks at a downgrade."),
    flag(Features, "snapshot-catchup-entries", Count, "5000", Acts,
        "Log entries kept beyond the newest droppable one, for slow members."),

    flag(Unsafe, "force-new-cluster", Bool, "false", Acts,
        "Make a cluster of this member alone."),
    flag(Unsafe, "unsafe-no-fsync", Bool, "false", Acts,
        "Do not wait for the disk: a machine that crashes loses acknowledged writes."),
];

const V2_DEPRECATION: &[&str] =
    &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];

const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

/// Flags that etcd does not have.
#[rustfmt::skip] // a table
pub(crate) const OWN: &[Flag] = &[
    flag(Member, "default-consistency", Text, "strong", Acts,
        "What reads get that ask for nothing: strong, bounded (and ,max-staleness-ms=N), session, prefix, eventual."),
    flag(Member, "listen-consistency", Text, "", Acts,
        "The same by listener, as URL=LEVEL,... with URLs of listen-client-urls."),
    flag(Member, "identity-consistency", Text, "", Acts,
        "The same by user, or by the common name in a client's certificate, as NAME=LEVEL,..."),
    flag(Clustering, "region", Label, "", Acts,
        "Region that this member stands in, such as eastus: a-z, 0-9 and -."),
    flag(Clustering, "zone", Label, "", Acts,
        "Zone of the region that this member stands in."),
    flag(Features, "disk-reserve-bytes", Number, "0", Acts,
        "Free bytes on the data disk that raise NOSPACE; 0 for 1/8 of it or 512 MiB, negative for none."),
    flag(Features, "auto-disarm-nospace", Bool, "false", Acts,
        "Deactivate this member's NOSPACE alarm once there is space again."),
];
