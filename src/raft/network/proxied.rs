//! Connections to members through a proxy: HTTP's CONNECT.

use std::io;

use bytes::BytesMut;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Address, Listener, Network, PeerUrl, Proxies, Stream, TunedSockets, proxies::Proxy};

/// A proxy's answer. They have a few hundred bytes; Go takes ten megabytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The sockets of this machine, and proxies where the environment wants them.
#[derive(Clone, Debug, Default)]
pub struct Proxied {
    pub sockets: TunedSockets,
    pub proxies: Proxies,
}

impl Network for Proxied {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        self.sockets.dial(address)
    }

    fn dial_url<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Stream>> {
        match self.proxies.of(url) {
            None => self.sockets.dial(&url.address),
            Some(proxy) => Box::pin(through(&self.sockets, proxy, &url.address)),
        }
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.sockets.bind(address)
    }
}

/// Whoever dials bounds the time.
async fn through(sockets: &TunedSockets, proxy: &Proxy, to: &Address) -> io::Result<Stream> {
    if proxy.scheme != "http" {
        let why = format!("proxy {proxy}: members are reached through proxies of http only");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let at = Address::Tcp { host: proxy.host.clone(), port: proxy.port };
    // A proxy that is down says nothing about the member behind it.
    let down = |error: io::Error| {
        io::Error::new(io::ErrorKind::HostUnreachable, format!("proxy {proxy}: {error}"))
    };
    let mut stream = sockets.dial(&at).await.map_err(down)?;
    ask(&mut stream, proxy, to).await.map_err(down)?;
    let mut answer = BytesMut::new();
    let head = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break answer.split_to(end + 4);
        }
        if answer.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await.map_err(down)? == 0
        {
            return Err(down(io::Error::other("it does not answer in HTTP")));
        }
    };
    judge(&String::from_utf8_lossy(&head), proxy)?;
    // A member does not speak until it is spoken to.
    if !answer.is_empty() {
        return Err(down(io::Error::other("it goes on behind its answer")));
    }
    Ok(stream)
}

async fn ask(stream: &mut Stream, proxy: &Proxy, to: &Address) -> io::Result<()> {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: orrery\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await
}

/// A proxy may say (RFC 9209) that the member's host has refused the connection, from which
/// follows that its process is gone; everything else follows from nothing.
fn judge(head: &str, proxy: &Proxy) -> io::Result<()> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let (version, rest) = status.split_once(' ').unwrap_or((status, ""));
    let code = rest.split(' ').next().unwrap_or_default();
    if version.starts_with("HTTP/1.") && code.len() == 3 && code.starts_with('2') {
        return Ok(());
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut told = fields.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-status"));
    let is_refused = told.any(|(_, value)| {
        value.split([';', ',']).any(|part| part.trim() == "error=connection_refused")
    });
    let kind = match is_refused {
        true => io::ErrorKind::ConnectionRefused,
        false => io::ErrorKind::HostUnreachable,
    };
    Err(io::Error::new(kind, format!("proxy {proxy} answers {status:?}")))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Takes one connection, checks what it asks for, and answers so; then, if it said yes, it
    /// echoes. Returns the proxy's address.
    async fn proxy(expected: &'static str, answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; expected.len()];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(String::from_utf8(request).unwrap(), expected);
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        address
    }

    const REQUEST: &str =
        "CONNECT m1.test:2380 HTTP/1.1\r\nHost: m1.test:2380\r\nUser-Agent: orrery\r\n\r\n";

    async fn dial(proxy: &str, url: &str) -> io::Result<Stream> {
        let proxies = Proxies::parse(proxy, proxy, "");
        let network = Proxied { proxies, ..Proxied::default() };
        network.dial_url(&url.parse().unwrap()).await
    }

    #[tokio::test]
    async fn members_are_reached_through_the_proxy() {
        for url in ["https://m1.test:2380", "http://m1.test:2380"] {
            let address = proxy(REQUEST, "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n").await;
            let mut stream = dial(&address, url).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed).await.unwrap();
            assert_eq!(&echoed, b"ping");
        }
    }

    #[tokio::test]
    async fn who_asks_is_told_as_the_url_has_it() {
        let request = "CONNECT m1.test:2380 HTTP/1.1\r\nHost: m1.test:2380\r\nUser-Agent: orrery\r\n\
                       Proxy-Authorization: Basic bTI6\r\n\r\n";
        let address = proxy(request, "HTTP/1.1 200 OK\r\n\r\n").await;
        dial(&format!("http://m2@{address}"), "https://m1.test:2380").await.unwrap();
    }

    #[tokio::test]
    async fn only_a_refusal_by_the_member_is_one() {
        #[track_caller]
        fn check(error: io::Error, kind: io::ErrorKind, words: &str) {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, Unsupported};
        for (answer, kind, words) in [
            (
                "HTTP/1.1 502 Bad Gateway\r\nproxy-status: x; error=connection_refused\r\n\r\n",
                ConnectionRefused,
                "502 Bad Gateway",
            ),
            (
                "HTTP/1.1 502 Bad Gateway\r\nProxy-Status: x; error=dns_error\r\n\r\nno such name",
                HostUnreachable,
                "502",
            ),
            ("HTTP/1.1 407 Authenticate\r\n\r\n", HostUnreachable, "407"),
            ("HTTP/1.1 200 OK\r\n\r\nmore", HostUnreachable, "behind its answer"),
            ("SSH-2.0-x\r\n\r\n", HostUnreachable, "SSH-2.0-x"),
        ] {
            let address = proxy(REQUEST, answer).await;
            let error = dial(&address, "https://m1.test:2380").await.map(|_| ()).unwrap_err();
            check(error, kind, words);
        }
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error =
            dial(&closed.to_string(), "https://m1.test:2380").await.map(|_| ()).unwrap_err();
        check(error, HostUnreachable, "onnection refused");
        let error = dial("socks5://p:1", "https://m1.test:2380").await.map(|_| ()).unwrap_err();
        check(error, Unsupported, "http only");
    }

    #[tokio::test]
    async fn loopback_is_dialled_directly() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dial("http://p.test:1", &url), listener.accept());
        dialled.unwrap();
        let _: TcpStream = accepted.unwrap().0;
    }
}
