//! How a member that has no data, and no `--initial-cluster`, learns who founds its cluster.

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use super::{ClusterState, Error, Url, raw::RawConfig};
use crate::tls;

#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// The flags name all founding members.
    None,
    /// A DNS domain lists them.
    Srv(Domain),
    /// They meet in an etcd cluster.
    Registry(Box<Registry>),
}

/// A domain with SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    /// Stands behind the service in the records' names; may be empty.
    pub service_name: String,
}

/// An etcd cluster where the founding members of another one meet, under a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// Never empty, sorted, each once.
    pub endpoints: Vec<Endpoint>,
    pub token: String,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// For the endpoints that are reached with TLS.
    pub tls: tls::Dialling,
    pub user: Option<User>,
}

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Without brackets if it is an IPv6 address.
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: String,
}

/// A password belongs in no log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Discovery {
    /// The checks and their order are etcd's.
    pub(crate) fn parse(raw: &RawConfig) -> Result<Discovery, Error> {
        let (domain, token) = (raw.text("discovery-srv"), raw.text("discovery-token"));
        let endpoints: BTreeSet<String> = raw.words("discovery-endpoints").into_iter().collect();
        let listed = raw.is_set("initial-cluster") && !raw.text("initial-cluster").is_empty();
        let ways = [listed, !domain.is_empty(), !endpoints.is_empty()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(Error::ManyWaysToFound);
        }
        if token.is_empty() != endpoints.is_empty() {
            return Err(Error::HalfADiscovery);
        }
        if !domain.is_empty() {
            let service_name = raw.text("discovery-srv-name").to_owned();
            return Ok(Discovery::Srv(Domain { name: domain.to_owned(), service_name }));
        }
        if endpoints.is_empty() {
            return Ok(Discovery::None);
        }
        Ok(Discovery::Registry(Box::new(registry(raw, token, &endpoints)?)))
    }

    /// Whether a member without data can begin so.
    pub fn check(&self, state: ClusterState) -> Result<(), Error> {
        match (self, state) {
            (Discovery::Registry(_), ClusterState::Existing) => Err(Error::DiscoveryWhenJoining),
            (Discovery::Registry(_), ClusterState::New)
            | (Discovery::None | Discovery::Srv(_), _) => Ok(()),
        }
    }
}

fn registry(raw: &RawConfig, token: &str, endpoints: &BTreeSet<String>) -> Result<Registry, Error> {
    let secure = !raw.bool("discovery-insecure-transport");
    let file = |flag| Some(PathBuf::from(raw.text(flag))).filter(|path| path.as_os_str() != "");
    let shown = match (file("discovery-cert"), file("discovery-key")) {
        (Some(cert), Some(key)) => Some(tls::Pair { cert, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::HalfACertificate {
                cert_flag: "discovery-cert",
                key_flag: "discovery-key",
                cert: raw.text("discovery-cert").to_owned(),
                key: raw.text("discovery-key").to_owned(),
            });
        }
    };
    let authority = file("discovery-cacert");
    // As in etcd's client: an endpoint without a scheme is reached as the flags say.
    let tls = secure || shown.is_some() || authority.is_some();
    let trust = match authority {
        _ if raw.bool("discovery-insecure-skip-tls-verify") => tls::Trust::Anybody,
        Some(path) => tls::Trust::File(path),
        None => tls::Trust::System,
    };
    if endpoints.iter().any(|part| part.trim().is_empty()) {
        return Err(Error::EmptyDiscoveryEndpoint);
    }
    let endpoints = endpoints.iter().map(|part| endpoint(part, tls));
    let name = raw.text("discovery-user");
    Ok(Registry {
        endpoints: endpoints.collect::<Result<_, _>>()?,
        token: token.to_owned(),
        dial_timeout: raw.duration("discovery-dial-timeout"),
        request_timeout: raw.duration("discovery-request-timeout"),
        keepalive_time: raw.duration("discovery-keepalive-time"),
        keepalive_timeout: raw.duration("discovery-keepalive-timeout"),
        tls: tls::Dialling { shown, trust, flags: FLAGS },
        user: (!name.is_empty()).then(|| User {
            name: name.to_owned(),
            password: raw.text("discovery-password").to_owned(),
        }),
    })
}

const FLAGS: tls::DiallingFlags = tls::DiallingFlags {
    cert: "discovery-cert",
    key: "discovery-key",
    trusted_ca: "discovery-cacert",
};

/// `http://host:port`, `https://host:port` or `host:port`.
fn endpoint(text: &str, tls: bool) -> Result<Endpoint, Error> {
    let text = text.trim();
    let url = match text.contains("://") {
        true => text.to_owned(),
        false if tls => format!("https://{text}"),
        false => format!("http://{text}"),
    };
    let bad = |why: String| Error::BadValue {
        setting: "--discovery-endpoints".to_owned(),
        value: text.to_owned(),
        why,
    };
    let url =
        Url::parse_advertised(url.trim_end_matches('/')).map_err(|error| bad(error.to_string()))?;
    match url.place {
        super::Place::Tcp { host, port } => Ok(Endpoint { host, port, tls: url.tls }),
        super::Place::Unix(_) => Err(bad("expected a host and a port".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::raw, *};

    fn discovery(arguments: &str) -> Result<Discovery, Error> {
        let arguments = arguments.split_whitespace().map(Into::into);
        match raw::read(arguments, []).unwrap() {
            raw::Asked::Serve(raw) => Discovery::parse(&raw),
            raw::Asked::Help | raw::Asked::Version => panic!("{arguments:?}", arguments = "asked"),
        }
    }

    #[track_caller]
    fn refuses(arguments: &str, message: &str) {
        assert_eq!(discovery(arguments).unwrap_err().to_string(), message, "{arguments}");
    }

    /// The members meet at these endpoints, reached with TLS or without.
    #[track_caller]
    fn meets(arguments: &str, endpoints: &[(&str, u16, bool)]) -> Registry {
        let Ok(Discovery::Registry(registry)) = discovery(arguments) else { panic!("{arguments}") };
        let found = registry.endpoints.iter();
        let found: Vec<_> = found.map(|it| (it.host.as_str(), it.port, it.tls)).collect();
        assert_eq!(found, endpoints, "{arguments}");
        *registry
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused_in_etcds_words() {
        let many = "multiple discovery or bootstrap flags are set. Choose one of \
                    \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"";
        refuses("--discovery-srv=x --initial-cluster=a=http://h:1", many);
        refuses("--discovery-srv=x --discovery-endpoints=y --discovery-token=t", many);
        refuses("--initial-cluster=a=http://h:1 --discovery-endpoints=y", many);
        let half = "both --discovery-token and --discovery-endpoints must be set";
        refuses("--discovery-endpoints=y:1", half);
        refuses("--discovery-token=t", half);
        let empty = "--discovery-endpoints must not contain empty endpoints";
        refuses("--discovery-token=t --discovery-endpoints=y:1,,z:1", empty);
        let joining = "discovery URL should not be set when joining existing initial cluster";
        let registry = discovery("--discovery-token=t --discovery-endpoints=y:1").unwrap();
        let error = registry.check(ClusterState::Existing).unwrap_err();
        assert_eq!(error.to_string(), joining);
        assert!(registry.check(ClusterState::New).is_ok());
    }

    #[test]
    fn without_flags_there_is_nothing_to_discover() {
        assert_eq!(discovery("--initial-cluster=a=http://h:1"), Ok(Discovery::None));
        assert_eq!(discovery("--initial-cluster= --discovery-srv-name=x"), Ok(Discovery::None));
        let domain = Domain { name: "example.com".to_owned(), service_name: "two".to_owned() };
        let found = discovery("--discovery-srv=example.com --discovery-srv-name=two");
        assert_eq!(found, Ok(Discovery::Srv(domain)));
    }

    #[test]
    fn an_endpoint_is_reached_as_its_scheme_says_or_as_the_flags_do() {
        let token = "--discovery-token=t --discovery-endpoints";
        let registry = meets(
            &format!("{token}=https://b:2,http://a:1,a:1,[::1]:3"),
            &[("::1", 3, false), ("a", 1, false), ("a", 1, false), ("b", 2, true)],
        );
        assert_eq!(registry.tls.trust, tls::Trust::System);
        assert_eq!(registry.user, None);
        meets(&format!("{token}=a:1 --discovery-insecure-transport=false"), &[("a", 1, true)]);
        meets(&format!("{token}=http://a:1 --discovery-cacert=c"), &[("a", 1, false)]);
        let registry = meets(
            &format!(
                "{token}=a:1 --discovery-cert=c --discovery-key=k --discovery-user=u \
                 --discovery-password=secret --discovery-insecure-skip-tls-verify"
            ),
            &[("a", 1, true)],
        );
        assert_eq!(registry.tls.trust, tls::Trust::Anybody);
        assert!(!format!("{registry:?}").contains("secret"));
        let half = "KeyFile and CertFile must both be present[key: , cert: c]";
        refuses(&format!("{token}=a:1 --discovery-cert=c"), half);
        refuses(
            &format!("{token}=a"),
            "invalid value \"a\" for --discovery-endpoints: URL address does not have the form \
             \"host:port\": http://a",
        );
    }
}
