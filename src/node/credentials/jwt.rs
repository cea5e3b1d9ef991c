//! JSON Web Tokens: signed names, good at every member that has the key.
//!
//! Only the framing is ours, for the one algorithm that the flag names: whatever a token says of
//! itself, it is checked by no other. Signatures are ring's.

mod key;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use self::key::{Key, Method};

/// Where the keys are, and how tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// As `--auth-token` names it: RS256, PS512, ES384, HS256, EdDSA and so on.
    pub sign_method: String,
    pub public_key: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub ttl: Duration,
}

/// In etcd's words, where it has any.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("auth: invalid auth options")]
    UnknownMethod(String),
    #[error("auth: sign-method {0} is not supported")]
    NotSupported(String),
    #[error("auth: missing key data")]
    MissingKey,
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
    #[error("auth: invalid auth options")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("auth: {path} holds no key for sign-method {method}", path = path.display())]
    Key { path: PathBuf, method: String },
}

impl Error {
    /// What is wrong, where etcd's words do not say it.
    pub fn about(&self) -> Option<String> {
        match self {
            Error::UnknownMethod(method) => Some(format!("unknown sign-method {method:?}")),
            Error::Read { path, error } => Some(format!("{}: {error}", path.display())),
            Error::NotSupported(_) | Error::MissingKey | Error::KeyMismatch | Error::Key { .. } => {
                None
            }
        }
    }
}

/// Makes tokens, unless there is a public key alone, and checks them.
#[derive(Debug)]
pub struct Jwt {
    method: Method,
    key: Key,
    ttl: Duration,
}

impl Jwt {
    /// # Errors
    /// Names what can't be read or does not fit.
    pub fn load(files: &Files) -> Result<Jwt, Error> {
        let method = Method::named(&files.sign_method)?;
        Ok(Jwt { method, key: Key::load(method, files)?, ttl: files.ttl })
    }

    /// `None` when there is no key to sign with.
    pub(super) fn sign(&self, user: &str, auth_revision: u64) -> Option<String> {
        let header = json!({ "alg": self.method.name(), "typ": "JWT" });
        let expires = unix_now().saturating_add(self.ttl).as_secs();
        let claims = json!({ "username": user, "revision": auth_revision, "exp": expires });
        let mut token = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// The user and its auth revision, if this token is valid now.
    pub(super) fn verify(&self, token: &str) -> Option<(String, u64)> {
        self.verify_at(token, unix_now())
    }

    fn verify_at(&self, token: &str, now: Duration) -> Option<(String, u64)> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let algorithm = decode(header)?.remove("alg")?;
        if algorithm != self.method.name() {
            return None;
        }
        self.key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)?;
        let mut claims = decode(claims)?;
        // A time is a number of seconds; a token without one has no such limit.
        let time = |name| claims.get(name).map(|value| value.as_f64());
        let now = now.as_secs_f64();
        let is_in_time = time("exp").is_none_or(|ends| ends.is_some_and(|ends| now < ends))
            && time("nbf").is_none_or(|begins| begins.is_some_and(|begins| now >= begins));
        if !is_in_time {
            return None;
        }
        let auth_revision = claims.get("revision").and_then(whole)?;
        match claims.remove("username")? {
            Value::String(user) => Some((user, auth_revision)),
            _ => None,
        }
    }
}

/// Numbers of other programs may be written with a fraction of zero.
fn whole(number: &Value) -> Option<u64> {
    let fraction = || number.as_f64().filter(|number| (0.0..9e15).contains(number));
    number.as_u64().or_else(|| fraction().map(|number| number as u64))
}

fn unix_now() -> Duration {
    // A clock before 1970 makes every token of any other clock end later.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn decode(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests;
