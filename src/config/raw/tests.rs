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

#[test]
fn what_is_no_flag_is_refused_by_name_and_value() {
    refuses("--no-such=3", "flag provided but not defined: --no-such=3");
    refuses("--=3", "bad flag syntax: --=3");
    refuses("---name x", "bad flag syntax: ---name");
    refuses("start", r#""start" is not a valid flag"#);
    refuses("--name m1 start", r#""start" is not a valid flag"#);
    refuses("-", r#""-" is not a valid flag"#);
    refuses("-- start", r#""start" is not a valid flag"#);
    refuses("--auto-tls false", r#""false" is not a valid flag"#);
    refuses("--name", "flag needs an argument: --name");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_name_and_value() {
    let wrong = |flag: &str, value: &str, why: &str| {
        refuses(
            &format!("--{flag}={value}"),
            &format!("invalid value {value:?} for --{flag}: {why}"),
        );
    };
    wrong("heartbeat-interval", "fast", "expected a whole number from 0 on");
    wrong("heartbeat-interval", "-1", "expected a whole number from 0 on");
    wrong("heartbeat-interval", "18446744073709551616", "expected a whole number from 0 on");
    wrong("quota-backend-bytes", "1e9", "expected a whole number");
    wrong("auto-tls", "yes", "expected true or false");
    wrong("watch-progress-notify-interval", "5", "expected a duration such as 300ms or 1h30m");
    wrong("grpc-keepalive-timeout", "soon", "expected a duration such as 300ms or 1h30m");
    let error = asked("", &[("ETCD_AUTO_TLS", "yes")]).unwrap_err().to_string();
    assert_eq!(error, r#"invalid value "yes" for ETCD_AUTO_TLS: expected true or false"#);
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
    let error = asked("--name m1", &[("ETCD_NAME", "m1")]).unwrap_err().to_string();
    let words = "conflicting environment variable \"ETCD_NAME\" is shadowed by corresponding \
                 command-line flag (either unset environment variable or disable flag)";
    assert_eq!(error, words);
}

#[test]
fn what_has_no_effect_is_accepted_and_named() {
    let raw = raw(
        "--wal-dir /w --experimental-memory-mlock=true --max-snapshots 5 --vv \
         --log-outputs=default --grpc-keepalive-timeout 20s",
        &[("ETCD_ON_K8S", "yes"), ("ETCD_ENABLE_V2", "true")],
    );
    let flags = ["--enable-v2", "--experimental-memory-mlock", "--max-snapshots", "--vv"];
    let mut flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
    flags.push("--wal-dir".to_owned());
    let unknown = Warning::UnknownVariable("ETCD_ON_K8S".to_owned());
    assert_eq!(raw.warnings, [unknown, Warning::NoEffect(flags)]);
}

#[test]
fn what_must_not_be_ignored_is_refused_until_it_works() {
    refuses("--config-file=/etc/x", r#"--config-file="/etc/x" is not supported yet"#);
    refuses("--config-file /etc/x", r#"--config-file="/etc/x" is not supported yet"#);
    refuses("--peer-cert-allowed-cn m", r#"--peer-cert-allowed-cn="m" is not supported yet"#);
    assert!(asked("--host-whitelist=*", &[]).is_ok());
    let error = asked("", &[("ETCD_CONFIG_FILE", "/c")]).unwrap_err().to_string();
    assert_eq!(error, r#"ETCD_CONFIG_FILE="/c" is not supported yet"#);
}

#[test]
fn names_are_unique_and_defaults_are_of_their_kind() {
    let mut seen = std::collections::BTreeSet::new();
    for flag in FLAGS.iter().chain(OWN).chain(REMOVED) {
        assert!(seen.insert(flag.name), "--{} is there twice", flag.name);
        let known = flag.effect == Effect::Removed || check(flag.kind, flag.default).is_ok();
        assert!(known, "--{} has the default {:?}", flag.name, flag.default);
    }
}

#[test]
fn names_and_defaults_are_the_golden_list() {
    let list: String =
        FLAGS.iter().map(|flag| format!("{} = {}\n", flag.name, flag.default)).collect();
    let golden = include_str!("../../../tests/golden/flags.txt");
    assert_eq!(list, golden, "change tests/golden/flags.txt if the new list is meant:\n{list}");
}
