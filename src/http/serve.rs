//! Listening: connections, TLS, and a stop that lets requests finish.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::Request, response::Response, routing::future::RouteFuture};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

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

/// etcd's server pings a silent client after two hours and gives it 20 seconds. hyper cannot refuse
/// clients that ping too often, as etcd does.
const HTTP2_PING_AFTER: Duration = Duration::from_hours(2);
const HTTP2_PING_PATIENCE: Duration = Duration::from_secs(20);

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
        let router = if is_grpc(&request) { &mut self.grpc } else { &mut self.pages };
        router.call(request)
    }
}

/// Serves all connections until `shutdown`, and returns when the last of them is done or cut.
pub async fn serve(
    listener: Listener,
    tls: Option<TlsSource>,
    front: impl Into<Front>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let front = front.into();
    let server = Server { tls, front, shutdown: shutdown.clone(), cut: cut.clone() };
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
    drop(listener);
    connections.close();
    if timeout(FINISH_MAX, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting connections that do not finish");
        cut.cancel();
        connections.wait().await;
    }
}

/// A connection as it was accepted.
enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                // A peer that is gone already shows at the first read.
                let _ = socket.set_nodelay(true);
                Ok(Socket::Tcp(socket))
            }
            Listener::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// What every connection of a listener shares.
#[derive(Clone)]
struct Server {
    tls: Option<TlsSource>,
    front: Front,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    async fn connection(self, socket: Socket) {
        match socket {
            Socket::Tcp(socket) => self.secured(socket).await,
            Socket::Unix(socket) => self.secured(socket).await,
        }
    }

    async fn secured(self, socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let Some(tls) = &self.tls else { return self.talk(socket, None).await };
        let handshake = TlsAcceptor::from(tls()).accept(socket);
        let handshake = timeout(TLS_HANDSHAKE_MAX, handshake);
        match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(socket))) => {
                let name = tls::common_name(socket.get_ref().1);
                self.talk(socket, name.map(|name| CommonName(name.into()))).await;
            }
            // Load balancers probe a port by connecting and going away.
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!("a client left during the TLS handshake");
            }
            Some(Ok(Err(error))) => tracing::warn!(%error, "rejected a connection: TLS handshake"),
            Some(Err(_)) => tracing::warn!("rejected a connection: TLS handshake took too long"),
            None => {}
        }
    }

    /// Requests know the name in the client's certificate, if it has shown one.
    async fn talk(
        self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        client: Option<CommonName>,
    ) {
        let builder = protocols();
        let front = self.front.map_request(move |mut request: Request<Incoming>| {
            if let Some(client) = &client {
                request.extensions_mut().insert(client.clone());
            }
            request
        });
        let service = TowerToHyperService::new(front);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection ended with an error");
        }
    }
}

/// Whichever of HTTP/2 and HTTP/1.1 the client begins with.
fn protocols() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .keep_alive_interval(HTTP2_PING_AFTER)
        .keep_alive_timeout(HTTP2_PING_PATIENCE);
    builder
}

#[cfg(test)]
mod tests;
