//! URLs of members: where to listen, and what to tell others.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// A URL as etcd takes it for members: `http://host:port`, `https://host:port`, `unix://path` or
/// `unixs://path`. Ordered and printed by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    pub tls: bool,
    pub place: Place,
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `host` is a name or an IP address, without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// A place that a listener can be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    pub url: Url,
    pub address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("URL names no socket: {0}")]
    NoSocket(String),
    /// What Go's parser of URLs refuses, in its words.
    #[error("parse {text:?}: {why}")]
    Malformed { text: String, why: String },
    #[error("listen tcp: address {0}: invalid port")]
    Port(String),
    #[error("expected IP in URL for binding ({0})")]
    NotAnAddress(String),
    #[error("unexpected empty host ({0})")]
    NoHost(String),
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, Error> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (tls, place) = match scheme.as_str() {
            "http" => (false, tcp(text, rest)?),
            "https" => (true, tcp(text, rest)?),
            "unix" | "unixs" if rest.is_empty() => return Err(Error::NoSocket(text.to_owned())),
            "unix" => (false, Place::Unix(PathBuf::from(rest))),
            "unixs" => (true, Place::Unix(PathBuf::from(rest))),
            _ => return Err(Error::Scheme(text.to_owned())),
        };
        let text = format!("{scheme}://{rest}");
        Ok(Url { text, tls, place })
    }

    /// A URL that others can use: it has a host.
    pub fn parse_advertised(text: &str) -> Result<Url, Error> {
        let url = Url::parse(text)?;
        match &url.place {
            Place::Tcp { host, .. } if host.is_empty() => Err(Error::NoHost(url.text)),
            Place::Tcp { .. } | Place::Unix(_) => Ok(url),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ListenUrl {
    /// Listening needs an IP address; `localhost` stands for 127.0.0.1.
    pub fn parse(text: &str) -> Result<ListenUrl, Error> {
        let url = Url::parse(text)?;
        let address = match &url.place {
            Place::Unix(path) => Address::Unix(path.clone()),
            Place::Tcp { host, port } => {
                let ip = match host.as_str() {
                    "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    host => host.parse().map_err(|_| Error::NotAnAddress(url.text.clone()))?,
                };
                Address::Tcp(SocketAddr::new(ip, *port))
            }
        };
        Ok(ListenUrl { url, address })
    }

    /// Whether the system chooses the port.
    pub fn any_port(&self) -> bool {
        matches!(self.address, Address::Tcp(address) if address.port() == 0)
    }
}

/// The scheme in small letters and what is behind its colon, told apart as Go does it.
fn split_scheme(text: &str) -> Result<(String, &str), Error> {
    let malformed = |why: &str| Error::Malformed { text: text.to_owned(), why: why.to_owned() };
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
    match end {
        Some(0) if text.starts_with(':') => Err(malformed("missing protocol scheme")),
        Some(end) if text[end..].starts_with(':') && text.starts_with(char::is_alphabetic) => {
            Ok((text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ if text.split('/').next().is_some_and(|segment| segment.contains(':')) => {
            Err(malformed("first path segment in URL cannot contain colon"))
        }
        _ => Err(Error::Scheme(text.to_owned())),
    }
}

/// `host:port`, with an IPv6 address in brackets and nothing behind the port.
fn tcp(text: &str, rest: &str) -> Result<Place, Error> {
    let malformed = |why: String| Error::Malformed { text: text.to_owned(), why };
    let no_host_and_port = || Error::HostPort(text.to_owned());
    let authority = rest.split('/').next().unwrap_or_default();
    let bracket = authority.rfind(']');
    if authority.starts_with('[') && bracket.is_none() {
        return Err(malformed("missing ']' in host".to_owned()));
    }
    // Without brackets, the port begins at the first colon.
    let end = authority[bracket.unwrap_or(0)..].find(':').map(|at| at + bracket.unwrap_or(0));
    let (host, port) = authority.split_at(end.ok_or_else(no_host_and_port)?);
    let port = &port[1..];
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(malformed(format!("invalid port {:?} after host", format!(":{port}"))));
    }
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or_else(no_host_and_port)?,
        None => host,
    };
    if authority.len() < rest.len() {
        return Err(Error::Path(text.to_owned()));
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if let Some(odd) = host.chars().find(|c| !is_plain(*c)) {
        let odd = format!("invalid character {:?} in host name", odd.to_string());
        return Err(malformed(odd));
    }
    let port = match port {
        "" => 0,
        port => port.parse().map_err(|_| Error::Port(port.to_owned()))?,
    };
    Ok(Place::Tcp { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn listens(text: &str, at: &str) {
        let address = match ListenUrl::parse(text).expect(text).address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        };
        assert_eq!(address, at, "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        assert_eq!(ListenUrl::parse(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn listeners_bind_to_addresses_and_sockets() {
        listens("http://127.0.0.1:2379", "127.0.0.1:2379");
        listens("https://0.0.0.0:0", "0.0.0.0:0");
        listens("http://localhost:2380", "127.0.0.1:2380");
        listens("http://[::1]:2379", "[::1]:2379");
        listens("unix:///run/orrery.sock", "/run/orrery.sock");
        listens("unix://localhost:m1", "localhost:m1");
        listens(" HTTP://127.0.0.1:1 ", "127.0.0.1:1");
    }

    #[test]
    fn what_cannot_be_bound_is_refused_in_etcds_words() {
        refuses(
            "127.0.0.1:2379",
            r#"parse "127.0.0.1:2379": first path segment in URL cannot contain colon"#,
        );
        refuses(":2379", r#"parse ":2379": missing protocol scheme"#);
        refuses("h:2379", "URL scheme must be http, https, unix, or unixs: h:2379");
        refuses(
            "ftp://1.2.3.4:1",
            "URL scheme must be http, https, unix, or unixs: ftp://1.2.3.4:1",
        );
        refuses("", "URL scheme must be http, https, unix, or unixs: ");
        refuses(
            "http://1.2.3.4",
            r#"URL address does not have the form "host:port": http://1.2.3.4"#,
        );
        refuses("http://::1:80", r#"parse "http://::1:80": invalid port "::1:80" after host"#);
        refuses("http://a@b:80", r#"parse "http://a@b:80": invalid character "@" in host name"#);
        refuses("http://[::1:80", r#"parse "http://[::1:80": missing ']' in host"#);
        refuses("http://1.2.3.4:80/x", "URL must not contain a path: http://1.2.3.4:80/x");
        refuses("http://1.2.3.4:65536", "listen tcp: address 65536: invalid port");
        refuses("http://1.2.3.4:+1", r#"parse "http://1.2.3.4:+1": invalid port ":+1" after host"#);
        refuses("http://example.com:80", "expected IP in URL for binding (http://example.com:80)");
        refuses("http://:80", "expected IP in URL for binding (http://:80)");
        refuses("unix://", "URL names no socket: unix://");
    }

    #[test]
    fn an_advertised_url_may_have_a_host_name_but_must_have_a_host() {
        let url = Url::parse_advertised("https://m1.example.com:2380").unwrap();
        assert!(url.tls);
        assert_eq!(url.to_string(), "https://m1.example.com:2380");
        let error = Url::parse_advertised("http://:2380").unwrap_err().to_string();
        assert_eq!(error, "unexpected empty host (http://:2380)");
    }
}
