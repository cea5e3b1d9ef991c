//! Whether a certificate, its key and an authority belong together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::UnixTime,
    server::{ParsedCertificate, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{Error, Pair, Usage, provider, read};

/// What is wrong with files that were made together.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error(transparent)]
    Unreadable(#[from] Error),
    #[error("{key} is not the key of {cert}", key = .0.key.display(), cert = .0.cert.display())]
    Key(Pair),
    #[error(
        "{cert} does not come from {authority}: {why}",
        cert = pair.cert.display(),
        authority = authority.display()
    )]
    Authority { pair: Pair, authority: PathBuf, why: String },
}

impl Pair {
    /// Whether the key is the certificate's and the certificate is the authority's, valid now for
    /// that use.
    ///
    /// # Errors
    /// Names the files that do not go together.
    pub fn belongs_to(&self, authority: &Path, usage: Usage) -> Result<(), Mismatch> {
        let provider = provider();
        let (chain, key) = read::pair("cert", "key", self)?;
        CertifiedKey::from_der(chain.clone(), key, &provider)
            .map_err(|_| Mismatch::Key(self.clone()))?;
        let roots = Arc::new(read::authorities("cacert", authority)?);
        let foreign = |why: String| {
            let (pair, authority) = (self.clone(), authority.to_owned());
            Mismatch::Authority { pair, authority, why }
        };
        let refused = |error: rustls::Error| foreign(error.to_string());
        let (Some(first), now) = (chain.first(), UnixTime::now()) else { return Ok(()) };
        if matches!(usage, Usage::Server | Usage::Both) {
            let parsed = ParsedCertificate::try_from(first).map_err(refused)?;
            let algorithms = provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &roots,
                &chain[1..],
                now,
                algorithms,
            )
            .map_err(refused)?;
        }
        if matches!(usage, Usage::Client | Usage::Both) {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| foreign(error.to_string()))?;
            verifier.verify_client_cert(first, &chain[1..], now).map_err(refused)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::tls::Authority;

    #[test]
    fn files_that_were_not_made_together_are_found_out() {
        let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for folder in [&one, &two] {
            let authority = Authority::open_or_make(folder.path(), 1).unwrap();
            for (name, usage) in
                [("server", Usage::Server), ("client", Usage::Client), ("both", Usage::Both)]
            {
                authority.issue(folder.path(), name, &["m1".to_owned()], usage).unwrap();
            }
        }
        let pair = |folder: &TempDir, cert: &str, key: &str| Pair {
            cert: folder.path().join(format!("{cert}.crt")),
            key: folder.path().join(format!("{key}.key")),
        };
        #[track_caller]
        fn check(pair: &Pair, folder: &TempDir, usage: Usage, words: &str) {
            let found = pair.belongs_to(&folder.path().join("ca.crt"), usage);
            let found = found.err().map(|it| it.to_string()).unwrap_or_default();
            assert!(found.contains(words) && found.is_empty() == words.is_empty(), "{found}");
        }
        for (name, usage) in
            [("server", Usage::Server), ("client", Usage::Client), ("both", Usage::Both)]
        {
            check(&pair(&one, name, name), &one, usage, "");
            check(&pair(&one, name, name), &two, usage, "does not come from");
        }
        check(&pair(&one, "server", "client"), &one, Usage::Server, "is not the key of");
        check(&pair(&one, "client", "client"), &one, Usage::Server, "does not come from");
        check(&pair(&one, "server", "server"), &one, Usage::Both, "does not come from");
        check(&pair(&one, "no", "no"), &one, Usage::Both, "no such file");
    }
}
