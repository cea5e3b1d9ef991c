//! Making certificates: one that signs itself, and an authority with those it signs.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
};

use super::{Error, Pair};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificates are valid from a while ago, so that a machine whose clock is behind accepts them.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// What a certificate may be shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    /// Peers dial each other, so theirs is shown both ways.
    Both,
}

/// Signs certificates for members and clients.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    years: u32,
    is_new: bool,
}

impl Authority {
    /// Takes `ca.crt` and `ca.key` of the directory; makes both if neither is there.
    pub fn open_or_make(dir: &Path, years: u32) -> Result<Authority, Error> {
        let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let is_new = !cert.exists() && !key.exists();
        if is_new {
            let key_pair = KeyPair::generate()?;
            let certificate = authority_params(years)?.self_signed(&key_pair)?;
            write(&key, &key_pair.serialize_pem(), 0o600)?;
            write(&cert, &certificate.pem(), 0o644)?;
        }
        let read = |path: &Path| {
            let path = path.to_owned();
            std::fs::read_to_string(&path).map_err(|error| Error::Write { path, error })
        };
        // The subject is the same for every authority made here, so the key is all that tells them
        // apart, and certificates name the authority by the hash of its key.
        let issuer = Issuer::new(authority_params(years)?, KeyPair::from_pem(&read(&key)?)?);
        Ok(Authority { certificate: read(&cert)?, issuer, years, is_new })
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Made just now, so nothing that is there already was signed by it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes `NAME.crt` and `NAME.key` into `dir`.
    pub fn issue(
        &self,
        dir: &Path,
        name: &str,
        hosts: &[String],
        usage: Usage,
    ) -> Result<Pair, Error> {
        self.issue_in_group(dir, name, hosts, usage, None)
    }

    /// The same with an organization, which Kubernetes takes for the group of a user.
    pub fn issue_in_group(
        &self,
        dir: &Path,
        name: &str,
        hosts: &[String],
        usage: Usage,
        group: Option<&str>,
    ) -> Result<Pair, Error> {
        let mut params = params(hosts, self.years, usage)?;
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair =
            Pair { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        write(&pair.key, &key.serialize_pem(), 0o600)?;
        write(&pair.cert, &certificate.pem(), 0o644)?;
        Ok(pair)
    }
}

/// Whether the first certificate of a PEM file is valid for all these hosts.
pub fn covers(cert: &Path, hosts: &[String]) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_file(cert) else { return false };
    let Ok(parsed) = ParsedCertificate::try_from(&certificate) else { return false };
    hosts.iter().all(|host| {
        // A wildcard covers itself if it covers a name that it stands for.
        ServerName::try_from(host.replacen("*.", "any.", 1))
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    })
}

/// `cert.pem` and `key.pem` under `dir`, made unless both are there.
pub(crate) fn self_signed(dir: &Path, hosts: &[String], years: u32) -> Result<Pair, Error> {
    let pair = Pair { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if pair.cert.exists() && pair.key.exists() {
        return Ok(pair);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::Write { path: dir.to_owned(), error })?;
    let key = KeyPair::generate()?;
    let mut params = params(hosts, years, Usage::Both)?;
    params.distinguished_name.push(DnType::OrganizationName, "orrery");
    let certificate = params.self_signed(&key)?;
    write(&pair.key, &key.serialize_pem(), 0o600)?;
    write(&pair.cert, &certificate.pem(), 0o644)?;
    Ok(pair)
}

fn params(hosts: &[String], years: u32, usage: Usage) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(hosts)?;
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + YEAR * years).into();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = match usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    Ok(params)
}

fn authority_params(years: u32) -> Result<CertificateParams, Error> {
    let mut params = params(&[], years, Usage::Both)?;
    params.distinguished_name.push(DnType::CommonName, "orrery authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = Vec::new();
    Ok(params)
}

/// Writes beside and renames, so that nobody reads half a file.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| Error::Write { path: path.to_owned(), error })
}
