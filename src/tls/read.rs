//! Certificates, keys and revocation lists out of files.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
};

use super::{Error, Pair};

/// Where operating systems keep the authorities they know, in the order in which Go looks.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(crate) fn pair(
    cert_flag: &'static str,
    key_flag: &'static str,
    pair: &Pair,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(cert_flag, &pair.cert)?;
    let bytes = bytes(key_flag, &pair.key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| content(key_flag, &pair.key, format!("holds no private key ({error})")))?;
    Ok((chain, key))
}

pub(crate) fn authorities(flag: &'static str, path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        roots.add(certificate).map_err(|error| content(flag, path, error.to_string()))?;
    }
    Ok(roots)
}

pub(crate) fn system_authorities(flag: &'static str) -> Result<RootCertStore, Error> {
    let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let bundle = bundle.ok_or(Error::NoSystemAuthorities { flag })?;
    let mut roots = RootCertStore::empty();
    // Bundles hold certificates of all ages; one that cannot be read is one that is not trusted.
    roots.add_parsable_certificates(certificates(flag, bundle)?);
    if roots.is_empty() { Err(Error::NoSystemAuthorities { flag }) } else { Ok(roots) }
}

/// etcd reads DER here; what comes as PEM is taken too.
pub(crate) fn revoked(
    flag: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let bytes = bytes(flag, path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(lists) if lists.is_empty() => Ok(vec![CertificateRevocationListDer::from(bytes)]),
        Ok(lists) => Ok(lists),
        Err(error) => Err(content(flag, path, error.to_string())),
    }
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = bytes(flag, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(content(flag, path, "holds no certificate".to_owned()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(content(flag, path, error.to_string())),
    }
}

fn bytes(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error: io::Error| Error::Read {
        flag,
        path: PathBuf::from(path),
        error,
    })
}

/// What the operating system says, without its number and as a part of a sentence.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    first.to_lowercase() + rest
}

fn content(flag: &'static str, path: &Path, what: String) -> Error {
    Error::Content { flag, path: PathBuf::from(path), what }
}
