//! The gateway over TLS with authentication on: a token says who asks, a certificate does not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    announce, etcd,
    http::{Answer, Request, exchange},
    members::{Cluster, Setup, server_under_test},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// Writes an authority, and certificates of a server and of clients, one with a name.
fn certificates(dir: &Path) {
    let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.crt", authority.self_signed(&authority_key).unwrap().pem());
    let issuer = Issuer::new(authority, authority_key);
    for (file, common_name) in [("server", None), ("named", Some("ann")), ("nameless", None)] {
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        certificate.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            certificate.distinguished_name.push(DnType::CommonName, name);
        }
        write(&format!("{file}.crt"), certificate.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}

/// A client that shows that certificate.
fn connector(dir: &Path, client: &str) -> TlsConnector {
    let read = |name: &str| CertificateDer::from_pem_file(dir.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{client}.key"))).unwrap();
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![read(&format!("{client}.crt"))], key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

struct Asking<'a> {
    cluster: &'a Cluster,
    connector: TlsConnector,
}

impl Asking<'_> {
    async fn ask(&self, path: &str, token: Option<&str>, body: &str) -> Answer {
        let address = self.cluster.client_address(0);
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::from(address.ip());
        let socket = self.connector.connect(name, socket).await.unwrap();
        // As every client of HTTP says; by it the server knows a request of the gateway.
        let mut headers = vec![("Accept".to_owned(), "*/*".to_owned())];
        headers.extend(token.map(|token| ("Authorization".to_owned(), token.to_owned())));
        let request = Request { method: "POST", path, headers, body, lines: usize::MAX };
        exchange(socket, address, &request).await
    }

    async fn done(&self, path: &str, body: &str) {
        let answer = self.ask(path, None, body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
    }
}

const NAMED: &str = "CommonName of client sending a request against gateway will be ignored and not \
                     used as expected";

/// Who asks, to a server that gives such tokens.
async fn check(binary: PathBuf, tokens: &str) {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut setup = Setup::new(1);
    setup.binary = binary;
    let mut cluster = setup.prepare();
    let url = format!("https://{}", cluster.client_address(0));
    let flags = [
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
        format!("--trusted-ca-file={}", file("ca.crt")),
        "--client-cert-auth".to_owned(),
        format!("--auth-token={}", tokens.replace("KEY", &file("server.key"))),
    ];
    cluster.set_flags(&flags.each_ref().map(String::as_str));
    cluster.restart(&[0]).await.unwrap_or_else(|fault| panic!("{fault}"));
    let asking = |client| Asking { cluster: &cluster, connector: connector(dir.path(), client) };
    let (named, nameless) = (asking("named"), asking("nameless"));

    named.done("/v3/auth/role/add", r#"{"name":"root"}"#).await;
    for name in ["root", "ann"] {
        named.done("/v3/auth/user/add", &format!(r#"{{"name":"{name}","password":"pw"}}"#)).await;
        let grant = format!(r#"{{"user":"{name}","role":"root"}}"#);
        named.done("/v3/auth/user/grant", &grant).await;
    }
    named.done("/v3/auth/enable", "{}").await;

    // The name is that of a user who may do everything.
    let range = r#"{"key":"Zm9v"}"#;
    let refused = named.ask("/v3/kv/range", None, range).await;
    assert_eq!((refused.status, refused.body.trim_end()), (400, NAMED));
    let refused = nameless.ask("/v3/kv/range", None, range).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("etcdserver: user name is empty"), "{}", refused.body);

    let user = r#"{"name":"root","password":"pw"}"#;
    let answer = nameless.ask("/v3/auth/authenticate", None, user).await;
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let token = answer["token"].as_str().unwrap();
    for told in [token.to_owned(), format!("Bearer {token}")] {
        let answer = nameless.ask("/v3/kv/range", Some(&told), range).await;
        assert_eq!(answer.status, 200, "{tokens} {told}: {}", answer.body);
    }
    let wrong = nameless.ask("/v3/kv/range", Some("wrong.1"), range).await;
    assert_eq!(wrong.status, 401, "{}", wrong.body);
    assert!(wrong.body.contains("etcdserver: invalid auth token"), "{}", wrong.body);
}

/// Keys of elliptic curves are what the certificates have.
const TOKENS: [&str; 2] = ["simple", "jwt,priv-key=KEY,sign-method=ES256"];

#[tokio::test]
async fn a_token_says_who_asks_and_a_certificate_does_not() {
    for tokens in TOKENS {
        check(server_under_test(), tokens).await;
    }
}

#[tokio::test]
async fn a_token_says_who_asks_an_etcd() {
    let Some(etcd) = etcd() else {
        return announce("SKIPPED tokens on etcd: there is none (ETCD, make peers)");
    };
    for tokens in TOKENS {
        check(etcd.clone(), tokens).await;
    }
}
