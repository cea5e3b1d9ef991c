//! TLS for clients and peers: certificates from files, read again when the files change, or made on
//! the spot.

mod anybody;
mod dialling;
mod make;
mod read;
mod reload;
mod x509;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

pub use dialling::{Dialling, DiallingFlags};
pub use make::{Authority, Usage, covers};
use reload::Reloading;
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
        versions: Versions,
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
    pub versions: Versions,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
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
    #[error("--{flag} {path}: {error}", path = path.display())]
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
        let (paths, files) = (files.paths(&files.shown), files.clone());
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
        versions: Versions,
        flags: FlagNames,
    ) -> Result<Files, Error> {
        let shown = make::self_signed(dir, hosts, years)?;
        Ok(Files {
            shown,
            dialling: None,
            trust: Trust::Anybody,
            client_cert_auth: false,
            revoked: None,
            versions,
            flags,
        })
    }

    fn dialled(&self) -> &Pair {
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

    fn authorities(&self) -> Result<RootCertStore, Error> {
        match &self.trust {
            Trust::File(path) => read::authorities(self.flags.trusted_ca, path),
            Trust::System => read::system_authorities(self.flags.trusted_ca),
            Trust::Anybody => Ok(RootCertStore::empty()),
        }
    }
}

impl Versions {
    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
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

fn server_config(files: &Files) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&files.versions.supported())?;
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = read::pair(files.flags.cert, files.flags.key, &files.shown)?;
    builder.with_single_cert(chain, key).map_err(|error| Error::Content {
        flag: files.flags.cert,
        path: files.shown.cert.clone(),
        what: format!("{error} (--{} {})", files.flags.key, files.shown.key.display()),
    })
}

/// Naming an authority is asking for certificates, as in etcd.
fn client_verifier(files: &Files) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    match files.trust {
        Trust::System if files.client_cert_auth => (),
        Trust::File(_) => (),
        Trust::System | Trust::Anybody => return Ok(None),
    }
    let roots = Arc::new(files.authorities()?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if let Some(path) = &files.revoked {
        let lists = read::revoked(files.flags.revoked, path)?;
        builder = builder
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status();
    }
    let verifier = builder.build().map_err(|error| {
        let (flag, path) = match (&files.revoked, &files.trust) {
            (Some(path), _) => (files.flags.revoked, path.clone()),
            (None, Trust::File(path)) => (files.flags.trusted_ca, path.clone()),
            (None, Trust::System | Trust::Anybody) => (files.flags.trusted_ca, PathBuf::new()),
        };
        Error::Content { flag, path, what: error.to_string() }
    })?;
    Ok(Some(verifier))
}

fn client_config(files: &Files) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&files.versions.supported())?;
    let builder = match files.trust {
        Trust::File(_) | Trust::System => builder.with_root_certificates(files.authorities()?),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anybody::Accept::new(provider()))),
    };
    let pair = files.dialled();
    let (cert_flag, key_flag) = match files.dialling {
        Some(_) => (files.flags.client_cert, files.flags.client_key),
        None => (files.flags.cert, files.flags.key),
    };
    let (chain, key) = read::pair(cert_flag, key_flag, pair)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| Error::Content {
        flag: cert_flag,
        path: pair.cert.clone(),
        what: format!("{error} (--{key_flag} {})", pair.key.display()),
    })
}

#[cfg(test)]
mod tests;
