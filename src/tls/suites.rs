//! Cipher suites by the names that Go has for them.

use rustls::{CipherSuite, SupportedCipherSuite, crypto::ring::ALL_CIPHER_SUITES};

/// Names of suites as Go and etcd have them. Those without forward secrecy or authenticated
/// encryption, which Go calls insecure, are not in the library used here.
const NAMES: [(&str, CipherSuite); 11] = [
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    // etcd's own, shorter names.
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Which suites are offered for TLS 1.2; none means all. As in Go, those of TLS 1.3 are not chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suites(Vec<CipherSuite>);

impl Suites {
    /// # Errors
    /// The name that stands for no suite here.
    pub fn parse(names: &[String]) -> Result<Suites, String> {
        let suite = |name: &String| {
            let known = NAMES.iter().find(|(known, _)| known == name);
            known.map(|(_, suite)| *suite).ok_or_else(|| name.clone())
        };
        names.iter().map(suite).collect::<Result<_, _>>().map(Suites)
    }

    /// In the order given, after those of TLS 1.3.
    pub(crate) fn supported(&self) -> Vec<SupportedCipherSuite> {
        if self.0.is_empty() {
            return ALL_CIPHER_SUITES.to_vec();
        }
        let of_13 = ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some());
        let named = self.0.iter().flat_map(|suite| {
            ALL_CIPHER_SUITES.iter().filter(move |known| known.suite() == *suite)
        });
        let of_12 = named.filter(|suite| suite.tls13().is_none());
        of_13.chain(of_12).copied().collect()
    }
}
