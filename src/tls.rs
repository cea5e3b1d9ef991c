//! TLS for clients and peers: certificates from files, read again when the files change, or made on
//! the spot.

pub mod address;
mod allowed;
mod anybody;
mod belongs;
mod build;
mod certificate;
mod dialling;
mod make;
mod read;
mod reload;
mod suites;
mod x509;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider};

pub use allowed::Allowed;
pub use belongs::Mismatch;
use build::{client_config, server_config};
pub use dialling::{Dialling, DiallingFlags};
pub use make::{Authority, Usage, covers};
use reload::Reloading;
pub use suites::Suites;
pub use x509::{KeyKind, PublicKey, common_name, public_key};

/// Application protocols that the clients' listener offers: gRPC first, then plain HTTP.
pub const CLIENT_PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Where the certificates for one kind of connections come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// No TLS.
    None,
    Files(Box<Files>),
    /// Made by ourselves, under the data directory.
    Automatic {
        years: u32,
        protocol: Protocol,
    },
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// What is shown to whoever connects.
    pub shown: Pair,
    /// What is shown when connecting to others, if not the same.
    pub dialling: Option<Pair>,
    pub trust: Trust,
    /// Let nobody in without a certificate, even if no authority was named.
    pub client_cert_auth: bool,
    /// List of revoked certificates, DER or PEM.
    pub revoked: Option<PathBuf>,
    pub allowed: Allowed,
    /// Hold whoever comes in to the addresses and names in the certificate: [`address::check`].
    pub check_address: bool,
    pub protocol: Protocol,
    /// For messages.
    pub flags: FlagNames,
}

/// Whose certificates count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those signed by an authority in this file.
    File(PathBuf),
    /// Those signed by an authority that the operating system knows.
    System,
    /// All: connections are encrypted, and it is not known with whom.
    Anybody,
}

/// Which TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    pub versions: Versions,
    pub suites: Suites,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    #[default]
    Both,
    Only12,
    Only13,
}

/// The flags that named the files, without their dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagNames {
    pub cert: &'static str,
    pub key: &'static str,
    pub client_cert: &'static str,
    pub client_key: &'static str,
    pub trusted_ca: &'static str,
    pub client_cert_auth: &'static str,
    pub revoked: &'static str,
}

impl FlagNames {
    pub const CLIENTS: FlagNames = FlagNames {
        cert: "cert-file",
        key: "key-file",
        client_cert: "client-cert-file",
        client_key: "client-key-file",
        trusted_ca: "trusted-ca-file",
        client_cert_auth: "client-cert-auth",
        revoked: "client-crl-file",
    };
    pub const PEERS: FlagNames = FlagNames {
        cert: "peer-cert-file",
        key: "peer-key-file",
        client_cert: "peer-client-cert-file",
        client_key: "peer-client-key-file",
        trusted_ca: "peer-trusted-ca-file",
        client_cert_auth: "peer-client-cert-auth",
        revoked: "peer-crl-file",
    };
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In etcd's words.
    #[error("open {path}: {why}", path = path.display(), why = read::reason(error))]
    Read { flag: &'static str, path: PathBuf, error: std::io::Error },
    #[error("--{flag} {path}: {what}", path = path.display())]
    Content { flag: &'static str, path: PathBuf, what: String },
    #[error("--{flag}: no authority of the operating system was found; name one")]
    NoSystemAuthorities { flag: &'static str },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{path}: {error}", path = path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

impl Error {
    /// The flag that it is about, where the message does not name it.
    pub fn about(&self) -> Option<String> {
        match self {
            Error::Read { flag, .. } => Some(format!("--{flag}")),
            Error::Content { .. }
            | Error::NoSystemAuthorities { .. }
            | Error::Make(_)
            | Error::Write { .. }
            | Error::Refused(_) => None,
        }
    }
}

/// TLS for connections that come in. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<Reloading<ServerConfig>>);

impl ServerTls {
    /// `protocols` are offered by ALPN, the preferred one first.
    ///
    /// # Errors
    /// Names the flag and the file that cannot be used.
    pub fn load(files: &Files, protocols: &[&[u8]]) -> Result<ServerTls, Error> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let (mut paths, files) = (files.paths(&files.shown), files.clone());
        paths.extend(files.dialling.iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]));
        let build = move || {
            let mut config = server_config(&files)?;
            config.alpn_protocols.clone_from(&protocols);
            Ok(config)
        };
        Ok(ServerTls(Arc::new(Reloading::new(paths, Box::new(build))?)))
    }

    /// What the next handshake goes by: as the files are now, or were when they last made sense.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

/// TLS for connections to peers. Clones share it.
#[derive(Clone)]
pub struct ClientTls(Arc<Reloading<ClientConfig>>);

impl ClientTls {
    /// # Errors
    /// Names the flag and the file that cannot be used.
    pub fn load(files: &Files, protocols: &[&[u8]]) -> Result<ClientTls, Error> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let (paths, files) = (files.paths(files.dialled()), files.clone());
        let build = move || {
            let mut config = client_config(&files)?;
            config.alpn_protocols.clone_from(&protocols);
            Ok(config)
        };
        Ok(ClientTls(Arc::new(Reloading::new(paths, Box::new(build))?)))
    }

    /// What the next handshake goes by: as the files are now, or were when they last made sense.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.0.current()
    }
}

impl Files {
    /// Certificate and key under `dir`, made for these hosts unless they are there from before.
    /// Peers that use such certificates do not check each other, as in etcd.
    pub fn automatic(
        dir: &Path,
        hosts: &[String],
        years: u32,
        protocol: Protocol,
        flags: FlagNames,
    ) -> Result<Files, Error> {
        let shown = make::self_signed(dir, hosts, years)?;
        Ok(Files {
            shown,
            dialling: None,
            trust: Trust::Anybody,
            client_cert_auth: false,
            revoked: None,
            allowed: Allowed::All,
            check_address: false,
            protocol,
            flags,
        })
    }

    pub(crate) fn dialled(&self) -> &Pair {
        self.dialling.as_ref().unwrap_or(&self.shown)
    }

    fn paths(&self, pair: &Pair) -> Vec<PathBuf> {
        let mut paths = vec![pair.cert.clone(), pair.key.clone()];
        if let Trust::File(path) = &self.trust {
            paths.push(path.clone());
        }
        paths.extend(self.revoked.clone());
        paths
    }
}

impl Versions {
    pub(crate) fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Versions::Both => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            Versions::Only12 => vec![&rustls::version::TLS12],
            Versions::Only13 => vec![&rustls::version::TLS13],
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
