//! The one request that a proxy takes: CONNECT, with the name of the member that asks as the user.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Ours has 150 bytes, Go's as many.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Where a client wants to go, and who it says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) host: String,
    pub(super) port: u16,
    /// The user of the proxy's URL.
    pub(super) user: Option<String>,
}

/// What a proxy says no to, as it says it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: &'static str,
    /// RFC 9209's type of error, where there is one.
    pub(super) error: Option<&'static str>,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: &'static str, text: impl Into<String>) -> Refusal {
        Refusal { status, error: None, text: text.into() }
    }

    pub(super) fn gateway(error: &'static str, text: impl Into<String>) -> Refusal {
        Refusal { error: Some(error), ..Refusal::new("502 Bad Gateway", text) }
    }

    pub(super) fn response(&self) -> String {
        let Refusal { status, text, .. } = self;
        let length = text.len() + 1;
        let told = self.error.map(|error| format!("Proxy-Status: orrery-wan; error={error}\r\n"));
        let told = told.unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\n{told}Content-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{text}\n"
        )
    }
}

/// Reads a request and what the client has said behind it already. `None` when the client leaves.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Option<(Result<Connect, Refusal>, Bytes)> {
    let mut received = BytesMut::new();
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = received.split_to(end + 4);
            return Some((parse(&String::from_utf8_lossy(&head)), received.freeze()));
        }
        if received.len() > HEAD_BYTES_MAX {
            let refusal = Refusal::new("431 Request Header Fields Too Large", "too long");
            return Some((Err(refusal), Bytes::new()));
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn parse(head: &str) -> Result<Connect, Refusal> {
    let bad = |text: &str| Refusal::new("400 Bad Request", text);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(bad("no HTTP"));
    }
    if method != "CONNECT" {
        let text = "members are reached by CONNECT, so by https:// URLs";
        return Err(Refusal::new("405 Method Not Allowed", text));
    }
    let (host, port) = target.rsplit_once(':').ok_or_else(|| bad("expected host:port"))?;
    let port = port.parse().map_err(|_| bad("expected host:port"))?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let field = fields.find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    let user = match field {
        None => None,
        Some((_, value)) => Some(user(value.trim()).ok_or_else(|| bad("expected Basic"))?),
    };
    Ok(Connect { host: host.to_owned(), port, user })
}

/// Nobody is kept out, so there is no password to look at.
fn user(authorization: &str) -> Option<String> {
    let (scheme, code) = authorization.split_once(' ')?;
    let plain = BASE64_STANDARD.decode(code.trim()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let name = plain.split_once(':')?.0;
    scheme.eq_ignore_ascii_case("basic").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_says_where_to_and_from_whom() {
        async fn check(request: &str, expected: Option<(&str, u16, Option<&str>, &str)>) {
            let found = read(&mut request.as_bytes()).await;
            let found = found.map(|(connect, rest)| (connect.unwrap(), rest));
            let expected = expected.map(|(host, port, user, rest)| {
                let (host, user) = (host.to_owned(), user.map(str::to_owned));
                (Connect { host, port, user }, Bytes::copy_from_slice(rest.as_bytes()))
            });
            assert_eq!(found, expected, "{request}");
        }
        check("", None).await;
        check("CONNECT m1.a.x.test:2380 HTTP/1.1\r\nHost: y\r\n", None).await;
        let plain = "CONNECT m1.a.x.test:2380 HTTP/1.1\r\nHost: y\r\n\r\nearly";
        check(plain, Some(("m1.a.x.test", 2380, None, "early"))).await;
        let named = "CONNECT h:1 HTTP/1.1\r\nproxy-authorization: basic bTE6\r\n\r\n";
        check(named, Some(("h", 1, Some("m1"), ""))).await;
    }

    #[tokio::test]
    async fn other_requests_are_refused() {
        async fn check(request: &str, status: &str) {
            let (connect, _) = read(&mut request.as_bytes()).await.unwrap();
            assert!(connect.unwrap_err().response().contains(status), "{request}");
        }
        check("GET http://m1/ HTTP/1.1\r\n\r\n", "405 Method").await;
        check("CONNECT m1 HTTP/1.1\r\n\r\n", "400 Bad").await;
        check("CONNECT m1:x HTTP/1.1\r\n\r\n", "400 Bad").await;
        check("hello\r\n\r\n", "400 Bad").await;
        check("CONNECT h:1 HTTP/1.1\r\nProxy-Authorization: Bearer x\r\n\r\n", "400 Bad").await;
        let long = format!("CONNECT h:1 HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        check(&long, "431 Request").await;
    }

    #[test]
    fn a_refusal_says_why_in_words_for_programs() {
        let response = Refusal::gateway("connection_refused", "m1: gone").response();
        let expected = "HTTP/1.1 502 Bad Gateway\r\n\
                        Proxy-Status: orrery-wan; error=connection_refused\r\n\
                        Content-Type: text/plain\r\nContent-Length: 9\r\nConnection: close\r\n\r\n\
                        m1: gone\n";
        assert_eq!(response, expected);
    }
}
