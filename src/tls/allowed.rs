//! Whom a certificate must name, beyond being signed by the right authority.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::x509;

/// Which certificates of the trusted authority are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    #[default]
    All,
    /// Those with one of these common names.
    Names(Vec<String>),
    /// Those that are valid for one of these host names or addresses.
    Hosts(Vec<String>),
}

impl Allowed {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let is_allowed = match self {
            Allowed::All => true,
            Allowed::Names(names) => {
                x509::subject_name(certificate).is_some_and(|name| names.contains(&name))
            }
            Allowed::Hosts(hosts) => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                hosts.iter().any(|host| is_valid_for(&parsed, host))
            }
        };
        if is_allowed {
            return Ok(());
        }
        Err(Error::General(NOT_ALLOWED.to_owned()))
    }
}

/// Whether a certificate is for this host name or address.
pub(crate) fn is_valid_for(certificate: &ParsedCertificate<'_>, host: &str) -> bool {
    ServerName::try_from(host).is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
}

/// In etcd's words.
const NOT_ALLOWED: &str = "client certificate authentication failed";

/// Checks the names after all that the verifier checks.
#[derive(Debug)]
pub(crate) struct Checked<V: ?Sized> {
    pub(crate) allowed: Allowed,
    pub(crate) verifier: Arc<V>,
}

impl ClientCertVerifier for Checked<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(certificate, intermediates, now)?;
        self.allowed.check(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Checked<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = &self.verifier;
        let verified =
            verifier.verify_server_cert(certificate, intermediates, name, stapled, now)?;
        self.allowed.check(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
