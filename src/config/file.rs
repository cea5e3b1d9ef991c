//! `--config-file`: etcd's YAML file, which replaces all flags and variables.
//!
//! Its names are those of the flags, but for what etcd keeps in sections of its own. As in etcd,
//! durations are whole nanoseconds, lists of URLs are texts with commas, and `null` leaves a
//! setting at its default.

use saphyr::{Mapping, Scalar, Yaml, YamlLoader};
use saphyr_parser::{BufferedInput, Parser};

use super::{
    Error, Warning,
    flags::{self, Effect, Flag},
    raw::{Means, RawConfig},
    value::Kind,
};

/// A section with its keys, and the flag that each stands for.
type Section = (&'static str, &'static [(&'static str, Meaning)]);

#[derive(Clone, Copy)]
enum Meaning {
    Flag(&'static str),
    Section(&'static Section),
    /// etcd knows it, and nothing comes of it in a member.
    Ignored,
}

use Meaning::{Flag as F, Ignored, Section as S};

const CLIENTS: Section = (
    "client-transport-security",
    &[
        ("cert-file", F("cert-file")),
        ("key-file", F("key-file")),
        ("client-cert-file", F("client-cert-file")),
        ("client-key-file", F("client-key-file")),
        ("client-cert-auth", F("client-cert-auth")),
        ("trusted-ca-file", F("trusted-ca-file")),
        ("auto-tls", F("auto-tls")),
        ("allowed-cn", F("client-cert-allowed-cn")),
        ("allowed-hostname", F("client-cert-allowed-hostname")),
        // Only connections between members are checked for it.
        ("skip-client-san-verification", Ignored),
        // Not in etcd's file.
        ("crl-file", F("client-crl-file")),
    ],
);

const PEERS: Section = (
    "peer-transport-security",
    &[
        ("cert-file", F("peer-cert-file")),
        ("key-file", F("peer-key-file")),
        ("client-cert-file", F("peer-client-cert-file")),
        ("client-key-file", F("peer-client-key-file")),
        ("client-cert-auth", F("peer-client-cert-auth")),
        ("trusted-ca-file", F("peer-trusted-ca-file")),
        ("auto-tls", F("peer-auto-tls")),
        ("allowed-cn", F("peer-cert-allowed-cn")),
        ("allowed-hostname", F("peer-cert-allowed-hostname")),
        ("skip-client-san-verification", F("peer-skip-client-san-verification")),
        // Not in etcd's file.
        ("crl-file", F("peer-crl-file")),
    ],
);

const SOCKETS: Section = (
    "socket-options",
    &[("reuse-port", F("socket-reuse-port")), ("reuse-address", F("socket-reuse-address"))],
);

const DISCOVERY: Section =
    ("discovery-config", &[("token", F("discovery-token")), ("client", S(&DISCOVERY_CLIENT))]);

const DISCOVERY_CLIENT: Section = (
    "client",
    &[
        ("endpoints", F("discovery-endpoints")),
        ("request-timeout", F("discovery-request-timeout")),
        ("dial-timeout", F("discovery-dial-timeout")),
        ("keepalive-time", F("discovery-keepalive-time")),
        ("keepalive-timeout", F("discovery-keepalive-timeout")),
        ("secure", S(&DISCOVERY_SECURE)),
        ("auth", S(&DISCOVERY_AUTH)),
    ],
);

const DISCOVERY_SECURE: Section = (
    "secure",
    &[
        ("cert", F("discovery-cert")),
        ("key", F("discovery-key")),
        ("cacert", F("discovery-cacert")),
        ("insecure-transport", F("discovery-insecure-transport")),
        ("insecure-skip-tls-verify", F("discovery-insecure-skip-tls-verify")),
    ],
);

const DISCOVERY_AUTH: Section =
    ("auth", &[("username", F("discovery-user")), ("password", F("discovery-password"))]);

const SECTIONS: [&Section; 4] = [&CLIENTS, &PEERS, &SOCKETS, &DISCOVERY];

/// Flags that etcd's file does not have at its top, though they are no part of a section.
const NO_KEYS: [&str; 3] = ["raft-read-timeout", "raft-write-timeout", "discovery-fallback"];

/// Reads the file at this path.
///
/// # Errors
/// It cannot be read, is no YAML, or has a value of the wrong kind; in the words of etcd, whose
/// file is read as JSON made of YAML.
pub(crate) fn read(path: &str) -> Result<RawConfig, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::ReadFile {
        did: doing(&error),
        path: path.into(),
        why: words(&error),
    })?;
    parse(path, &text)
}

/// What failed: a directory can be opened, and not be read.
fn doing(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::IsADirectory => "read",
        _ => "open",
    }
}

/// What went wrong with a file, as Go says it.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn parse(path: &str, text: &str) -> Result<RawConfig, Error> {
    let documents = load(text)?;
    let mut raw = RawConfig::of_file(path);
    match documents.first() {
        None | Some(Yaml::Value(Scalar::Null)) => {}
        Some(Yaml::Mapping(settings)) => read_top(&mut raw, settings)?,
        Some(other) => {
            let what = format!("{} into Go value of type embed.configYAML", json_name(other));
            return Err(Error::WrongType(what));
        }
    }
    Ok(raw)
}

/// A key that is there twice counts once, as in etcd: the last time.
fn load(text: &str) -> Result<Vec<Yaml<'_>>, Error> {
    let mut parser = Parser::new(BufferedInput::new(text.chars()));
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    loader.allow_duplicate_keys(true);
    let loaded = parser.load(&mut loader, true);
    loaded.map_err(|error| Error::NotYaml(error.to_string()))?;
    if let Some(error) = loader.error() {
        return Err(Error::NotYaml(error.to_string()));
    }
    Ok(loader.into_documents())
}

/// Keys in the order of the alphabet, so that of several faults etcd's is told.
fn sorted<'a>(settings: &'a Mapping<'_>) -> Vec<(&'a str, &'a Yaml<'a>)> {
    let keys = settings.iter().filter_map(|(key, value)| Some((key.as_str()?, value)));
    let mut keys: Vec<_> = keys.filter(|(_, value)| !value.is_null()).collect();
    keys.sort_by_key(|(key, _)| *key);
    keys
}

fn read_top(raw: &mut RawConfig, settings: &Mapping<'_>) -> Result<(), Error> {
    for (key, value) in sorted(settings) {
        let section = SECTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        let known = flags::find(&key.to_ascii_lowercase());
        match (section, known) {
            (Some(section), _) => read_section(raw, section, owner(section.0), value)?,
            (None, Some(flag)) if is_at_top(flag) => {
                let path = format!("{}.{}", owner(flag.name), flag.name);
                read_value(raw, flag, &path, value)?;
            }
            (None, Some(_) | None) => raw.warnings.push(Warning::UnknownKey(key.to_owned())),
        }
    }
    Ok(())
}

/// Whether a flag's name is a key of its own.
fn is_at_top(flag: &Flag) -> bool {
    let in_section = SECTIONS.iter().any(|section| holds(section, flag.name));
    flag.effect != Effect::FileOnly && !in_section && !NO_KEYS.contains(&flag.name)
}

fn holds((_, keys): &Section, flag: &str) -> bool {
    keys.iter().any(|(_, meaning)| match meaning {
        F(name) => *name == flag,
        S(section) => holds(section, flag),
        Ignored => false,
    })
}

/// The type in which etcd keeps a key, which its messages name.
fn owner(key: &str) -> &'static str {
    match key {
        "listen-peer-urls"
        | "listen-client-urls"
        | "listen-client-http-urls"
        | "initial-advertise-peer-urls"
        | "advertise-client-urls"
        | "cors"
        | "host-whitelist"
        | "feature-gates"
        | "client-transport-security"
        | "peer-transport-security" => "configYAML.configJSON",
        _ => "configYAML.Config",
    }
}

/// etcd's name for the type of a section.
fn type_of(section: &str) -> &'static str {
    match section {
        "socket-options" => "transport.SocketOpts",
        "discovery-config" => "v3discovery.DiscoveryConfig",
        "client" => "clientv3.ConfigSpec",
        "secure" => "clientv3.SecureConfig",
        "auth" => "clientv3.AuthConfig",
        _ => "embed.securityConfig",
    }
}

fn read_section(
    raw: &mut RawConfig,
    (name, keys): &Section,
    owner: &str,
    value: &Yaml<'_>,
) -> Result<(), Error> {
    let Yaml::Mapping(settings) = value else {
        return Err(wrong_type(value, &format!("{owner}.{name}"), type_of(name)));
    };
    // Within a section etcd names its type, and the way to it without the first type.
    let inner = type_of(name).rsplit('.').next().unwrap_or_default();
    let way = owner.split_once('.').map_or(owner, |(_, way)| way);
    let owner = format!("{inner}.{way}.{name}");
    for (key, value) in sorted(settings) {
        match keys.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
            Some((key, F(flag))) => {
                let flag = flags::find(flag).expect("a test looks for each");
                read_value(raw, flag, &format!("{owner}.{key}"), value)?;
            }
            Some((_, S(section))) => read_section(raw, section, &owner, value)?,
            Some((_, Ignored)) => {}
            None => raw.warnings.push(Warning::UnknownKey(format!("{name}.{key}"))),
        }
    }
    Ok(())
}

fn read_value(
    raw: &mut RawConfig,
    flag: &'static Flag,
    path: &str,
    value: &Yaml<'_>,
) -> Result<(), Error> {
    let wrong = || wrong_type(value, path, go_type(flag));
    let text = match flag.kind {
        Kind::List => {
            let Yaml::Sequence(items) = value else { return Err(wrong()) };
            let word = |item: &Yaml<'_>| {
                item.as_str().map(str::to_owned).ok_or_else(|| wrong_type(item, path, "string"))
            };
            let words = items.iter().map(word).collect::<Result<Vec<String>, Error>>()?;
            return raw.set_words(flag, &words);
        }
        Kind::Bool => yes_or_no(value).ok_or_else(wrong)?.to_string(),
        Kind::Count | Kind::Count32 | Kind::Number => {
            let text = value.as_integer().ok_or_else(wrong)?.to_string();
            if super::value::check(flag.kind, &text).is_err() {
                return Err(wrong());
            }
            text
        }
        Kind::Duration => match value.as_integer().map(u64::try_from) {
            Some(Ok(nanoseconds)) => format!("{nanoseconds}ns"),
            Some(Err(_)) | None => return Err(wrong()),
        },
        Kind::Anything => return Ok(()),
        Kind::Text
        | Kind::Urls
        | Kind::Origins
        | Kind::Choice(_)
        | Kind::Choices(_)
        | Kind::Label
        | Kind::Gates => value.as_str().ok_or_else(wrong)?.to_owned(),
    };
    raw.set(flag, text, &Means::File)
}

/// YAML 1.1, which etcd reads, has more words for yes and no.
fn yes_or_no(value: &Yaml<'_>) -> Option<bool> {
    match value.as_str() {
        Some("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Some(true),
        Some("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => Some(false),
        Some(_) | None => value.as_bool(),
    }
}

/// In etcd's words: what is there, where, and what was wanted.
fn wrong_type(value: &Yaml<'_>, path: &str, wanted: &str) -> Error {
    let there = match value {
        // A number is told only when it is one that does not fit.
        Yaml::Value(Scalar::Integer(number)) if is_number(wanted) => format!("number {number}"),
        Yaml::Value(Scalar::FloatingPoint(number)) if is_number(wanted) => {
            format!("number {number}")
        }
        other => json_name(other).to_owned(),
    };
    Error::WrongType(format!("{there} into Go struct field {path} of type {wanted}"))
}

fn is_number(go_type: &str) -> bool {
    go_type.contains("int") || go_type == "time.Duration"
}

fn json_name(value: &Yaml<'_>) -> &'static str {
    match value {
        Yaml::Value(Scalar::String(_)) | Yaml::Representation(..) => "string",
        Yaml::Value(Scalar::Integer(_) | Scalar::FloatingPoint(_)) => "number",
        Yaml::Value(Scalar::Boolean(_)) => "bool",
        Yaml::Sequence(_) => "array",
        Yaml::Mapping(_) => "object",
        Yaml::Tagged(_, inner) => json_name(inner),
        Yaml::Value(Scalar::Null) | Yaml::Alias(_) | Yaml::BadValue => "null",
    }
}

/// The type of a flag's value in etcd.
fn go_type(flag: &Flag) -> &'static str {
    match (flag.kind, flag.name) {
        (Kind::Bool, _) => "bool",
        (Kind::Count, "snapshot-count" | "snapshot-catchup-entries") => "uint64",
        (Kind::Count, _) => "uint",
        (Kind::Count32, _) => "uint32",
        (Kind::Number, "quota-backend-bytes") => "int64",
        (Kind::Number, _) => "int",
        (Kind::Duration, _) => "time.Duration",
        (Kind::List, _) => "[]string",
        (
            Kind::Text
            | Kind::Urls
            | Kind::Origins
            | Kind::Choice(_)
            | Kind::Choices(_)
            | Kind::Gates
            | Kind::Label
            | Kind::Anything,
            _,
        ) => "string",
    }
}

#[cfg(test)]
mod tests;
