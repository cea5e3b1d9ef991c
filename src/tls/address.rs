//! Whether a member connects from where its certificate says that it is.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

use super::certificate;

/// In etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    #[error("tls: a certificate that cannot be read")]
    Unreadable,
    #[error("x509: certificate is valid for {valid}, not {from}")]
    Address { valid: String, from: IpAddr },
    #[error("tls: \"{from}\" does not match any of DNSNames {names:?}")]
    Name { names: Vec<String>, from: IpAddr },
}

/// How names become addresses and addresses names.
pub(crate) trait Resolver {
    fn addresses(&self, name: &str) -> impl Future<Output = Vec<IpAddr>> + Send;
    fn names(&self, address: IpAddr) -> impl Future<Output = Vec<String>> + Send;
}

/// The operating system's.
pub(crate) struct System;

impl Resolver for System {
    async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let found = tokio::net::lookup_host((name, 0)).await;
        found.into_iter().flatten().map(|found| found.ip()).collect()
    }

    async fn names(&self, address: IpAddr) -> Vec<String> {
        let lookup = move || dns_lookup::lookup_addr(&address);
        let found = tokio::task::spawn_blocking(lookup).await;
        found.into_iter().flatten().collect()
    }
}

/// A certificate that names no host is good from anywhere, and one that names some only from these,
/// as in etcd: by address, by the names that the address has, or by the addresses that the names
/// have.
///
/// # Errors
/// Says what the certificate is valid for.
pub async fn check(certificate: &CertificateDer<'_>, from: IpAddr) -> Result<(), Elsewhere> {
    check_with(&System, certificate, from).await
}

async fn check_with(
    resolver: &impl Resolver,
    certificate: &CertificateDer<'_>,
    from: IpAddr,
) -> Result<(), Elsewhere> {
    let hosts = certificate::hosts(certificate).ok_or(Elsewhere::Unreadable)?;
    let from = from.to_canonical();
    if hosts.addresses.contains(&from) || hosts.addresses.is_empty() && hosts.names.is_empty() {
        return Ok(());
    }
    if hosts.names.is_empty() {
        let valid: Vec<String> = hosts.addresses.iter().map(IpAddr::to_string).collect();
        return Err(Elsewhere::Address { valid: valid.join(", "), from });
    }
    let is_of = |name: &str| {
        let name = name.strip_suffix('.').unwrap_or(name);
        hosts.names.iter().any(|known| match known.strip_prefix('*') {
            Some(ending) if ending.starts_with('.') => name.ends_with(ending),
            _ => known == name,
        })
    };
    if resolver.names(from).await.iter().any(|name| is_of(name)) {
        return Ok(());
    }
    for name in hosts.names.iter().filter(|name| !name.starts_with("*.")) {
        let addresses = resolver.addresses(name).await;
        if addresses.iter().any(|address| address.to_canonical() == from) {
            return Ok(());
        }
    }
    Err(Elsewhere::Name { names: hosts.names, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows `known.example` at 10.0.0.1, and that 10.0.0.2 is `pod.deep.example`.
    struct Few;

    impl Resolver for Few {
        async fn addresses(&self, name: &str) -> Vec<IpAddr> {
            let found = (name == "known.example").then(|| IpAddr::from([10, 0, 0, 1]));
            found.into_iter().collect()
        }

        async fn names(&self, address: IpAddr) -> Vec<String> {
            let found = address == IpAddr::from([10, 0, 0, 2]);
            found.then(|| "pod.deep.example.".to_owned()).into_iter().collect()
        }
    }

    fn certificate(hosts: &[&str]) -> CertificateDer<'static> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = rcgen::CertificateParams::new(hosts).unwrap();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[track_caller]
    fn judged(hosts: &[&str], from: [u8; 4], refused: Option<&str>) {
        let certificate = certificate(hosts);
        let check = check_with(&Few, &certificate, IpAddr::from(from));
        let outcome = futures::executor::block_on(check);
        assert_eq!(outcome.err().map(|it| it.to_string()).as_deref(), refused, "{hosts:?}");
    }

    #[test]
    fn a_member_must_connect_from_where_its_certificate_says() {
        judged(&[], [10, 9, 9, 9], None);
        judged(&["10.0.0.1", "10.0.0.3"], [10, 0, 0, 3], None);
        let words = "x509: certificate is valid for 10.0.0.1, not 10.0.0.3";
        judged(&["10.0.0.1"], [10, 0, 0, 3], Some(words));
        judged(&["10.0.0.9", "known.example"], [10, 0, 0, 1], None);
        judged(&["*.deep.example"], [10, 0, 0, 2], None);
        judged(&["pod.deep.example"], [10, 0, 0, 2], None);
        let words =
            r#"tls: "10.0.0.3" does not match any of DNSNames ["*.deep.example", "known.example"]"#;
        judged(&["*.deep.example", "known.example"], [10, 0, 0, 3], Some(words));
    }
}
