//! Listening: connections, TLS, and a stop that lets requests finish.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::Response,
    routing::future::RouteFuture,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use super::{
    calls::{Calls, Started},
    unread::ReadToEnd,
};
use crate::{
    grpc::{CommonName, is_grpc},
    tls,
};

/// A handshake that has not ended by then is given up. Each has a task of its own, so that a slow
/// one holds up nobody.
const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Requests under way at a stop may take that long: etcd's own limit for a request, 5 s and two
/// election timeouts. Then their connections are cut.
const FINISH_MAX: Duration = Duration::from_secs(7);

/// How long to wait when no connection can be accepted, mostly for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What each connection may do, and how long it may be silent. hyper cannot refuse clients that
/// ping too often, as etcd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Streams of HTTP/2 that it may have open; `None` for no limit.
    pub streams_max: Option<u32>,
    /// Silence after which it is pinged; `None` for never.
    pub ping_after: Option<Duration>,
    pub ping_patience: Duration,
}

impl Default for Connections {
    /// As etcd has them: a silent client is pinged after two hours and has 20 seconds to answer.
    fn default() -> Connections {
        Connections {
            streams_max: None,
            ping_after: Some(Duration::from_hours(2)),
            ping_patience: Duration::from_secs(20),
        }
    }
}

/// Streams that a client opened and reset before we saw them. hyper's 20 are soon met by a client
/// that cancels a batch of requests; Go's server has no such limit, so no client expects one.
const HTTP2_RESETS_PENDING_MAX: usize = 1000;

/// Gives the TLS settings for each new connection, so that renewed certificates are used at once.
/// They offer `h2` and `http/1.1`; without the first no gRPC client connects.
pub type TlsSource = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// A bound socket.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What a listener serves: calls of gRPC, and pages for all other requests.
#[derive(Clone)]
pub struct Front {
    pub grpc: Router,
    pub pages: Router,
}

impl From<Router> for Front {
    /// Serves both from one router.
    fn from(router: Router) -> Front {
        Front { grpc: router.clone(), pages: router }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routers take what comes.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> RouteFuture<Infallible> {
        match is_grpc(&request) {
            true => self.grpc.call(request),
            false => self.pages.call(request.map(ReadToEnd::new)),
        }
    }
}

/// Serves all connections until `shutdown`, and returns when the last of them is done or cut.
pub async fn serve(
    listener: Listener,
    tls: Option<TlsSource>,
    front: impl Into<Front>,
    settings: Connections,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let front = front.into();
    let server = Server { tls, front, settings, shutdown: shutdown.clone(), cut: cut.clone() };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Connections are bounded by the file descriptors of the process, as etcd's are.
            Ok(socket) => drop(connections.spawn(server.clone().connection(socket))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    listener.close();
    connections.close();
    if timeout(FINISH_MAX, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting connections that do not finish");
        cut.cancel();
        connections.wait().await;
    }
}

/// A connection as it was accepted.
enum Socket {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                // A peer that is gone already shows at the first read.
                let _ = socket.set_nodelay(true);
                Ok(Socket::Tcp(socket, from))
            }
            Listener::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }

    /// Takes no more connections. The file of a socket goes with it.
    fn close(self) {
        if let Listener::Unix(listener) = &self
            && let Ok(address) = listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = std::fs::remove_file(path); // gone already, or left for the next start
        }
    }
}

/// What every connection of a listener shares.
#[derive(Clone)]
struct Server {
    tls: Option<TlsSource>,
    front: Front,
    settings: Connections,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    async fn connection(self, socket: Socket) {
        match socket {
            Socket::Tcp(socket, from) => self.secured(socket, Some(from)).await,
            Socket::Unix(socket) => self.secured(socket, None).await,
        }
    }

    async fn secured(
        self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        from: Option<SocketAddr>,
    ) {
        let Some(tls) = &self.tls else { return self.talk(socket, from, None).await };
        let mut server_name = String::new();
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            server_name = start.client_hello().server_name().unwrap_or_default().to_owned();
            start.into_stream(tls()).await
        };
        let handshake = timeout(TLS_HANDSHAKE_MAX, handshake);
        let error = match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(socket))) => {
                let name = tls::common_name(socket.get_ref().1);
                let client = name.map(|name| CommonName(name.into()));
                return self.talk(socket, from, client).await;
            }
            Some(Ok(Err(error))) => error,
            Some(Err(_)) => io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"),
            None => return,
        };
        let remote_addr = from.map(|from| from.to_string()).unwrap_or_default();
        // Load balancers probe a port by connecting and going away.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            tracing::debug!(remote_addr, server_name, %error, "{REJECTED}");
        } else {
            tracing::warn!(remote_addr, server_name, %error, "{REJECTED}");
        }
    }

    /// Requests know where they come from, and the name in the client's certificate, if it has
    /// shown one.
    async fn talk(
        self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        from: Option<SocketAddr>,
        client: Option<CommonName>,
    ) {
        let started = Started::default();
        let builder = protocols(self.settings, started.clone());
        let mut calls = Calls::new(started);
        let front = self.front.map_request(move |mut request: Request<Incoming>| {
            if let Some(from) = from {
                request.extensions_mut().insert(ConnectInfo(from));
            }
            if let Some(client) = &client {
                request.extensions_mut().insert(client.clone());
            }
            request
        });
        let service = TowerToHyperService::new(front);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        let outcome = tokio::select! {
            outcome = calls.with(connection.as_mut()) => outcome,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = calls.with(connection.as_mut()) => outcome,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection ended with an error");
        }
    }
}

/// In etcd's words.
const REJECTED: &str = "rejected connection on client endpoint";

/// Whichever of HTTP/2 and HTTP/1.1 the client begins with.
fn protocols(settings: Connections, calls: Started) -> Builder<Started> {
    let mut builder = Builder::new(calls);
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .keep_alive_interval(settings.ping_after)
        .keep_alive_timeout(settings.ping_patience);
    builder
}

#[cfg(test)]
mod tests;
