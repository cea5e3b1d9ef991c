//! Reading the keys that tokens are signed with.

use std::sync::Arc;

use crate::{
    config::{Auth, AuthToken, Config},
    node::credentials::{Jwt, JwtError, JwtFiles, Options, TokenKind},
    tls,
};

/// What the flags say about credentials, with the keys that they name.
pub(super) fn load(config: &Config) -> Result<Options, JwtError> {
    let Auth { token, bcrypt_cost } = config.auth.clone();
    let tokens = match token {
        AuthToken::None => TokenKind::None,
        AuthToken::Simple { ttl } => TokenKind::Simple { ttl },
        AuthToken::Jwt { sign_method, public_key, private_key, ttl } => {
            let files = JwtFiles { sign_method, public_key, private_key, ttl };
            TokenKind::Jwt(Arc::new(Jwt::load(&files)?))
        }
    };
    let by_common_name = match &config.clients.tls {
        tls::Source::Files(files) => files.client_cert_auth,
        tls::Source::None | tls::Source::Automatic { .. } => false,
    };
    Ok(Options { tokens, bcrypt_cost, by_common_name })
}
