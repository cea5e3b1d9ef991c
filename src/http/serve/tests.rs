//! One port with everything on it, over real sockets.

use std::{net::SocketAddr, path::Path};

use axum::routing::any;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;

/// A server with one page and one gRPC service, on a port of the system's choice.
struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn router() -> Router {
    let slow = any(|| async {
        sleep(Duration::from_millis(200)).await;
        "slow"
    });
    tonic::service::Routes::new(tonic_health::server::health_reporter().1)
        .into_axum_router()
        .route("/page", any(|| async { "a page" }))
        .route("/name", any(name))
        .route("/slow", slow)
}

/// Who asks, as the connection has told.
async fn name(client: Option<axum::Extension<CommonName>>) -> String {
    client.map_or("nobody".to_owned(), |client| format!("the client {:?}", client.0.0))
}

async fn start(tls: Option<TlsSource>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving =
        serve(Listener::Tcp(listener), tls, router(), Connections::default(), shutdown.clone());
    Running { address, shutdown, task: tokio::spawn(serving) }
}

/// Settings for a server, and the certificate that its clients trust.
fn certificates() -> (TlsSource, rcgen::Certificate) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    (Arc::new(move || Arc::clone(&config)), signed.cert)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

async fn connect_tls(
    address: SocketAddr,
    trusted: &rcgen::Certificate,
    alpn: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
}

/// One HTTP/1.1 request, and all that comes back.
async fn get(mut socket: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn check_grpc(channel: Channel) {
    let mut client = HealthClient::new(channel);
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    let unknown = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

fn check_page(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\na page"), "{answer}");
}

/// Settings for a server that wants certificates, and for a client with one of this name.
fn mutual(name: Option<&str>) -> (TlsSource, rustls::ClientConfig) {
    let key = || rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (authority_key, client_key) = (key(), key());
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &authority_key);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = name {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    }
    let client = params.signed_by(&client_key, &issuer).unwrap();
    let own_key = key();
    let own = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&own_key, &issuer).unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
    let der = |key: &rcgen::KeyPair| PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.der().clone()], der(&own_key))
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.der().clone()], der(&client_key))
        .unwrap();
    let server = Arc::new(server);
    (Arc::new(move || Arc::clone(&server)), client)
}

#[tokio::test]
async fn requests_know_the_name_in_the_clients_certificate() {
    for (name, expected) in [(Some("u"), "the client \"u\""), (None, "the client \"\"")] {
        let (tls, client) = mutual(name);
        let server = start(Some(tls)).await;
        let socket = TcpStream::connect(server.address).await.unwrap();
        let host = ServerName::try_from("localhost").unwrap();
        let socket = TlsConnector::from(Arc::new(client)).connect(host, socket).await.unwrap();
        let answer = get(socket, "/name").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    }
    let server = start(None).await;
    let answer = get(TcpStream::connect(server.address).await.unwrap(), "/name").await;
    assert!(answer.ends_with("\r\n\r\nnobody"), "{answer}");
}

#[tokio::test]
async fn one_port_speaks_http2_and_http1() {
    let server = start(None).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    check_grpc(endpoint.connect().await.unwrap()).await;
    check_page(&get(TcpStream::connect(server.address).await.unwrap(), "/page").await);
}

#[tokio::test]
async fn one_port_speaks_http2_and_http1_over_tls() {
    let (tls, trusted) = certificates();
    let server = start(Some(tls)).await;
    let client_tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusted.pem()))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).unwrap();
    check_grpc(endpoint.tls_config(client_tls).unwrap().connect().await.unwrap()).await;

    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])),
        (&[], None),
    ] {
        let socket = connect_tls(server.address, &trusted, offered).await;
        assert_eq!(socket.get_ref().1.alpn_protocol(), chosen);
        if chosen != Some(b"h2") {
            check_page(&get(socket, "/page").await);
        }
    }
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_rejected_and_harms_nobody() {
    let (tls, trusted) = certificates();
    let server = start(Some(tls)).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("a page"));
    let socket = connect_tls(server.address, &trusted, &[]).await;
    check_page(&get(socket, "/page").await);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_in_the_handshake_is_let_go() {
    let (tls, _) = certificates();
    let server = start(Some(tls)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(start.elapsed() >= TLS_HANDSHAKE_MAX);
}

#[tokio::test]
async fn a_unix_socket_is_served_too() {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("socket");
    let listener = Listener::Unix(UnixListener::bind(path).unwrap());
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(serve(listener, None, router(), Connections::default(), shutdown.clone()));
    check_page(&get(UnixStream::connect(path).await.unwrap(), "/page").await);
    shutdown.cancel();
    serving.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stop_lets_a_request_finish_and_closes_idle_connections() {
    let server = start(None).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let busy = TcpStream::connect(server.address).await.unwrap();
    let answer = tokio::spawn(get(busy, "/slow"));
    sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    assert!(answer.await.unwrap().ends_with("slow"));
    timeout(FINISH_MAX / 2, server.task).await.expect("nothing is left to wait for").unwrap();
    drop(idle);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_is_cut() {
    let server = start(None).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let watch = client.watch(Request::new(HealthCheckRequest::default())).await.unwrap();
    let mut stream = watch.into_inner();
    assert!(stream.message().await.unwrap().is_some());
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(stream.message().await.is_err());
}
