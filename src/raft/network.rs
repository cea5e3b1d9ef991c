//! Streams between members: TCP or Unix sockets of this machine, or whatever a simulation puts
//! there.

mod proxied;
mod proxies;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use futures::future::BoxFuture;
use rustls::{ClientConfig, ServerConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
};

pub use proxied::Proxied;
pub use proxies::Proxies;

/// Where a member listens for others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerUrl {
    /// `https` and `unixs`.
    pub tls: bool,
    pub address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name or an IP address, without brackets.
    Tcp { host: String, port: u16 },
    /// What follows `unix://`, as a path.
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" is not a peer URL: {reason}")]
pub struct UrlError {
    url: String,
    reason: &'static str,
}

impl FromStr for PeerUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<PeerUrl, UrlError> {
        let error = |reason| UrlError { url: url.to_owned(), reason };
        let (scheme, rest) = url.split_once("://").ok_or(error("it has no scheme"))?;
        let (tls, unix) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Err(error("its scheme is none of http, https, unix, unixs")),
        };
        if unix {
            return match rest {
                "" => Err(error("it names no socket")),
                path => Ok(PeerUrl { tls, address: Address::Unix(path.into()) }),
            };
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':').ok_or(error("it has no port"))?;
        let port = port.parse().map_err(|_| error("its port is not a number up to 65535"))?;
        let host = match host.strip_prefix('[') {
            Some(ip) => ip.strip_suffix(']').ok_or(error("a bracket is not closed"))?,
            None if host.contains(':') => return Err(error("IPv6 addresses need brackets")),
            None => host,
        };
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(error("it needs a host and a port, and nothing else"));
        }
        Ok(PeerUrl { tls, address: Address::Tcp { host: host.to_owned(), port } })
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.address, self.tls) {
            (Address::Tcp { .. }, false) => "http",
            (Address::Tcp { .. }, true) => "https",
            (Address::Unix(_), false) => "unix",
            (Address::Unix(_), true) => "unixs",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Bytes both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

pub type Stream = Box<dyn Connection>;

/// Makes streams. [`Sockets`] is the real one; the simulation has its own.
pub trait Network: Send + Sync {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>>;

    /// The same by the whole URL, whose scheme may say by which way.
    fn dial_url<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Stream>> {
        self.dial(&url.address)
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Waits for others to dial.
pub trait Listener: Send + Sync {
    /// The next stream. Dropping the future loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;

    /// The same, and where it comes from, if that has an address.
    fn accept_from(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>> {
        Box::pin(async { Ok((self.accept().await?, None)) })
    }

    /// Where it listens, with the port that the system chose for port 0.
    fn local(&self) -> io::Result<Address>;
}

/// TLS for connections to and from members. Each connection asks anew, so certificates can change
/// while the member runs.
#[derive(Clone)]
pub struct Tls {
    pub client: Provider<ClientConfig>,
    pub server: Provider<ServerConfig>,
    /// Hold a member that comes in to the addresses and names in its certificate.
    pub check_address: bool,
}

pub type Provider<T> = Arc<dyn Fn() -> Arc<T> + Send + Sync>;

/// The sockets of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets;

impl Network for Sockets {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            Ok(match address {
                Address::Tcp { host, port } => {
                    Box::new(prompt(TcpStream::connect((host.as_str(), *port)).await?)?) as Stream
                }
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        })
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            Ok(match address {
                Address::Tcp { host, port } => {
                    Box::new(TcpListener::bind((host.as_str(), *port)).await?) as Box<dyn Listener>
                }
                Address::Unix(path) => {
                    remove_left_over(path).await?;
                    Box::new(UnixSocket { listener: UnixListener::bind(path)?, path: path.clone() })
                }
            })
        })
    }
}

/// Connections that the kernel holds until they are accepted, as many as tokio has it hold.
const BACKLOG: u32 = 1024;

/// The same, as flags may ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunedSockets {
    /// Others may listen on the same port.
    pub shared_ports: bool,
    /// Where connections to others come from, if to an address of the same kind.
    pub from: Option<IpAddr>,
}

impl Network for TunedSockets {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        let (Some(from), Address::Tcp { host, port }) = (self.from, address) else {
            return Sockets.dial(address);
        };
        Box::pin(async move {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for to in tokio::net::lookup_host((host.as_str(), *port)).await? {
                match dial_from(from, to).await {
                    Ok(stream) => return Ok(Box::new(prompt(stream)?) as Stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (true, Address::Tcp { host, port }) = (self.shared_ports, address) else {
            return Sockets.bind(address);
        };
        Box::pin(async move {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in tokio::net::lookup_host((host.as_str(), *port)).await? {
                match listen_shared(address) {
                    Ok(listener) => return Ok(Box::new(listener) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

async fn dial_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_for(to)?;
    if from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

/// Listens on a port on which others may listen as well.
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(address)?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Votes and heartbeats must not wait for an acknowledgement of the bytes before them.
fn prompt(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let (stream, _) = TcpListener::accept(self).await?;
            Ok(Box::new(prompt(stream)?) as Stream)
        })
    }

    fn accept_from(&mut self) -> BoxFuture<'_, io::Result<(Stream, Option<SocketAddr>)>> {
        Box::pin(async {
            let (stream, from) = TcpListener::accept(self).await?;
            Ok((Box::new(prompt(stream)?) as Stream, Some(from)))
        })
    }

    fn local(&self) -> io::Result<Address> {
        let local = self.local_addr()?;
        Ok(Address::Tcp { host: local.ip().to_string(), port: local.port() })
    }
}

/// Removes its file when it is done.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener for UnixSocket {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { Ok(Box::new(self.listener.accept().await?.0) as Stream) })
    }

    fn local(&self) -> io::Result<Address> {
        Ok(Address::Unix(self.path.clone()))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // gone already, or left for the next start
    }
}

/// A process that was killed leaves its socket's file, and nobody answers behind it.
pub(crate) async fn remove_left_over(path: &Path) -> io::Result<()> {
    let is_socket = tokio::fs::symlink_metadata(path).await.map(|it| it.file_type().is_socket());
    let unanswered = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket.unwrap_or(false) && UnixStream::connect(path).await.is_err_and(unanswered) {
        tokio::fs::remove_file(path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn urls_are_read_as_etcd_reads_them() {
        #[track_caller]
        fn check(url: &str, tls: bool, address: Address) {
            let parsed: PeerUrl = url.parse().unwrap();
            assert_eq!(parsed, PeerUrl { tls, address });
            assert_eq!(parsed.to_string(), url.trim_end_matches('/'));
        }
        check("http://10.0.0.1:2380", false, tcp("10.0.0.1", 2380));
        check("https://node-1.example:2380/", true, tcp("node-1.example", 2380));
        check("http://[::1]:0", false, tcp("::1", 0));
        check("unix:///run/peer.sock", false, Address::Unix("/run/peer.sock".into()));
        check("unixs://localhost:m10", true, Address::Unix("localhost:m10".into()));
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        #[track_caller]
        fn check(url: &str, reason: &str) {
            let error = url.parse::<PeerUrl>().unwrap_err().to_string();
            assert!(error.contains(url) && error.contains(reason), "{error}");
        }
        check("10.0.0.1:2380", "no scheme");
        check("ftp://10.0.0.1:2380", "scheme is none of");
        check("http://10.0.0.1", "no port");
        check("http://10.0.0.1:99999", "port is not");
        check("http://::1:2380", "brackets");
        check("http://[::1:2380", "not closed");
        check("http://:2380", "needs a host");
        check("http://a/b:2380", "needs a host");
        check("unix://", "no socket");
    }

    #[tokio::test]
    async fn connections_come_from_the_address_that_is_asked_for() {
        let mut listener = Sockets.bind(&tcp("127.0.0.1", 0)).await.unwrap();
        let address = listener.local().unwrap();
        let from = Some(IpAddr::from([127, 0, 0, 2]));
        let sockets = TunedSockets { from, ..TunedSockets::default() };
        let (dialled, accepted) = tokio::join!(sockets.dial(&address), listener.accept_from());
        dialled.unwrap();
        assert_eq!(accepted.unwrap().1.map(|it| it.ip()), from);
    }

    #[tokio::test]
    async fn a_unix_socket_carries_bytes_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("peer.sock"));
        drop(std::os::unix::net::UnixListener::bind(folder.path().join("peer.sock")).unwrap());
        let mut listener = Sockets.bind(&address).await.expect("a left-over file is no obstacle");
        assert!(Sockets.bind(&address).await.is_err(), "one that is answered is");
        let _ = listener.accept().await; // the look whether somebody answers

        let (dialled, accepted) = tokio::join!(Sockets.dial(&address), listener.accept());
        dialled.unwrap().write_all(b"hello").await.unwrap();
        let mut text = String::new();
        accepted.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");

        drop(listener);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
