//! Which connections to members go through a proxy, by the variables that Go's programs go by:
//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Address, PeerUrl};

/// What the three variables say, read as Go's `http.ProxyFromEnvironment` reads them. What makes no
/// sense is passed over, as there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https://` URLs.
    https: Option<Proxy>,
    /// For `http://` URLs.
    http: Option<Proxy>,
    /// What is reached without a proxy.
    exempt: Vec<Exempt>,
}

/// One proxy. Its credentials are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of the header `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    Everything,
    Network {
        first: IpAddr,
        bits: u8,
    },
    Ip {
        ip: IpAddr,
        port: Option<String>,
    },
    /// The names that end so, which begins with a dot; and, unless only those are meant, the name
    /// itself.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<String>,
    },
}

impl Proxies {
    /// From the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; empty for those not set.
    pub fn parse(https: &str, http: &str, exempt: &str) -> Proxies {
        Proxies {
            https: Proxy::parse(https),
            http: Proxy::parse(http),
            exempt: parse_exempt(exempt),
        }
    }

    /// The proxy through which the member at this URL is reached; `None` for none.
    pub fn of(&self, url: &PeerUrl) -> Option<&Proxy> {
        let Address::Tcp { host, port } = &url.address else { return None };
        let proxy = if url.tls { self.https.as_ref() } else { self.http.as_ref() }?;
        self.is_used(host, *port).then_some(proxy)
    }

    fn is_used(&self, host: &str, port: u16) -> bool {
        let ip: Option<IpAddr> = host.parse().ok();
        let ip = ip.map(|ip| ip.to_canonical());
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return false;
        }
        let (host, port) = (host.trim().to_lowercase(), port.to_string());
        !self.exempt.iter().any(|exempt| exempt.covers(&host, ip, &port))
    }
}

impl Exempt {
    fn covers(&self, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
        let fits = |wanted: &Option<String>| wanted.as_deref().is_none_or(|it| it == port);
        match (self, ip) {
            (Exempt::Everything, _) => true,
            (Exempt::Network { first, bits }, Some(ip)) => shares(*first, ip, *bits),
            (Exempt::Ip { ip: exempt, port }, Some(ip)) => *exempt == ip && fits(port),
            (Exempt::Domain { suffix, itself, port }, None) => {
                let is_it = *itself && host == &suffix[1..];
                (is_it || host.ends_with(suffix.as_str())) && fits(port)
            }
            (Exempt::Network { .. } | Exempt::Ip { .. }, None)
            | (Exempt::Domain { .. }, Some(_)) => false,
        }
    }
}

/// Whether two addresses of one kind begin with the same bits.
fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn parse_exempt(text: &str) -> Vec<Exempt> {
    let mut found = Vec::new();
    for part in text.split(',').map(|part| part.trim().to_lowercase()) {
        match part.as_str() {
            "" => {}
            "*" => return vec![Exempt::Everything],
            part => found.extend(exempt(part)),
        }
    }
    found
}

/// `None` for what names nothing.
fn exempt(part: &str) -> Option<Exempt> {
    if let Some((ip, bits)) = part.split_once('/')
        && let (Ok(first), Ok(bits)) = (ip.parse::<IpAddr>(), bits.parse::<u8>())
        && bits <= if first.is_ipv4() { 32 } else { 128 }
    {
        return Some(Exempt::Network { first, bits });
    }
    let (host, port) = split_port(part).unwrap_or((part, ""));
    let port = (!port.is_empty()).then(|| port.to_owned());
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Exempt::Ip { ip: ip.to_canonical(), port });
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        _ if host.is_empty() => None,
        Some(_) => Some(Exempt::Domain { suffix: host.to_owned(), itself: false, port }),
        None => Some(Exempt::Domain { suffix: format!(".{host}"), itself: true, port }),
    }
}

/// `host:port` or `[ip]:port`, and nothing else.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => Some((inner.strip_suffix(']')?, port)),
        None if host.contains([':', ']']) => None,
        None => Some((host, port)),
    }
}

impl Proxy {
    /// A URL, or `host:port` alone for one of `http`. `None` for what is neither.
    fn parse(text: &str) -> Option<Proxy> {
        if text.is_empty() {
            return None;
        }
        let whole = text.split_once("://").filter(|(scheme, rest)| {
            let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            scheme.starts_with(char::is_alphabetic)
                && scheme.chars().all(is_scheme)
                && !rest.starts_with('/')
        });
        let (scheme, rest) = whole.unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match split_port(place) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => {
                (place.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(place), None)
            }
        };
        let usual = if scheme == "https" { 443 } else { 80 };
        (!host.is_empty()).then(|| Proxy {
            port: port.unwrap_or(usual),
            host: host.to_owned(),
            authorization: user.map(authorization),
            scheme,
        })
    }
}

/// `user:password` of a URL, in the words of HTTP.
fn authorization(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = unescape(name);
    plain.push(b':');
    plain.extend(unescape(password));
    format!("Basic {}", BASE64_STANDARD.encode(plain))
}

/// What `%XX` stands for; anything else stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let escaped = match (*first, behind) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    plain
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxy { scheme, host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the member at `url` is reached through, as Go would.
    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&url.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_proxy_and_loopback_has_none() {
        let proxies = Proxies::parse("http://s:1", "p:2", "");
        #[track_caller]
        fn check(proxies: &Proxies, url: &str, expected: Option<&str>) {
            assert_eq!(through(proxies, url).as_deref(), expected, "{url}");
        }
        check(&proxies, "https://m1.example:2380", Some("http://s:1"));
        check(&proxies, "http://m1.example:2380", Some("http://p:2"));
        check(&proxies, "https://10.0.0.1:2380", Some("http://s:1"));
        check(&proxies, "https://localhost:2380", None);
        check(&proxies, "https://127.3.2.1:2380", None);
        check(&proxies, "https://[::1]:2380", None);
        check(&proxies, "https://[::ffff:127.0.0.1]:2380", None);
        check(&proxies, "unixs:///run/peer.sock", None);
        let only_one = Proxies::parse("", "http://p:2", "");
        check(&only_one, "https://m1.example:2380", None);
    }

    #[test]
    fn a_proxy_is_a_url_or_a_host_and_a_port() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, Option<&str>)>) {
            let proxy = Proxy::parse(text);
            let found = proxy.as_ref().map(|it| (it.to_string(), it.authorization.clone()));
            let expected = expected.map(|(it, word)| (it.to_owned(), word.map(str::to_owned)));
            assert_eq!(found, expected, "{text}");
        }
        check("", None);
        check("http://p", Some(("http://p:80", None)));
        check("HTTPS://p/", Some(("https://p:443", None)));
        check("p:3128", Some(("http://p:3128", None)));
        check("127.0.0.1:3128", Some(("http://127.0.0.1:3128", None)));
        check("http://[::1]:3128", Some(("http://[::1]:3128", None)));
        check("http://m1@p:1", Some(("http://p:1", Some("Basic bTE6"))));
        check("http://a%3Ab:c%20d@p:1", Some(("http://p:1", Some("Basic YTpiOmMgZA=="))));
        check("socks5://p:1", Some(("socks5://p:1", None)));
        check("http://p:99999", None);
        check("http://:1", None);
        assert!(!format!("{:?}", Proxy::parse("http://a:secret@p:1")).contains("secret"));
    }

    #[test]
    fn what_is_exempt_is_read_as_go_reads_it() {
        #[track_caller]
        fn check(exempt: &str, url: &str, is_exempt: bool) {
            let proxies = Proxies::parse("http://p:1", "", exempt);
            assert_eq!(through(&proxies, url).is_none(), is_exempt, "{exempt}: {url}");
        }
        for (url, is_exempt) in [
            ("https://foo.com:1", true),
            ("https://bar.FOO.com:1", true),
            ("https://xfoo.com:1", false),
        ] {
            check("x,foo.com", url, is_exempt);
            check(" Foo.Com:1 ", url, is_exempt);
            check("foo.com:2", url, false);
            check("*", url, true);
            check("10.0.0.0/8", url, false);
        }
        for dotted in [".foo.com", "*.foo.com"] {
            check(dotted, "https://foo.com:1", false);
            check(dotted, "https://bar.foo.com:1", true);
        }
        check("10.0.0.0/8,192.168.1.1", "https://10.9.8.7:1", true);
        check("10.0.0.0/8,192.168.1.1", "https://11.9.8.7:1", false);
        check("192.168.1.1:2", "https://192.168.1.1:1", false);
        check("192.168.1.1:1", "https://192.168.1.1:1", true);
        check("fd00::/8", "https://[fd00::1]:1", true);
        check("[fd00::1]:1", "https://[fd00::1]:1", true);
        check("fd00::1", "https://[fd00::1]:7", true);
        check("0.0.0.0/0", "https://[fd00::1]:1", false);
        check(",:8,.", "https://foo.com:1", false);
        check("foo.*", "https://foo.com:1", false);
    }
}
