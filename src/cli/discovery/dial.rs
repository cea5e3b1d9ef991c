//! Connections to the etcd cluster where founding members meet.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{self, Channel, Uri};
use tower::service_fn;

use crate::{
    config::{Endpoint, Registry},
    tls,
};

/// Knows how to connect.
pub(crate) struct Dialler {
    tls: Option<Arc<ClientConfig>>,
    dial_timeout: Duration,
    keepalive_time: Duration,
    keepalive_timeout: Duration,
}

/// Bytes both ways, encrypted or not.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for S {}

impl Dialler {
    pub(crate) fn new(registry: &Registry) -> Result<Dialler, tls::Error> {
        // Files that no endpoint needs are not read.
        let encrypted = registry.endpoints.iter().any(|endpoint| endpoint.tls);
        Ok(Dialler {
            tls: if encrypted { Some(registry.tls.config()?) } else { None },
            dial_timeout: registry.dial_timeout,
            keepalive_time: registry.keepalive_time,
            keepalive_timeout: registry.keepalive_timeout,
        })
    }

    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, transport::Error> {
        let host = match endpoint.host.contains(':') {
            true => format!("[{}]", endpoint.host),
            false => endpoint.host.clone(),
        };
        // The scheme is for the request's own headers: what encrypts is the connector.
        let channel = Channel::from_shared(format!("http://{host}:{}", endpoint.port))
            .unwrap_or_else(|_| Channel::from_static("http://invalid"))
            .connect_timeout(self.dial_timeout)
            .http2_keep_alive_interval(self.keepalive_time)
            .keep_alive_timeout(self.keepalive_timeout);
        let tls = self.tls.clone().filter(|_| endpoint.tls);
        let to = endpoint.clone();
        let connector = service_fn(move |_: Uri| {
            let (tls, to) = (tls.clone(), to.clone());
            async move { Ok::<_, io::Error>(TokioIo::new(stream(&to, tls).await?)) }
        });
        channel.connect_with_connector(connector).await
    }
}

async fn stream(to: &Endpoint, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}
