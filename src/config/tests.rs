//! Configurations as a whole: defaults, etcd's command lines, and each refusal with its words.

use super::*;
use std::ffi::OsString;

fn read(arguments: &str) -> Result<(Config, Vec<Warning>), Error> {
    match Config::read(arguments.split_whitespace().map(OsString::from), [])? {
        Asked::Serve(config, warnings) => Ok((*config, warnings)),
        Asked::Print(text) => panic!("{arguments}: {text}"),
    }
}

fn config(arguments: &str) -> Config {
    read(arguments).unwrap_or_else(|error| panic!("{arguments}: {error}")).0
}

#[track_caller]
fn refuses(arguments: &str, message: &str) {
    assert_eq!(read(arguments).unwrap_err().to_string(), message, "{arguments}");
}

#[test]
fn without_flags_there_is_one_member_on_loopback() {
    let config = config("");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.orrery"));
    let at: Vec<_> = config.clients.listen.iter().map(|listen| listen.address.clone()).collect();
    assert_eq!(at, [Address::Tcp("127.0.0.1:2379".parse().unwrap())]);
    assert_eq!(config.peers.advertise[0].as_str(), "http://localhost:2380");
    assert_eq!(config.founding.to_string(), "default=http://localhost:2380");
    assert_eq!(config.founding.state, ClusterState::New);
    assert_eq!(config.timing.heartbeat, Duration::from_millis(100));
    assert_eq!(config.timing.election, Duration::from_secs(1));
    let limits = Limits {
        max_request_bytes: 1_572_864,
        max_txn_ops: 128,
        max_concurrent_streams: u32::MAX,
        quota_backend_bytes: 2 << 30,
        disk_reserve_bytes: None,
        auto_disarm_nospace: false,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert!(config.strict_reconfig_check && !config.token_is_set);
    assert_eq!(config.founding.check(&config.name, &config.peers.advertise), Ok(()));
}

#[test]
fn tokens_and_the_cost_of_passwords_are_taken_from_their_flags() {
    let simple = |secs| AuthToken::Simple { ttl: Duration::from_secs(secs) };
    for (arguments, token, bcrypt_cost) in [
        ("", simple(300), 10),
        ("--auth-token simple --auth-token-ttl 7 --bcrypt-cost 4", simple(7), 4),
        ("--auth-token-ttl 0 --bcrypt-cost 31", simple(300), 31),
        ("--auth-token=", AuthToken::None, 10),
        (
            "--auth-token jwt,pub-key=a.crt,priv-key=a.key,sign-method=RS256,ttl=10m",
            AuthToken::Jwt {
                sign_method: "RS256".to_owned(),
                public_key: Some("a.crt".into()),
                private_key: Some("a.key".into()),
                ttl: Duration::from_mins(10),
            },
            10,
        ),
        (
            "--auth-token jwt,sign-method=HS256,priv-key=k",
            AuthToken::Jwt {
                sign_method: "HS256".to_owned(),
                public_key: None,
                private_key: Some("k".into()),
                ttl: Duration::from_mins(5),
            },
            10,
        ),
    ] {
        assert_eq!(config(arguments).auth, Auth { token, bcrypt_cost }, "{arguments}");
    }
    for (value, why) in [
        ("opaque", "expected simple or jwt"),
        ("jwt", "sign-method is missing"),
        ("jwt,sign-method", "each option is a name and a value"),
        ("jwt,sign-method=a=b", "each option is a name and a value"),
        ("jwt,ttl=1m,ttl=2m,sign-method=RS256", "an option is given twice"),
        ("jwt,ttl=soon,sign-method=RS256", "ttl is no duration"),
    ] {
        let error = read(&format!("--auth-token={value}")).unwrap_err();
        assert_eq!(error.to_string(), "auth: invalid auth options");
        assert_eq!(error.about(), Some(format!("--auth-token: {why}")));
    }
    let (config, warnings) =
        read("--bcrypt-cost 99 --auth-token jwt,sign-method=RS256,x=y").unwrap();
    assert_eq!(config.auth.bcrypt_cost, 10);
    let unknown = Warning::UnknownTokenOptions(vec!["x".to_owned()]);
    assert_eq!(warnings, [Warning::BcryptCost(99), unknown]);
}

#[test]
fn a_name_alone_gives_the_directory_and_the_cluster() {
    let config = config("--name m1 --initial-advertise-peer-urls http://m1:2380");
    assert_eq!(config.data_dir, PathBuf::from("m1.orrery"));
    assert_eq!(config.founding.to_string(), "m1=http://m1:2380");
}

#[test]
fn a_static_pod_as_kubeadm_writes_it_is_understood() {
    let (config, warnings) = read(
        "--advertise-client-urls=https://10.0.0.1:2379 --cert-file=/pki/server.crt \
         --client-cert-auth=true --data-dir=/var/lib/etcd \
         --experimental-initial-corrupt-check=true \
         --watch-progress-notify-interval=5s \
         --initial-advertise-peer-urls=https://10.0.0.1:2380 \
         --initial-cluster=cp1=https://10.0.0.1:2380 --key-file=/pki/server.key \
         --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 \
         --listen-metrics-urls=http://127.0.0.1:2381 --listen-peer-urls=https://10.0.0.1:2380 \
         --name=cp1 --peer-cert-file=/pki/peer.crt --peer-client-cert-auth=true \
         --peer-key-file=/pki/peer.key --peer-trusted-ca-file=/pki/ca.crt \
         --snapshot-count=10000 --trusted-ca-file=/pki/ca.crt",
    )
    .unwrap();
    let renamed = Warning::Renamed {
        from: "experimental-initial-corrupt-check",
        to: "--feature-gates=InitialCorruptCheck=true".to_owned(),
    };
    assert_eq!(warnings, [renamed]);
    assert!(config.features.initial_corrupt_check && config.corruption.at_start);
    assert_eq!(config.clients.listen.len(), 2);
    assert_eq!(config.metrics_listen.len(), 1);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    let tls::Source::Files(files) = config.peers.tls else { panic!("{:?}", config.peers.tls) };
    assert!(files.client_cert_auth);
    assert_eq!(files.trust, tls::Trust::File("/pki/ca.crt".into()));
}

#[test]
fn urls_are_sorted_and_each_is_there_once() {
    let config = config(
        "--listen-client-urls http://127.0.0.1:2,http://127.0.0.1:1,http://127.0.0.1:2 \
         --advertise-client-urls http://b:1,http://a:1",
    );
    let listen: Vec<_> = config.clients.listen.iter().map(|url| url.url.as_str()).collect();
    assert_eq!(listen, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    assert_eq!(config.clients.advertise[0].as_str(), "http://a:1");
}

#[test]
fn urls_that_cannot_be_are_refused() {
    refuses(
        "--listen-client-urls http://127.0.0.1:0",
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    );
    refuses(
        "--listen-peer-urls http://example.com:1",
        "expected IP in URL for binding (http://example.com:1)",
    );
    refuses(
        "--listen-metrics-urls http://example.com:1",
        "expected IP in URL for binding (http://example.com:1)",
    );
    refuses(
        "--initial-advertise-peer-urls http://:1",
        r#"--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))"#,
    );
    refuses(
        "--advertise-client-urls http://:1",
        r#"--advertise-client-urls "http://:1" must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:1))"#,
    );
    // To etcd, a flag without URLs is one that was not set.
    let config = config("--listen-peer-urls=");
    assert_eq!(config.peers.listen[0].url.as_str(), "http://localhost:2380");
}

#[test]
fn https_needs_a_certificate() {
    let https = "--listen-client-urls https://127.0.0.1:0 --advertise-client-urls https://h:1";
    refuses(
        https,
        "TLS key/cert (--cert-file, --key-file) must be provided for client url \
         https://127.0.0.1:0 with HTTPS scheme",
    );
    refuses(
        "--listen-peer-urls https://127.0.0.1:0",
        "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url \
         https://127.0.0.1:0 with HTTPS scheme",
    );
    refuses(
        "--listen-metrics-urls https://127.0.0.1:0",
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
    );
    refuses(
        &format!("{https} --cert-file a.crt"),
        "KeyFile and CertFile must both be present[key: , cert: a.crt]",
    );
    refuses(
        "--peer-client-key-file a.key",
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: a.key, cert: ]",
    );
    let automatic = config(&format!("{https} --auto-tls --self-signed-cert-validity 3"));
    let protocol = tls::Protocol::default();
    assert_eq!(automatic.clients.tls, tls::Source::Automatic { years: 3, protocol });
    refuses(
        &format!("{https} --auto-tls --self-signed-cert-validity 0"),
        "selfSignedCertValidity is invalid,it should be greater than 0",
    );
}

#[test]
fn files_for_tls_are_of_no_concern_where_no_client_is_encrypted() {
    let (config, warnings) = read("--cert-file a").unwrap();
    assert_eq!(config.clients.tls, tls::Source::None);
    let plain = Warning::TlsUnused("--listen-client-urls http://localhost:2379".to_owned());
    assert_eq!(warnings, std::slice::from_ref(&plain));
    let (config, warnings) =
        read("--auto-tls --cert-file a --key-file b --listen-metrics-urls https://127.0.0.1:0")
            .unwrap();
    assert!(matches!(config.clients.tls, tls::Source::Files(_)));
    assert_eq!(warnings, [Warning::AutoTlsUnused("auto-tls"), plain]);
}

#[test]
fn versions_and_suites_of_tls_are_told_apart() {
    refuses(
        "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    );
    let words = r#"unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)"#;
    refuses("--tls-min-version TLS1.1", words);
    let words = r#"unexpected TLS version "1.3" (must be one of: TLS1.2, TLS1.3)"#;
    refuses("--tls-max-version 1.3", words);
    let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    refuses(
        &format!("--tls-min-version TLS1.3 --cipher-suites {suite}"),
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    );
    refuses("--cipher-suites foo", r#"unexpected TLS cipher suite "foo""#);
    refuses(
        &format!("--cipher-suites {suite},TLS_RSA_WITH_RC4_128_SHA"),
        r#"unexpected TLS cipher suite "TLS_RSA_WITH_RC4_128_SHA""#,
    );
    config(&format!("--cipher-suites {suite},TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"));
}

#[test]
fn names_and_hosts_of_certificates_exclude_each_other() {
    let files = "--peer-cert-file a --peer-key-file b";
    refuses(
        &format!("{files} --peer-cert-allowed-cn c,d --peer-cert-allowed-hostname e"),
        r#"AllowedCNs and AllowedHostnames are mutually exclusive (cns=["c" "d"], hostnames=["e"])"#,
    );
    let peers = config(&format!("{files} --peer-cert-allowed-cn c,d")).peers;
    let tls::Source::Files(files) = peers.tls else { panic!("{:?}", peers.tls) };
    assert_eq!(files.allowed, tls::Allowed::Names(vec!["c".to_owned(), "d".to_owned()]));
    assert!(files.check_address);
}

#[test]
fn timing_that_cannot_work_is_refused_in_etcds_words() {
    refuses("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)");
    refuses("--election-timeout 0", "--election-timeout must be >0 (set to 0ms)");
    refuses(
        "--heartbeat-interval 100 --election-timeout 499",
        "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    );
    refuses(
        "--heartbeat-interval 18446744073709551615",
        "--election-timeout[1000ms] should be at least as 5 times as \
         --heartbeat-interval[18446744073709551615ms]",
    );
    refuses(
        "--election-timeout 50001",
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    );
    assert_eq!(config("--election-timeout 500").timing.election, Duration::from_millis(500));
}

#[test]
fn limits_have_bounds() {
    refuses("--max-request-bytes 0", "--max-request-bytes 0 is out of range: expected 1 or more");
    refuses(
        "--max-request-bytes 1073741825",
        "--max-request-bytes 1073741825 is out of range: expected at most 1073741824 (1 GiB)",
    );
    refuses("--max-txn-ops 0", "--max-txn-ops 0 is out of range: expected 1 or more");
    assert_eq!(config("--quota-backend-bytes -1").limits.quota_backend_bytes, -1);
    assert_eq!(config("--quota-backend-bytes 7").limits.quota_backend_bytes, 7);
    assert_eq!(config("--snapshot-count 0").snapshot_count, 10_000);
    let short = config("--watch-progress-notify-interval 1ms");
    assert_eq!(short.watch_progress_notify_interval, Duration::from_millis(100));
}

#[test]
fn automatic_compaction_is_by_time_or_by_revisions() {
    let compaction = |arguments: &str| config(arguments).auto_compaction;
    let hours = |hours: u64| AutoCompaction::Periodic(Duration::from_secs(hours * 3_600));
    assert_eq!(compaction("--auto-compaction-retention 8"), hours(8));
    assert_eq!(compaction("--auto-compaction-retention 2h"), hours(2));
    let mode = "--auto-compaction-mode revision --auto-compaction-retention";
    assert_eq!(compaction(&format!("{mode} 1000")), AutoCompaction::Revision(1000));
    assert_eq!(compaction(&format!("{mode} 0")), AutoCompaction::Off);
    refuses(
        &format!("{mode} 5m"),
        r#"error parsing CompactionRetention: time: invalid duration "5m""#,
    );
    refuses("--auto-compaction-mode daily", r#"unknown auto-compaction-mode "daily""#);
    refuses("--auto-compaction-mode=", "undefined auto-compaction-mode");
}

/// The words that etcd 3.7.3 has for the same mistakes.
#[test]
fn what_does_not_fit_together_is_refused_in_etcds_words() {
    refuses("--logger=capnslog", "--logger=capnslog is removed in v3.5");
    refuses("--logger=foo", r#"unknown logger option "foo""#);
    refuses("--log-level=loud", r#"unrecognized level: "loud""#);
    refuses("--log-format=x", "unknown log format: x, supported values json, console");
    let words = r#"multi logoutput for "default" is not supported yet"#;
    refuses("--log-outputs=default,stdout", words);
    refuses(
        "--log-outputs=systemd/journal,stdout",
        r#"running with systemd/journal but other '--log-outputs' values (["stdout" "systemd/journal"]) are configured with 'default'; override 'default' value with something else"#,
    );
    let words =
        "--log-outputs requires a single file path when --log-rotate-config-json is defined";
    refuses("--enable-log-rotation", words);
    refuses("--enable-log-rotation --log-outputs=/tmp/a,/tmp/b", words);
    let rotation = "--enable-log-rotation --log-outputs=/tmp/a --log-rotation-config-json=";
    refuses(
        &format!(r#"{rotation}{{"maxsize":1"#),
        "improperly formatted log rotation config: unexpected end of JSON input",
    );
    refuses(
        &format!(r#"{rotation}{{"maxsize":"x"}}"#),
        "invalid log rotation config: json: cannot unmarshal string into Go struct field \
         logRotationConfig.Logger.maxsize of type int",
    );
    refuses(
        "--feature-gates=LeaseCheckpointPersist=true",
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
         LeaseCheckpoint",
    );
    refuses("--compact-hash-check-time=0s", "--compact-hash-check-time must be >0 (set to 0s)");
    refuses(
        "--enable-distributed-tracing --distributed-tracing-sampling-rate=-1",
        "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
    );
    refuses(
        "--discovery-fallback=proxy",
        r#"v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy""#,
    );
    let words = "both --discovery-token and --discovery-endpoints must be set";
    refuses("--discovery-token=x", words);
    refuses("--discovery-endpoints=,", words);
    refuses(
        "--discovery-endpoints=x --initial-cluster=a=http://a:1",
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\"",
    );
    refuses("--auth-token=foo", "auth: invalid auth options");
    refuses("--auth-token=jwt,a", "auth: invalid auth options");
}

#[test]
fn settings_have_their_types() {
    use crate::telemetry::{Format, Level, Options, Output, Rotation};
    let config = config(
        "--corrupt-check-time 1m --enable-log-rotation \
         --log-outputs=/var/log/a,stderr --log-format console --log-level WARN \
         --log-rotation-config-json={\"maxsize\":1,\"MaxAge\":2,\"compress\":true} \
         --grpc-keepalive-interval 0s --compaction-batch-limit 7 --max-concurrent-streams 9",
    );
    assert_eq!(config.corruption.period, Some(Duration::from_secs(60)));
    let rotation = Rotation {
        max_bytes: 1 << 20,
        max_days: Some(2),
        max_backups: None,
        local_time: false,
        compress: true,
    };
    let outputs = vec![Output::Rotated("/var/log/a".into(), rotation), Output::Stderr];
    let log = Options { level: Level::Warn, format: Format::Console, outputs };
    assert_eq!(config.log, log);
    assert_eq!(config.keepalive.interval, None);
    assert_eq!(config.compaction.batch_limit, 7);
    assert_eq!(config.compaction.sleep_interval, Duration::from_millis(10));
    assert_eq!(config.limits.max_concurrent_streams, 9);
}

#[test]
fn help_lists_every_flag_and_version_begins_as_tools_expect() {
    let printed = |flag: &str| match Config::read([OsString::from(flag)], []).unwrap() {
        Asked::Print(text) => text,
        Asked::Serve(..) => panic!("{flag}"),
    };
    let help = printed("--help");
    for flag in flags::FLAGS.iter().chain(flags::OWN) {
        assert!(help.contains(&format!("\n  --{} '", flag.name)), "--{}", flag.name);
    }
    assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    let version = printed("--version");
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.0");
    let names: Vec<&str> =
        lines[1..].iter().filter_map(|it| Some(it.split_once(": ")?.0)).collect();
    assert_eq!(names, ["Git SHA", "Go Version", "Go OS/Arch"]);
}

#[test]
fn corruption_checks_are_switched_by_gates_and_by_the_flags_of_old() {
    #[track_caller]
    fn check(arguments: &str, at_start: bool, period: Option<u64>, compaction: Option<u64>) {
        let checks = config(arguments).corruption;
        let secs = |time: Option<Duration>| time.map(|time| time.as_secs());
        let found = (checks.at_start, secs(checks.period), secs(checks.compaction_period));
        assert_eq!(found, (at_start, period, compaction), "{arguments}");
    }
    check("", false, None, None);
    check("--feature-gates InitialCorruptCheck=true", true, None, None);
    check("--experimental-initial-corrupt-check=true", true, None, None);
    check("--experimental-initial-corrupt-check=false", false, None, None);
    check("--feature-gates=CompactHashCheck=true,InitialCorruptCheck=false", false, None, Some(60));
    check("--feature-gates=AllAlpha=true,InitialCorruptCheck=false", false, None, Some(60));
    check("--corrupt-check-time=5m --compact-hash-check-time=7s", false, Some(300), None);
    let enabled = "--experimental-compact-hash-check-enabled=true --compact-hash-check-time=7s";
    check(enabled, false, None, Some(7));
}

#[test]
fn the_reserve_of_the_disk_is_a_part_of_it_or_a_number_or_none() {
    let reserve = |arguments| config(arguments).limits.disk_reserve_bytes;
    assert_eq!(reserve(""), None);
    assert_eq!(reserve("--disk-reserve-bytes 1000"), Some(1000));
    assert_eq!(reserve("--disk-reserve-bytes=-1"), Some(0));
}

#[test]
fn traces_are_sent_when_that_is_enabled() {
    let tracing = |arguments: &str| config(arguments).tracing;
    // What is not enabled is not looked at.
    assert_eq!(tracing("--distributed-tracing-sampling-rate=-1"), None);
    let defaults = Tracing {
        address: "localhost:4317".into(),
        service_name: "etcd".into(),
        instance_id: None,
        sampling_rate: 0,
    };
    let on = "--enable-distributed-tracing=true";
    assert_eq!(tracing(on), Some(defaults));
    let all = Tracing {
        address: "collector:1".into(),
        service_name: "store".into(),
        instance_id: Some("one".into()),
        sampling_rate: 1_000_000,
    };
    let flags = "--distributed-tracing-address=collector:1 --distributed-tracing-service-name=store \
                 --distributed-tracing-instance-id=one --distributed-tracing-sampling-rate=1000000";
    assert_eq!(tracing(&format!("{on} {flags}")), Some(all));
    for (rate, why) in [("-1", "must be positive"), ("1000001", "must be less than 1000000")] {
        refuses(
            &format!("{on} --distributed-tracing-sampling-rate={rate}"),
            &format!(
                "distributed tracing configurition is not valid: (tracing sampling rate {why})"
            ),
        );
    }
}

#[test]
fn a_member_says_where_it_stands() {
    let labels = |region: &str, zone: &str| Labels { region: region.into(), zone: zone.into() };
    assert_eq!(config("").labels, labels("", ""));
    assert_eq!(config("--region eastus").labels, labels("eastus", ""));
    assert_eq!(config("--region=eastus --zone=1").labels, labels("eastus", "1"));
    refuses("--zone=1", "--zone=1 is set without --region: a zone is a part of a region");
    let words = r#"invalid value "EastUS" for flag -region: expected 1 to 63 of a-z, 0-9 and -"#;
    refuses("--region=EastUS", words);
}
