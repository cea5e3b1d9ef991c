//! TLS between members: both sides show a certificate.

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};

use super::*;

/// An authority with one certificate for 127.0.0.1.
struct Authority {
    root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let [authority] = Authority::for_hosts(["127.0.0.1"]);
        authority
    }

    /// The same authority with a certificate for each of these hosts.
    fn for_hosts<const N: usize>(hosts: [&str; N]) -> [Authority; N] {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        hosts.map(|host| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let leaf = params.signed_by(&key, &issuer).unwrap();
            Authority {
                root: issuer.der().clone(),
                leaf: leaf.der().clone(),
                key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            }
        })
    }

    /// Shows this authority's certificate and trusts those of `trusted`.
    fn client(&self, trusted: &Authority) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted.roots());
        let chain = vec![self.leaf.clone()];
        Arc::new(config.with_client_auth_cert(chain, self.key.clone_key()).unwrap())
    }

    fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(config.with_single_cert(vec![self.leaf.clone()], self.key.clone_key()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }

    fn tls(&self) -> Tls {
        let (client, server) = (self.client(self), self.server());
        Tls {
            client: Arc::new(move || Arc::clone(&client)),
            server: Arc::new(move || Arc::clone(&server)),
            check_address: true,
        }
    }
}

async fn start(id: u64, tls: Tls) -> Node {
    Node::start_at(id, id * 10, "https://127.0.0.1:0", Some(tls)).await
}

#[tokio::test]
async fn members_with_certificates_of_one_authority_talk() {
    let authority = Authority::new();
    let (one, two) = (start(1, authority.tls()).await, start(2, authority.tls()).await);
    one.meet(&two);
    one.echo(&two).await;
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    sender.send(append_request(1, 3 << 20)).await.unwrap();
    let reply = replies.next().await.unwrap().unwrap();
    assert_eq!(reply, AppendReply::Accepted(Some(log_id(1))));
    let tls = authority.tls();
    let (cluster, _) = fetch_members(&Sockets, Some(&tls), &two.url).await.unwrap();
    assert_eq!(cluster, CLUSTER);
}

#[tokio::test]
async fn nobody_gets_in_with_another_certificate_or_none() {
    let (authority, other) = (Authority::new(), Authority::new());
    let two = start(2, authority.tls()).await;
    // Trusts the server and shows a certificate that the server does not trust.
    let client = other.client(&authority);
    let foreign = Tls { client: Arc::new(move || Arc::clone(&client)), ..other.tls() };
    let one = start(1, foreign).await;
    one.meet(&two);
    let error = one.peers.call(two.id, Bytes::new(), LONG).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");

    let three = start(3, other.tls()).await; // does not trust the server
    three.meet(&two);
    let error = three.peers.call(two.id, Bytes::new(), LONG).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");

    let plain = Node::start(4).await;
    plain.peers.set_addresses(two.id, vec![PeerUrl { tls: false, ..two.url.clone() }]);
    let error = plain.peers.call(two.id, Bytes::new(), LONG).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
    plain.peers.set_addresses(MemberId(5), vec![two.url.clone()]);
    let error = plain.peers.call(MemberId(5), Bytes::new(), LONG).await.unwrap_err();
    assert!(error.to_string().contains("no TLS is configured"), "{error}");

    let good = start(6, authority.tls()).await;
    good.meet(&two);
    good.echo(&two).await;
}

#[tokio::test]
async fn a_member_gets_in_only_from_where_its_certificate_says() {
    let [here, elsewhere] = Authority::for_hosts(["127.0.0.1", "10.9.9.9"]);
    let strict = start(1, here.tls()).await;
    let lenient = start(2, Tls { check_address: false, ..here.tls() }).await;
    let client = elsewhere.client(&here);
    let stranger = Tls { client: Arc::new(move || Arc::clone(&client)), ..here.tls() };
    let stranger = start(3, stranger).await;
    stranger.meet(&lenient);
    stranger.echo(&lenient).await;
    stranger.meet(&strict);
    let error = stranger.peers.call(strict.id, Bytes::new(), LONG).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn certificates_can_change_while_members_run() {
    let (before, after) = (Authority::new(), Authority::new());
    let client = Arc::new(ArcSwap::new(before.client(&before)));
    let server = Arc::new(ArcSwap::new(before.server()));
    let tls = {
        let (client, server) = (Arc::clone(&client), Arc::clone(&server));
        Tls {
            client: Arc::new(move || client.load_full()),
            server: Arc::new(move || server.load_full()),
            check_address: true,
        }
    };
    let (one, two) = (start(1, tls.clone()).await, start(2, tls).await);
    one.meet(&two);
    one.echo(&two).await;
    client.store(after.client(&after));
    server.store(after.server());
    one.echo(&two).await; // over the connection that there is
    let three = start(3, after.tls()).await;
    three.meet(&two);
    three.echo(&two).await;
}
