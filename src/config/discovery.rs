//! Who tells a member without data what its cluster is.

use std::{path::PathBuf, time::Duration};

use super::{Error, raw::RawConfig};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// An etcd that members of a new cluster register with.
    Service(Box<Service>),
    Dns(Dns),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Never empty.
    pub endpoints: Vec<String>,
    /// Of the new cluster; never empty.
    pub token: String,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// Connect without TLS.
    pub insecure_transport: bool,
    /// Do not check the service's certificate.
    pub insecure_skip_tls_verify: bool,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub cacert: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// SRV records of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub domain: String,
    /// What comes behind `etcd-server` and `etcd-server-ssl` in the name of the service.
    pub service_name: Option<String>,
}

/// Whether any flag asks for discovery, in which case the cluster is not this member alone.
pub(crate) fn is_asked(raw: &RawConfig) -> bool {
    let texts = ["discovery-srv", "discovery-srv-name"];
    texts.iter().any(|flag| !raw.text(flag).is_empty()) || !endpoints(raw).is_empty()
}

pub(crate) fn discovery(raw: &RawConfig) -> Result<Option<Discovery>, Error> {
    if raw.file.is_none() && raw.text("discovery-fallback") == "proxy" {
        return Err(Error::FallbackProxy);
    }
    let (domain, endpoints) = (raw.text("discovery-srv"), endpoints(raw));
    let named = raw.is_set("initial-cluster") && !raw.text("initial-cluster").is_empty();
    let ways = [named, !domain.is_empty(), !endpoints.is_empty()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(Error::ConflictingBootstrap);
    }
    let token = raw.text("discovery-token").to_owned();
    if token.is_empty() != endpoints.is_empty() {
        return Err(Error::HalfADiscovery);
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(Error::EmptyEndpoint);
    }
    if !domain.is_empty() {
        let service_name = text(raw, "discovery-srv-name");
        return Ok(Some(Discovery::Dns(Dns { domain: domain.to_owned(), service_name })));
    }
    if endpoints.is_empty() {
        return Ok(None);
    }
    Ok(Some(Discovery::Service(Box::new(Service {
        endpoints,
        token,
        dial_timeout: raw.duration("discovery-dial-timeout"),
        request_timeout: raw.duration("discovery-request-timeout"),
        keepalive_time: raw.duration("discovery-keepalive-time"),
        keepalive_timeout: raw.duration("discovery-keepalive-timeout"),
        insecure_transport: raw.bool("discovery-insecure-transport"),
        insecure_skip_tls_verify: raw.bool("discovery-insecure-skip-tls-verify"),
        cert: text(raw, "discovery-cert").map(PathBuf::from),
        key: text(raw, "discovery-key").map(PathBuf::from),
        cacert: text(raw, "discovery-cacert").map(PathBuf::from),
        user: text(raw, "discovery-user"),
        password: text(raw, "discovery-password"),
    }))))
}

fn endpoints(raw: &RawConfig) -> Vec<String> {
    let mut endpoints = raw.words("discovery-endpoints");
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

fn text(raw: &RawConfig, flag: &str) -> Option<String> {
    Some(raw.text(flag)).filter(|text| !text.is_empty()).map(str::to_owned)
}
