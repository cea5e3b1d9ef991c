//! What certificates and public keys say.

use rustls::{
    ServerConnection,
    pki_types::pem::{PemObject, SectionKind},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, x509::SubjectPublicKeyInfo};

/// A public key as it stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub kind: KeyKind,
    /// `RSAPublicKey` in DER, a point of a curve, or the key itself.
    pub bits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Rsa,
    Ecdsa,
    Ed25519,
}

/// The name in the certificate that a client has shown and that has been verified; empty when it
/// has none. `None` when the client has shown no certificate.
pub fn common_name(connection: &ServerConnection) -> Option<String> {
    let certificate = connection.peer_certificates()?.first()?;
    Some(subject_name(certificate).unwrap_or_default())
}

/// As in Go, of several names the last one counts.
pub(crate) fn subject_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    Some(name.as_str().ok()?.to_owned())
}

/// The public key in a PEM file, where it stands bare or in a certificate.
pub fn public_key(pem: &[u8]) -> Option<PublicKey> {
    let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem).ok()?;
    match kind {
        SectionKind::Certificate => of_info(X509Certificate::from_der(&der).ok()?.1.public_key()),
        SectionKind::PublicKey => of_info(&SubjectPublicKeyInfo::from_der(&der).ok()?.1),
        _ => None,
    }
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Option<PublicKey> {
    let kind = match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => KeyKind::Rsa,
        "1.2.840.10045.2.1" => KeyKind::Ecdsa,
        "1.3.101.112" => KeyKind::Ed25519,
        _ => return None,
    };
    Some(PublicKey { kind, bits: info.subject_public_key.data.to_vec() })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    #[test]
    fn the_last_common_name_is_the_users() {
        for (names, expected) in [(&["u"][..], Some("u")), (&["u", "v"], Some("v")), (&[], None)] {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "o");
            for name in names {
                params.distinguished_name.push(DnType::CommonName, *name);
            }
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(subject_name(certificate.der()).as_deref(), expected);
        }
        assert_eq!(subject_name(b"no certificate"), None);
    }

    #[test]
    fn a_public_key_stands_bare_or_in_a_certificate() {
        for (algorithm, kind) in
            [(&PKCS_ECDSA_P256_SHA256, KeyKind::Ecdsa), (&PKCS_ED25519, KeyKind::Ed25519)]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let bare = public_key(key.public_key_pem().as_bytes()).unwrap();
            assert_eq!(bare.kind, kind);
            assert_eq!(bare.bits, key.public_key_raw());
            assert_eq!(public_key(certificate.pem().as_bytes()), Some(bare));
            assert_eq!(public_key(key.serialize_pem().as_bytes()), None);
        }
        assert_eq!(public_key(b""), None);
    }
}
