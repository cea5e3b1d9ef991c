//! What stands in a certificate.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// Where its owner is found, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Vec<String>,
}

/// `None` when it cannot be read.
pub(crate) fn hosts(certificate: &CertificateDer<'_>) -> Option<Hosts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut hosts = Hosts::default();
    let Some(extension) = parsed.subject_alternative_name().ok()? else { return Some(hosts) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => hosts.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => hosts.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Some(hosts)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
