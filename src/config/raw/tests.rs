//! Each form of a flag, each refusal, and that the table is sound.

use super::*;

fn asked(arguments: &str, environment: &[(&str, &str)]) -> Result<Asked, Error> {
    read(
        arguments.split_whitespace().map(OsString::from),
        environment.iter().map(|(name, value)| (name.into(), value.into())),
    )
}

fn raw(arguments: &str, environment: &[(&str, &str)]) -> RawConfig {
    match asked(arguments, environment).unwrap() {
        Asked::Serve(raw) => raw,
        other => panic!("{arguments}: {other:?}"),
    }
}

#[track_caller]
fn sets(arguments: &str, name: &str, value: &str) {
    let raw = raw(arguments, &[]);
    assert_eq!(raw.text(name), value, "{arguments}");
    assert!(raw.is_set(name), "{arguments}");
}

#[track_caller]
fn refuses(arguments: &str, message: &str) {
    assert_eq!(asked(arguments, &[]).unwrap_err().to_string(), message, "{arguments}");
}

#[test]
fn a_flag_is_read_in_each_of_gos_forms() {
    sets("--name m1", "name", "m1");
    sets("--name=m1", "name", "m1");
    sets("-name m1", "name", "m1");
    sets("-name=m1", "name", "m1");
    sets("--name=", "name", "");
    sets("--name=a=b", "name", "a=b");
    sets("--name m1 --name m2", "name", "m2");
    sets("--auto-tls", "auto-tls", "true");
    sets("--auto-tls=F", "auto-tls", "F");
    sets("--auto-tls --name m1", "name", "m1");
    sets("--quota-backend-bytes -1", "quota-backend-bytes", "-1");
    sets("--name m1 --", "name", "m1");
    assert_eq!(raw("", &[]).text("name"), "default");
    assert_eq!(raw("--snapshot-count 0x10", &[]).count("snapshot-count"), 16);
    let far = raw("--quota-backend-bytes -9223372036854775808", &[]);
    assert_eq!(far.number("quota-backend-bytes"), i64::MIN);
    assert_eq!(raw("--cipher-suites a,b", &[]).words("cipher-suites"), ["a", "b"]);
    assert!(raw("", &[]).words("cipher-suites").is_empty());
}

#[test]
fn help_and_version_are_told_from_a_start() {
    for arguments in ["--help", "-h", "-help", "--name m1 --help"] {
        assert!(matches!(asked(arguments, &[]), Ok(Asked::Help)), "{arguments}");
    }
    for arguments in ["--version", "-version", "--version=true --name m1"] {
        assert!(matches!(asked(arguments, &[]), Ok(Asked::Version)), "{arguments}");
    }
    assert!(matches!(asked("--version=false", &[]), Ok(Asked::Serve(_))));
}

/// The words that etcd 3.7.3 has for the same mistakes.
#[test]
fn what_is_no_flag_is_refused_in_etcds_words() {
    refuses("--no-such=3", "flag provided but not defined: -no-such");
    refuses("--client-cert-allowed-cn=a", "flag provided but not defined: -client-cert-allowed-cn");
    refuses("--=3", "bad flag syntax: --=3");
    refuses("---name x", "bad flag syntax: ---name");
    refuses("start", r#""start" is not a valid flag"#);
    refuses("--name m1 start", r#""start" is not a valid flag"#);
    refuses("-", r#""-" is not a valid flag"#);
    refuses("-- start", r#""start" is not a valid flag"#);
    refuses("--auto-tls false", r#""false" is not a valid flag"#);
    refuses("--name", "flag needs an argument: -name");
}

/// The words that etcd 3.7.3 has for the same mistakes, one flag of each kind.
#[test]
fn a_value_of_the_wrong_kind_is_refused_in_etcds_words() {
    let wrong = |flag: &str, value: &str, why: &str| {
        let words = format!("invalid value {value:?} for flag -{flag}: {why}");
        refuses(&format!("--{flag}={value}"), &words);
    };
    wrong("heartbeat-interval", "fast", "parse error");
    wrong("heartbeat-interval", "-1", "parse error");
    wrong("heartbeat-interval", "18446744073709551616", "value out of range");
    wrong("quota-backend-bytes", "1e9", "parse error");
    wrong("watch-progress-notify-interval", "5", "parse error");
    wrong("distributed-tracing-sampling-rate", "x", "parse error");
    wrong("initial-cluster-state", "old", "invalid value");
    wrong("discovery-fallback", "x", "invalid value");
    wrong("v2-deprecation", "foo", r#"invalid value "foo""#);
    wrong("feature-gates", "Foo=true", "unrecognized feature gate: Foo");
    wrong("cors", "foo", "URL scheme must be http, https, unix, or unixs: foo");
    wrong(
        "max-concurrent-streams",
        "99999999999",
        r#"strconv.ParseUint: parsing "99999999999": value out of range"#,
    );
    wrong(
        "listen-peer-urls",
        "127.0.0.1:2380",
        r#"parse "127.0.0.1:2380": first path segment in URL cannot contain colon"#,
    );
    refuses("--auto-tls=yes", r#"invalid boolean value "yes" for -auto-tls: parse error"#);
    let error = asked("", &[("ETCD_AUTO_TLS", "yes")]).unwrap_err();
    assert_eq!(error.to_string(), r#"invalid value "yes" for ETCD_AUTO_TLS: parse error"#);
    assert!(!error.is_usage());
    assert!(asked("--auto-tls=yes", &[]).unwrap_err().is_usage());
}

#[test]
fn a_variable_sets_what_no_flag_sets() {
    let raw =
        raw("--name m1", &[("ETCD_DATA_DIR", "/data"), ("ETCD_LOG_LEVEL", ""), ("HOME", "x")]);
    assert_eq!(raw.text("data-dir"), "/data");
    assert!(!raw.is_set("log-level"));
    assert!(raw.warnings.is_empty());
}

#[test]
fn a_flag_and_its_variable_together_are_refused_in_etcds_words() {
    let error = asked("--name m1", &[("ETCD_NAME", "m1")]).unwrap_err();
    let words = "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag))";
    assert_eq!(error.to_string(), words);
    assert_eq!(error.about().as_deref(), Some("ETCD_NAME"));
}

#[test]
fn what_has_no_effect_is_accepted_and_named() {
    let raw = raw(
        "--backend-batch-limit 5 --max-snapshots 6 --vv --raft-read-timeout=5s",
        &[("ETCD_ON_K8S", "yes"), ("ETCD_ENABLE_V2", "true")],
    );
    let warnings = [
        Warning::UnknownVariable("ETCD_ON_K8S".to_owned()),
        Warning::NoEffect("backend-batch-limit"),
        Warning::Obsolete("enable-v2"),
        Warning::NoEffect("max-snapshots"),
        Warning::Obsolete("vv"),
    ];
    assert_eq!(raw.warnings, warnings);
}

#[test]
fn a_removed_flag_means_what_its_successor_means() {
    let raw = raw(
        "--experimental-initial-corrupt-check=true \
         --experimental-watch-progress-notify-interval=5s \
         --experimental-corrupt-check-time=1m --corrupt-check-time=2m",
        &[("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "true")],
    );
    assert_eq!(raw.duration("watch-progress-notify-interval"), Duration::from_secs(5));
    assert_eq!(raw.duration("corrupt-check-time"), Duration::from_secs(120), "its own name wins");
    let features = raw.features();
    assert!(features.initial_corrupt_check && features.compact_hash_check);
    let is_renamed = |warning: &&Warning| matches!(warning, Warning::Renamed { .. });
    let told: Vec<String> =
        raw.warnings.iter().filter(is_renamed).map(Warning::to_string).collect();
    assert_eq!(
        told[0],
        "--experimental-initial-corrupt-check was removed from etcd; it is taken for \
         --feature-gates=InitialCorruptCheck=true"
    );
    assert_eq!(told.len(), 4);
}

#[test]
fn a_gate_by_its_own_name_wins_over_the_removed_flag() {
    let raw = raw(
        "--experimental-initial-corrupt-check=true --feature-gates=InitialCorruptCheck=false",
        &[],
    );
    assert!(!raw.features().initial_corrupt_check);
}

#[test]
fn names_are_unique_and_defaults_are_of_their_kind() {
    let mut seen = std::collections::BTreeSet::new();
    for flag in FLAGS.iter().chain(OWN).chain(REMOVED.iter().map(|removed| &removed.flag)) {
        assert!(seen.insert(flag.name), "--{} is there twice", flag.name);
        let known = flag.effect == Effect::Removed || value::check(flag.kind, flag.default).is_ok();
        assert!(known, "--{} has the default {:?}", flag.name, flag.default);
    }
}

#[test]
fn successors_of_removed_flags_take_the_same_values() {
    for removed in REMOVED {
        match removed.becomes {
            Becomes::Nothing => {}
            Becomes::Gate(_) => assert_eq!(removed.flag.kind, Kind::Bool, "{}", removed.flag.name),
            Becomes::Flag(name) => {
                let successor = flags::find(name).unwrap();
                assert_eq!(removed.flag.kind, successor.kind, "{name}");
            }
        }
    }
}
