//! Keys that tokens are signed and checked with, from the files that etcd reads.

use std::{fmt, fs, path::PathBuf};

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding,
        RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

use super::{Error, Files};
use crate::tls::{self, KeyKind};

/// An algorithm by which tokens are signed.
#[derive(Clone, Copy)]
pub(super) struct Method {
    name: &'static str,
    family: Family,
}

#[derive(Clone, Copy)]
enum Family {
    Hmac(hmac::Algorithm),
    Rsa { sign: &'static dyn RsaEncoding, verify: &'static dyn VerificationAlgorithm },
    Ecdsa { sign: &'static EcdsaSigningAlgorithm, verify: &'static dyn VerificationAlgorithm },
    Ed25519,
}

const METHODS: &[Method] = &[
    hmac("HS256", hmac::HMAC_SHA256),
    hmac("HS384", hmac::HMAC_SHA384),
    hmac("HS512", hmac::HMAC_SHA512),
    rsa("RS256", &signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    ecdsa(
        "ES256",
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &signature::ECDSA_P256_SHA256_FIXED,
    ),
    ecdsa(
        "ES384",
        &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        &signature::ECDSA_P384_SHA384_FIXED,
    ),
    Method { name: "EdDSA", family: Family::Ed25519 },
];

/// What etcd takes and ring has no curve for.
const NOT_SUPPORTED: &[&str] = &["ES512", "none"];

const fn hmac(name: &'static str, algorithm: hmac::Algorithm) -> Method {
    Method { name, family: Family::Hmac(algorithm) }
}

const fn rsa(
    name: &'static str,
    sign: &'static dyn RsaEncoding,
    verify: &'static dyn VerificationAlgorithm,
) -> Method {
    Method { name, family: Family::Rsa { sign, verify } }
}

const fn ecdsa(
    name: &'static str,
    sign: &'static EcdsaSigningAlgorithm,
    verify: &'static dyn VerificationAlgorithm,
) -> Method {
    Method { name, family: Family::Ecdsa { sign, verify } }
}

impl Method {
    pub(super) fn named(name: &str) -> Result<Method, Error> {
        if NOT_SUPPORTED.contains(&name) {
            return Err(Error::NotSupported(name.to_owned()));
        }
        let method = METHODS.iter().find(|method| method.name == name);
        method.copied().ok_or_else(|| Error::UnknownMethod(name.to_owned()))
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub(super) enum Key {
    Secret(hmac::Key),
    Pair {
        /// `None` for a member that only checks tokens.
        private: Option<Private>,
        public: Vec<u8>,
        verify: &'static dyn VerificationAlgorithm,
    },
}

pub(super) enum Private {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Says nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn load(method: Method, files: &Files) -> Result<Key, Error> {
        let read = |path: &Option<PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            match fs::read(path) {
                // As in etcd, an empty file is none.
                Ok(content) if content.is_empty() => Ok(None),
                Ok(content) => Ok(Some((path.clone(), content))),
                Err(error) => Err(Error::Read { path: path.clone(), error }),
            }
        };
        let (private, public) = (read(&files.private_key)?, read(&files.public_key)?);
        let (verify, kind) = match method.family {
            Family::Hmac(algorithm) => {
                let (_, secret) = private.ok_or(Error::MissingKey)?;
                return Ok(Key::Secret(hmac::Key::new(algorithm, &secret)));
            }
            Family::Rsa { verify, .. } => (verify, KeyKind::Rsa),
            Family::Ecdsa { verify, .. } => (verify, KeyKind::Ecdsa),
            Family::Ed25519 => {
                (&signature::ED25519 as &dyn VerificationAlgorithm, KeyKind::Ed25519)
            }
        };
        let unfit = |path| Error::Key { path, method: method.name.to_owned() };
        let private = match private {
            None => None,
            Some((path, content)) => {
                Some(Private::read(method.family, &content).ok_or_else(|| unfit(path))?)
            }
        };
        let public = match public {
            None => None,
            Some((path, content)) => {
                let public = tls::public_key(&content).filter(|public| public.kind == kind);
                Some(public.ok_or_else(|| unfit(path))?.bits)
            }
        };
        let of_private = private.as_ref().map(Private::public);
        let public = match (of_private, public) {
            (None, None) => return Err(Error::MissingKey),
            (Some(own), Some(given)) if own != given => return Err(Error::KeyMismatch),
            (Some(public), _) | (None, Some(public)) => public,
        };
        Ok(Key::Pair { private, public, verify })
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Key::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Key::Pair { private, .. } => private.as_ref()?.sign(message),
        }
    }

    /// `None` for a signature that is none.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        match self {
            Key::Secret(key) => hmac::verify(key, message, signature).ok(),
            Key::Pair { public, verify, .. } => {
                UnparsedPublicKey::new(*verify, public).verify(message, signature).ok()
            }
        }
    }
}

impl Private {
    fn read(family: Family, pem: &[u8]) -> Option<Private> {
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        match family {
            Family::Rsa { sign, .. } => {
                let pair = match &key {
                    PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(key.secret_der()),
                    _ => RsaKeyPair::from_pkcs8(key.secret_der()),
                };
                Some(Private::Rsa(Box::new(pair.ok()?), sign))
            }
            Family::Ecdsa { sign, .. } => {
                let wrapped = match &key {
                    PrivateKeyDer::Sec1(_) => pkcs8_of_sec1(key.secret_der()),
                    _ => key.secret_der().to_vec(),
                };
                let pair = EcdsaKeyPair::from_pkcs8(sign, &wrapped, &SystemRandom::new());
                Some(Private::Ecdsa(pair.ok()?))
            }
            Family::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der());
                Some(Private::Ed25519(pair.ok()?))
            }
            Family::Hmac(_) => None,
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Private::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Private::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Private::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Private::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Private::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Private::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// A key as older tools write it, in the envelope that ring reads. The curve stands inside as well,
/// where it is checked.
fn pkcs8_of_sec1(key: &[u8]) -> Vec<u8> {
    // The version, and "elliptic curve" with the curve that the key names itself.
    const VERSION: &[u8] = &[0x02, 0x01, 0x00];
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
    let curve = named_curve(key).unwrap_or_default();
    let algorithm = der(0x30, &[EC_PUBLIC_KEY, curve].concat());
    der(0x30, &[VERSION, &algorithm, &der(0x04, key)].concat())
}

/// The object identifier of the curve in an `ECPrivateKey`, which stands in a field with tag 0.
fn named_curve(key: &[u8]) -> Option<&[u8]> {
    const CURVES: [&[u8]; 2] = [
        &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07],
        &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22],
    ];
    CURVES.into_iter().find(|curve| key.windows(curve.len()).any(|bytes| bytes == *curve))
}

/// One value in DER, of at most 65535 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..0x80) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}
