//! What is worth telling about a configuration that is valid.

use std::fmt;

use super::features::Gate;
use crate::telemetry::Level;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Everything comes from this file.
    FileLoaded(String),
    /// A key of the file that means nothing.
    UnknownKey(String),
    /// A flag that can mean nothing here.
    NoEffect(&'static str),
    /// A flag of an earlier etcd that means nothing any more.
    Obsolete(&'static str),
    /// A flag of an earlier etcd, and what it is today.
    Renamed { from: &'static str, to: String },
    /// An `ETCD_` variable that belongs to no flag.
    UnknownVariable(String),
    /// TLS files, or automatic TLS, for a URL that begins with http.
    TlsUnused(String),
    /// Automatic TLS beside certificate files: the files win.
    AutoTlsUnused(&'static str),
    /// A feature that is always on here, or that there is nothing to do for.
    GateNoEffect(Gate),
    /// A cost that bcrypt does not have: the default is taken.
    BcryptCost(u64),
    /// Parts of `--auth-token` that mean nothing.
    UnknownTokenOptions(Vec<String>),
    /// Reads that say nothing may see less than all.
    WeakReads(String),
}

impl Warning {
    pub fn level(&self) -> Level {
        if matches!(self, Warning::FileLoaded(_)) { Level::Info } else { Level::Warn }
    }

    /// The flag, variable, key or URL that it is about.
    pub fn about(&self) -> String {
        match self {
            Warning::FileLoaded(path) => path.clone(),
            Warning::UnknownKey(what) | Warning::UnknownVariable(what) => what.clone(),
            Warning::TlsUnused(what) | Warning::WeakReads(what) => what.clone(),
            Warning::NoEffect(flag) | Warning::Obsolete(flag) | Warning::AutoTlsUnused(flag) => {
                format!("--{flag}")
            }
            Warning::Renamed { from, .. } => format!("--{from}"),
            Warning::GateNoEffect(gate) => format!("--feature-gates {}", gate.name()),
            Warning::BcryptCost(cost) => format!("--bcrypt-cost {cost}"),
            Warning::UnknownTokenOptions(options) => format!("--auth-token {}", options.join(" ")),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::FileLoaded(_) => f.write_str(
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided",
            ),
            Warning::UnknownKey(_) => f.write_str("unrecognized key in the configuration file"),
            Warning::NoEffect(_) => f.write_str("flag has no effect here"),
            Warning::Obsolete(_) => f.write_str("flag is no longer supported - ignoring"),
            Warning::Renamed { from, to } => {
                write!(f, "--{from} was removed from etcd; it is taken for {to}")
            }
            Warning::UnknownVariable(_) => f.write_str("unrecognized environment variable"),
            Warning::TlsUnused(_) => f.write_str(
                "the scheme of a URL is HTTP while TLS is configured; the URL is served without TLS",
            ),
            Warning::AutoTlsUnused(_) => {
                f.write_str("ignoring automatic TLS since certificate files are given")
            }
            Warning::GateNoEffect(_) => f.write_str("feature gate has no effect here"),
            Warning::BcryptCost(_) => {
                f.write_str("use default bcrypt cost instead of the invalid given cost")
            }
            Warning::UnknownTokenOptions(_) => f.write_str("unknown JWT options"),
            Warning::WeakReads(_) => f.write_str(
                "reads may be answered with what is no longer the newest; kube-apiserver needs \
                 strong",
            ),
        }
    }
}
