//! From files to what a handshake goes by.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::CertificateRevocationListDer,
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{Allowed, Error, Files, Protocol, Trust, allowed::Checked, anybody, read};

fn provider(protocol: &Protocol) -> Arc<CryptoProvider> {
    let cipher_suites = protocol.suites.supported();
    Arc::new(CryptoProvider { cipher_suites, ..(*super::provider()).clone() })
}

pub(crate) fn server_config(files: &Files) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider(&files.protocol))
        .with_protocol_versions(&files.protocol.versions.supported())?;
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    // Of no use to a server that dials nobody, but wrong is wrong.
    if let Some(dialling) = &files.dialling {
        read::pair(files.flags.client_cert, files.flags.client_key, dialling)?;
    }
    let (chain, key) = read::pair(files.flags.cert, files.flags.key, &files.shown)?;
    builder.with_single_cert(chain, key).map_err(|error| Error::Content {
        flag: files.flags.cert,
        path: files.shown.cert.clone(),
        what: format!("{error} (--{} {})", files.flags.key, files.shown.key.display()),
    })
}

pub(crate) fn client_config(files: &Files) -> Result<ClientConfig, Error> {
    let provider = provider(&files.protocol);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&files.protocol.versions.supported())?;
    let verifier: Arc<dyn ServerCertVerifier> = match files.trust {
        Trust::File(_) | Trust::System => server_verifier(files, provider)?,
        Trust::Anybody => Arc::new(anybody::Accept::new(provider)),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
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

/// Naming an authority is asking for certificates, as in etcd.
fn client_verifier(files: &Files) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    match files.trust {
        Trust::System if files.client_cert_auth => {}
        Trust::File(_) => {}
        Trust::System | Trust::Anybody => return Ok(None),
    }
    let (roots, provider) = (Arc::new(authorities(files)?), provider(&files.protocol));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(revocation_lists(files)?)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| bad_verifier(files, &error))?;
    Ok(Some(match &files.allowed {
        Allowed::All => verifier,
        allowed => Arc::new(Checked { allowed: allowed.clone(), verifier }),
    }))
}

/// What holds for who comes in holds for whom we go to: etcd checks both by the same lists.
fn server_verifier(
    files: &Files,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let roots = Arc::new(authorities(files)?);
    let verifier: Arc<dyn ServerCertVerifier> =
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .with_crls(revocation_lists(files)?)
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| bad_verifier(files, &error))?;
    Ok(match &files.allowed {
        Allowed::All => verifier,
        allowed => Arc::new(Checked { allowed: allowed.clone(), verifier }),
    })
}

fn bad_verifier(files: &Files, error: &VerifierBuilderError) -> Error {
    let (flag, path) = match (&files.revoked, &files.trust) {
        (Some(path), _) => (files.flags.revoked, path.clone()),
        (None, Trust::File(path)) => (files.flags.trusted_ca, path.clone()),
        (None, Trust::System | Trust::Anybody) => (files.flags.trusted_ca, PathBuf::new()),
    };
    Error::Content { flag, path, what: error.to_string() }
}

fn revocation_lists(files: &Files) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    match &files.revoked {
        Some(path) => read::revoked(files.flags.revoked, path),
        None => Ok(Vec::new()),
    }
}

fn authorities(files: &Files) -> Result<RootCertStore, Error> {
    match &files.trust {
        Trust::File(path) => read::authorities(files.flags.trusted_ca, path),
        Trust::System => read::system_authorities(files.flags.trusted_ca),
        Trust::Anybody => Ok(RootCertStore::empty()),
    }
}
