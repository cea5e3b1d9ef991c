//! Files as people have them, and files that are wrong, in etcd's words.

use super::*;
use crate::config::{self, Config};

/// What etcd ships as an example, in the shape of its release: null values and keys of old.
const SAMPLE: &str = "\
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
proxy-refresh-interval: 30000
proxy-dial-timeout: 1000
proxy-write-timeout: 5000
proxy-read-timeout: 0
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
";

/// A member with this file, and whatever flags and variables beside it.
fn read_beside(text: &str, arguments: &[&str]) -> Result<(Config, Vec<Warning>), Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut given = vec!["--config-file".into(), file.path().as_os_str().to_owned()];
    given.extend(arguments.iter().map(Into::into));
    match Config::read(given, [("ETCD_NAME".into(), "variable".into())])? {
        config::Asked::Serve(config, warnings) => Ok((*config, warnings)),
        config::Asked::Print(text) => panic!("{text}"),
    }
}

fn config(text: &str) -> Config {
    read_beside(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}")).0
}

#[track_caller]
fn refuses(text: &str, words: &str) {
    let error = read_beside(text, &[]).unwrap_err();
    assert_eq!(error.to_string(), words, "{text}");
    assert!(!error.is_usage());
}

#[test]
fn the_sample_that_etcd_ships_loads() {
    let (config, warnings) = read_beside(SAMPLE, &[]).unwrap();
    assert_eq!(config.log.level, crate::telemetry::Level::Debug);
    assert!(!config.strict_reconfig_check && config.http.profiles);
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(config.auto_compaction, config::AutoCompaction::Periodic(hour));
    assert_eq!(config.founding.to_string(), "default=http://localhost:2380");
    assert_eq!(config.data_dir, std::path::PathBuf::from("default.orrery"));
    assert!(matches!(&warnings[0], Warning::FileLoaded(_)));
    let fallback = Warning::UnknownKey("discovery-fallback".to_owned());
    assert!(warnings.contains(&fallback), "{warnings:?}");
    assert!(warnings.contains(&Warning::Obsolete("proxy")), "{warnings:?}");
}

#[test]
fn a_file_replaces_flags_and_variables() {
    let (config, _) = read_beside("name: file\n", &["--name", "flag", "--auto-tls"]).unwrap();
    assert_eq!(config.name, "file");
    assert_eq!(config.clients.tls, crate::tls::Source::None);
    assert_eq!(self::config("").name, "default");
    assert!(matches!(
        read_beside("name: file\n", &["--no-such"]).unwrap_err(),
        Error::UnknownFlag(_)
    ));
}

#[test]
fn a_file_can_be_named_by_a_variable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "name: m1\n").unwrap();
    let variable = ("ETCD_CONFIG_FILE".into(), file.path().as_os_str().to_owned());
    let config::Asked::Serve(config, _) = Config::read([], [variable]).unwrap() else { panic!() };
    assert_eq!(config.name, "m1");
}

#[test]
fn sections_set_the_flags_of_their_connections() {
    let config = config(
        "listen-client-urls: https://127.0.0.1:1\n\
         client-transport-security:\n  cert-file: a\n  key-file: b\n  client-cert-auth: yes\n  \
         allowed-cn: ['x,y', z]\n\
         peer-transport-security: {cert-file: c, key-file: d, trusted-ca-file: e, \
         allowed-hostname: [m1, m2], skip-client-san-verification: true, crl-file: f}\n\
         socket-options: {reuse-port: true}\n\
         watch-progress-notify-interval: 5000000000\n\
         feature-gates: InitialCorruptCheck=true\n\
         experimental-warning-apply-duration: 7000000\n",
    );
    let crate::tls::Source::Files(clients) = config.clients.tls else { panic!() };
    assert!(clients.client_cert_auth);
    let names = vec!["x,y".to_owned(), "z".to_owned()];
    assert_eq!(clients.allowed, crate::tls::Allowed::Names(names));
    let crate::tls::Source::Files(peers) = config.peers.tls else { panic!() };
    assert!(!peers.check_address);
    assert_eq!(peers.revoked, Some("f".into()));
    let hosts = vec!["m1".to_owned(), "m2".to_owned()];
    assert_eq!(peers.allowed, crate::tls::Allowed::Hosts(hosts));
    assert!(config.sockets.reuse_port);
    assert_eq!(config.watch_progress_notify_interval, std::time::Duration::from_secs(5));
    assert_eq!(config.warning_apply_duration, std::time::Duration::from_millis(7));
    assert!(config.features.initial_corrupt_check);
}

#[test]
fn keys_are_found_in_any_case_and_the_last_of_two_counts() {
    assert_eq!(config("Name: a\n").name, "a");
    assert_eq!(config("name: a\nname: b\n").name, "b");
    let (_, warnings) = read_beside("foo: 1\nclient-transport-security: {bar: 2}\n", &[]).unwrap();
    let unknown = ["client-transport-security.bar", "foo"];
    assert_eq!(warnings[1..], unknown.map(|key| Warning::UnknownKey(key.to_owned())));
    // etcd has these only within a section.
    let (config, _) = read_beside("cert-file: a\nkey-file: b\n", &[]).unwrap();
    assert_eq!(config.clients.tls, crate::tls::Source::None);
}

/// The words that etcd 3.7.3 has for the same files.
#[test]
fn a_value_of_the_wrong_type_is_refused_in_etcds_words() {
    let wrong = |text: &str, what: &str| {
        let words = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        refuses(text, &format!("{words}{what}"));
    };
    let field = "into Go struct field configYAML.Config.";
    wrong(
        "watch-progress-notify-interval: 5s\n",
        &format!("string {field}watch-progress-notify-interval of type time.Duration"),
    );
    let heartbeat = format!("{field}heartbeat-interval of type uint");
    wrong("heartbeat-interval: fast\n", &format!("string {heartbeat}"));
    wrong("heartbeat-interval: -1\n", &format!("number -1 {heartbeat}"));
    wrong("heartbeat-interval: 1.5\n", &format!("number 1.5 {heartbeat}"));
    let strict = format!("{field}strict-reconfig-check of type bool");
    wrong("strict-reconfig-check: 1\n", &format!("number {strict}"));
    wrong("strict-reconfig-check: \"true\"\n", &format!("string {strict}"));
    wrong("name: [a]\n", &format!("array {field}name of type string"));
    wrong("name: true\n", &format!("bool {field}name of type string"));
    let outputs = format!("{field}log-outputs of type ");
    wrong("name: 5\nlog-outputs: stderr\n", &format!("string {outputs}[]string"));
    wrong("log-outputs: [a, 5]\n", &format!("number {outputs}string"));
    wrong(
        "max-concurrent-streams: 99999999999\n",
        &format!("number 99999999999 {field}max-concurrent-streams of type uint32"),
    );
    wrong(
        "auto-compaction-retention: 1\n",
        &format!("number {field}auto-compaction-retention of type string"),
    );
    wrong(
        "peer-transport-security: a\n",
        "string into Go struct field configYAML.configJSON.peer-transport-security of type \
         embed.securityConfig",
    );
    wrong(
        "client-transport-security: {client-cert-auth: yes, cert-file: 5}\n",
        "number into Go struct field securityConfig.configJSON.client-transport-security.cert-file \
         of type string",
    );
    wrong(
        "socket-options: 5\n",
        &format!("number {field}socket-options of type transport.SocketOpts"),
    );
    wrong(
        "socket-options: {reuse-port: 5}\n",
        "number into Go struct field SocketOpts.Config.socket-options.reuse-port of type bool",
    );
    wrong(
        "discovery-config: {client: {endpoints: a}}\n",
        "string into Go struct field ConfigSpec.Config.discovery-config.client.endpoints of type \
         []string",
    );
    wrong("hello\n", "string into Go value of type embed.configYAML");
}

#[test]
fn a_file_that_says_something_impossible_is_refused_in_etcds_words() {
    refuses("feature-gates: Foo=true\n", "unrecognized feature gate: Foo");
    refuses("initial-cluster-state: old\n", r#"unexpected clusterState "old""#);
    refuses(
        "listen-peer-urls: 127.0.0.1:1\n",
        "unexpected error setting up listen-peer-urls: parse \"127.0.0.1:1\": first path segment \
         in URL cannot contain colon",
    );
    refuses("listen-client-urls: http://a:1\n", "expected IP in URL for binding (http://a:1)");
    refuses(
        "tls-min-version: TLS1.0\n",
        r#"unexpected TLS version "TLS1.0" (must be one of: TLS1.2, TLS1.3)"#,
    );
    refuses("log-format: x\n", "unknown log format: x, supported values json, console");
    refuses("cipher-suites: [foo]\n", r#"unexpected TLS cipher suite "foo""#);
    let error = read_beside("a: b: c\n", &[]).unwrap_err().to_string();
    assert!(error.starts_with("error converting YAML to JSON: yaml: "), "{error}");
    let missing = Config::read(["--config-file=/no/such".into()], []).unwrap_err().to_string();
    assert_eq!(missing, "open /no/such: no such file or directory");
}

#[test]
fn every_flag_of_a_section_exists() {
    fn check((_, keys): &Section) {
        for (key, meaning) in *keys {
            match meaning {
                F(flag) => assert!(flags::find(flag).is_some(), "{key}: --{flag}"),
                S(section) => check(section),
                Ignored => {}
            }
        }
    }
    SECTIONS.iter().for_each(|section| check(section));
}
