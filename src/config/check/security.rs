//! How connections are secured: which flags for which kind of connections, and what fits together.

use crate::{
    config::{Error, Warning, raw::RawConfig},
    tls::{self, Suites},
};

/// Names of the flags for one kind of connections.
pub(crate) struct Names {
    pub(crate) listen: &'static str,
    pub(crate) advertise: &'static str,
    auto: &'static str,
    allowed_names: &'static str,
    allowed_hosts: &'static str,
    /// Only members are held to the address that they connect from.
    skip_address_check: Option<&'static str>,
    pub(crate) tls: tls::FlagNames,
}

pub(crate) const PEERS: Names = Names {
    listen: "listen-peer-urls",
    advertise: "initial-advertise-peer-urls",
    auto: "peer-auto-tls",
    allowed_names: "peer-cert-allowed-cn",
    allowed_hosts: "peer-cert-allowed-hostname",
    skip_address_check: Some("peer-skip-client-san-verification"),
    tls: tls::FlagNames::PEERS,
};

pub(crate) const CLIENTS: Names = Names {
    listen: "listen-client-urls",
    advertise: "advertise-client-urls",
    auto: "auto-tls",
    allowed_names: "client-cert-allowed-cn",
    allowed_hosts: "client-cert-allowed-hostname",
    skip_address_check: None,
    tls: tls::FlagNames::CLIENTS,
};

/// Whether flags ask for TLS, wholly or by half.
pub(crate) fn is_asked_for(raw: &RawConfig, names: &Names) -> bool {
    let is_given = |flag| !raw.text(flag).is_empty();
    is_given(names.tls.cert) || is_given(names.tls.key) || raw.bool(names.auto)
}

/// As in etcd, files are of no concern where no connection is encrypted.
pub(crate) fn source(
    raw: &RawConfig,
    names: &Names,
    is_needed: bool,
    warnings: &mut Vec<Warning>,
) -> Result<tls::Source, Error> {
    let (flags, automatic, protocol) = (names.tls, raw.bool(names.auto), protocol(raw)?);
    let years = if automatic { years(raw)? } else { 0 };
    if !is_needed {
        return Ok(tls::Source::None);
    }
    let file = |flag: &str| Some(raw.text(flag)).filter(|path| !path.is_empty()).map(Into::into);
    let text = |flag: &str| raw.text(flag).to_owned();
    let shown = match (file(flags.cert), file(flags.key)) {
        (Some(cert), Some(key)) => Some(tls::Pair { cert, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::HalfACertificate {
                cert_flag: flags.cert,
                key_flag: flags.key,
                cert: text(flags.cert),
                key: text(flags.key),
            });
        }
    };
    let dialling = match (file(flags.client_cert), file(flags.client_key)) {
        (Some(cert), Some(key)) => Some(tls::Pair { cert, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::HalfAClientCertificate {
                cert_flag: flags.client_cert,
                key_flag: flags.client_key,
                cert: text(flags.client_cert),
                key: text(flags.client_key),
            });
        }
    };
    Ok(match shown {
        Some(shown) => {
            if automatic {
                warnings.push(Warning::AutoTlsUnused(names.auto));
            }
            tls::Source::Files(Box::new(tls::Files {
                shown,
                dialling,
                trust: file(flags.trusted_ca).map_or(tls::Trust::System, tls::Trust::File),
                client_cert_auth: raw.bool(flags.client_cert_auth),
                revoked: file(flags.revoked),
                allowed: allowed(raw, names)?,
                check_address: names.skip_address_check.is_some_and(|skip| !raw.bool(skip)),
                protocol,
                flags,
            }))
        }
        None if automatic => tls::Source::Automatic { years, protocol },
        None => tls::Source::None,
    })
}

fn years(raw: &RawConfig) -> Result<u32, Error> {
    let flag = "self-signed-cert-validity";
    match u32::try_from(raw.count(flag)) {
        // A file without a value and one with 0 are the same to etcd.
        Ok(0) if raw.file.is_some() => Ok(1),
        Ok(0) => Err(Error::NoValidity),
        Ok(years) if years <= 1_000 => Ok(years),
        Ok(_) | Err(_) => Err(Error::OutOfRange {
            flag,
            value: raw.text(flag).to_owned(),
            why: "expected at most 1000 years",
        }),
    }
}

fn allowed(raw: &RawConfig, names: &Names) -> Result<tls::Allowed, Error> {
    let (by_name, by_host) = (raw.words(names.allowed_names), raw.words(names.allowed_hosts));
    let quoted = |words: &[String]| {
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        format!("[{}]", words.join(" "))
    };
    match (by_name.is_empty(), by_host.is_empty()) {
        (true, true) => Ok(tls::Allowed::All),
        (false, true) => Ok(tls::Allowed::Names(by_name)),
        (true, false) => Ok(tls::Allowed::Hosts(by_host)),
        (false, false) => {
            Err(Error::AllowedTwice { names: quoted(&by_name), hosts: quoted(&by_host) })
        }
    }
}

/// The same for all connections.
pub(crate) fn protocol(raw: &RawConfig) -> Result<tls::Protocol, Error> {
    let versions = versions(raw)?;
    let names = raw.words("cipher-suites");
    if versions == tls::Versions::Only13 && !names.is_empty() {
        return Err(Error::SuitesWithoutTls12);
    }
    let suites = Suites::parse(&names).map_err(Error::UnknownSuite)?;
    Ok(tls::Protocol { versions, suites })
}

fn versions(raw: &RawConfig) -> Result<tls::Versions, Error> {
    let (min, max) = (raw.text("tls-min-version"), raw.text("tls-max-version"));
    for version in [min, max] {
        if !matches!(version, "" | "TLS1.2" | "TLS1.3") {
            return Err(Error::UnknownTlsVersion(version.to_owned()));
        }
    }
    match (min, max) {
        ("TLS1.3", "TLS1.2") => {
            Err(Error::TlsVersions { min: min.to_owned(), max: max.to_owned() })
        }
        ("TLS1.3", _) => Ok(tls::Versions::Only13),
        (_, "TLS1.2") => Ok(tls::Versions::Only12),
        _ => Ok(tls::Versions::Both),
    }
}
