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
        quota_backend_bytes: 2 << 30,
        disk_reserve_bytes: None,
        auto_disarm_nospace: false,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert!(config.strict_reconfig_check && config.pre_vote && !config.token_is_set);
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
        refuses(
            &format!("--auth-token={value}"),
            &format!("invalid value {value:?} for --auth-token: auth: invalid auth options: {why}"),
        );
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
    assert_eq!(warnings, []);
    assert!(config.corruption.at_start);
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
        r#"--listen-peer-urls "http://example.com:1": expected IP in URL for binding (http://example.com:1)"#,
    );
    refuses(
        "--initial-advertise-peer-urls 10.0.0.1:2380",
        r#"--initial-advertise-peer-urls "10.0.0.1:2380": URL scheme must be http, https, unix, or unixs: 10.0.0.1:2380"#,
    );
    refuses("--listen-peer-urls=", "--listen-peer-urls needs at least one URL");
}

#[test]
fn https_needs_a_certificate() {
    let https = "--listen-client-urls https://127.0.0.1:0 --advertise-client-urls https://h:1";
    refuses(
        https,
        "TLS key/cert (--cert-file, --key-file) must be provided for --listen-client-urls \
         https://127.0.0.1:0 with HTTPS scheme",
    );
    refuses(
        "--listen-peer-urls https://127.0.0.1:0",
        "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for --listen-peer-urls \
         https://127.0.0.1:0 with HTTPS scheme",
    );
    refuses(
        "--listen-metrics-urls https://127.0.0.1:0",
        "TLS key/cert (--cert-file, --key-file) must be provided for --listen-metrics-urls \
         https://127.0.0.1:0 with HTTPS scheme",
    );
    refuses(
        "--cert-file a.crt",
        "--cert-file and --key-file must both be present or both absent [cert: \"a.crt\", key: \"\"]",
    );
    let automatic = config(&format!("{https} --auto-tls --self-signed-cert-validity 3"));
    let versions = tls::Versions::Both;
    assert_eq!(automatic.clients.tls, tls::Source::Automatic { years: 3, versions });
    let (_, warnings) = read("--auto-tls --cert-file a --key-file b").unwrap();
    let plain = Warning::TlsUnused("--listen-client-urls http://localhost:2379".to_owned());
    assert_eq!(warnings, [Warning::AutoTlsUnused("auto-tls"), plain]);
}

#[test]
fn versions_of_tls_are_told_apart() {
    refuses(
        "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
        "--tls-min-version TLS1.3 is greater than --tls-max-version TLS1.2",
    );
    refuses(
        "--tls-min-version TLS1.1",
        r#"invalid value "TLS1.1" for --tls-min-version: expected TLS1.2 or TLS1.3"#,
    );
    refuses(
        "--tls-max-version 1.3",
        r#"invalid value "1.3" for --tls-max-version: expected TLS1.2 or TLS1.3"#,
    );
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
        r#"invalid value "5m" for --auto-compaction-retention: expected a number of revisions"#,
    );
    refuses(
        "--auto-compaction-mode daily",
        r#"invalid value "daily" for --auto-compaction-mode: expected periodic or revision"#,
    );
}

#[test]
fn a_member_has_a_name() {
    refuses("--name=", r#"invalid value "" for --name: expected a name"#);
}

#[test]
fn words_from_a_list_are_refused_with_the_list() {
    refuses(
        "--initial-cluster-state old",
        r#"invalid value "old" for --initial-cluster-state: expected new or existing"#,
    );
    refuses(
        "--log-level loud",
        r#"invalid value "loud" for --log-level: expected debug, info, warn, error, panic or fatal"#,
    );
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
    assert_eq!(version.lines().next(), Some("etcd Version: 3.7.0"));
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
    for (arguments, words) in [
        ("--feature-gates=Nonsense=true", "a feature of etcd"),
        ("--feature-gates=CompactHashCheck", "Name=true or Name=false"),
        ("--compact-hash-check-time=0s", "must be >0"),
    ] {
        let error = read(arguments).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_reserve_of_the_disk_is_a_part_of_it_or_a_number_or_none() {
    let reserve = |arguments| config(arguments).limits.disk_reserve_bytes;
    assert_eq!(reserve(""), None);
    assert_eq!(reserve("--disk-reserve-bytes 1000"), Some(1000));
    assert_eq!(reserve("--disk-reserve-bytes=-1"), Some(0));
}
