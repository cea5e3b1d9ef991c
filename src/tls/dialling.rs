//! TLS towards a server that is no member of ours.

use std::sync::Arc;

use rustls::ClientConfig;

use super::{Error, Pair, Trust, anybody, provider, read};

/// How to connect to a server, by the flags that say so.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialling {
    /// What is shown to the server, if anything.
    pub shown: Option<Pair>,
    pub trust: Trust,
    /// For messages.
    pub flags: DiallingFlags,
}

/// The flags that named the files, without their dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiallingFlags {
    pub cert: &'static str,
    pub key: &'static str,
    pub trusted_ca: &'static str,
}

impl Dialling {
    /// For gRPC, which is named in the handshake.
    ///
    /// # Errors
    /// Names the flag and the file that cannot be used.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let flags = self.flags;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &self.trust {
            Trust::File(path) => {
                builder.with_root_certificates(read::authorities(flags.trusted_ca, path)?)
            }
            Trust::System => {
                builder.with_root_certificates(read::system_authorities(flags.trusted_ca)?)
            }
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(anybody::Accept::new(provider()))),
        };
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let (chain, key) = read::pair(flags.cert, flags.key, pair)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| Error::Content {
                    flag: flags.cert,
                    path: pair.cert.clone(),
                    what: format!("{error} (--{} {})", flags.key, pair.key.display()),
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
