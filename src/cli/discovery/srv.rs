//! The founding members out of a DNS domain: its SRV records `_etcd-server-ssl._tcp` for members
//! that are reached with TLS, and `_etcd-server._tcp` for the others.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_resolver::{TokioResolver, net::NetError, proto::rr::RData};
use tracing::{info, warn};

use crate::config::{Domain, Place, Url};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot resolve {host}: {error}")]
    OwnAddress { host: String, error: NetError },
    #[error("error setting up initial cluster: {0}; {1}")]
    NothingFound(Trouble, Trouble),
}

/// Why one of the two services has no members.
#[derive(Debug, thiserror::Error)]
#[error("error querying DNS SRV records for _{service}: {why}")]
pub(crate) struct Trouble {
    service: String,
    why: String,
}

/// The scheme of the members' URLs, and the service that lists them.
const SERVICES: [(&str, &str); 2] = [("https", "etcd-server-ssl"), ("http", "etcd-server")];

/// The members as `--initial-cluster` has them. The one that has an address of ours is ours; the
/// others have numbers for names, until they tell theirs.
pub(crate) async fn members(
    resolver: &TokioResolver,
    domain: &Domain,
    name: &str,
    advertise: &[Url],
) -> Result<Vec<String>, Error> {
    let mut search = Search { resolver, name, own: own(resolver, advertise).await?, unnamed: 0 };
    let mut found = Vec::new();
    let mut troubles = Vec::new();
    for (scheme, service) in SERVICES {
        let service = match domain.service_name.as_str() {
            "" => service.to_owned(),
            suffix => format!("{service}-{suffix}"),
        };
        let listed = search.service(scheme, &service, &domain.name).await;
        let error = listed.as_ref().err().cloned().unwrap_or_default();
        let found_cluster = listed.as_ref().map(|listed| listed.join(",")).unwrap_or_default();
        info!(
            service_scheme = scheme,
            service_name = service,
            server_name = name,
            discovery_srv = domain.name,
            found_cluster,
            error,
            "get cluster for {service} SRV"
        );
        match listed {
            Ok(listed) => found.extend(listed),
            Err(why) => troubles.push(Trouble { service, why }),
        }
    }
    match <[Trouble; 2]>::try_from(troubles) {
        Ok([encrypted, plain]) => Err(Error::NothingFound(encrypted, plain)),
        Err(_) => Ok(found),
    }
}

/// An address with its port.
type Socket = (IpAddr, u16);

struct Search<'a> {
    resolver: &'a TokioResolver,
    name: &'a str,
    /// Where this member is reached, and whether with TLS.
    own: Vec<(Socket, bool)>,
    /// Names given so far.
    unnamed: usize,
}

impl Search<'_> {
    async fn service(
        &mut self,
        scheme: &str,
        service: &str,
        domain: &str,
    ) -> Result<Vec<String>, String> {
        let query = format!("_{service}._tcp.{domain}");
        let answer = self.resolver.srv_lookup(query).await.map_err(|error| error.to_string())?;
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
            _ => None,
        });
        let mut members = Vec::new();
        let mut trouble = "no records".to_owned();
        for (_, target, port) in records.collect::<BTreeSet<_>>() {
            match self.member(scheme, service, target.trim_end_matches('.'), port).await {
                Ok(member) => members.push(member),
                Err(why) => {
                    warn!(error = why, "failed to resolve during SRV discovery");
                    trouble = why;
                }
            }
        }
        if members.is_empty() { Err(trouble) } else { Ok(members) }
    }

    async fn member(
        &mut self,
        scheme: &str,
        service: &str,
        host: &str,
        port: u16,
    ) -> Result<String, String> {
        let sockets = sockets(self.resolver, host, port).await.map_err(|it| it.to_string())?;
        let url = match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        let Some((_, tls)) = self.own.iter().find(|(own, _)| sockets.contains(own)) else {
            let name = self.unnamed;
            self.unnamed += 1;
            return Ok(format!("{name}={url}"));
        };
        if *tls != (scheme == "https") {
            let expected = if *tls { "https" } else { "http" };
            return Err(format!(
                "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer \
                 {expected}://{host}:{port}"
            ));
        }
        Ok(format!("{}={url}", self.name))
    }
}

async fn own(resolver: &TokioResolver, advertise: &[Url]) -> Result<Vec<(Socket, bool)>, Error> {
    let mut own = Vec::new();
    for url in advertise {
        let Place::Tcp { host, port } = &url.place else { continue };
        let found = sockets(resolver, host, *port).await;
        let found = found.map_err(|error| Error::OwnAddress { host: host.clone(), error })?;
        own.extend(found.into_iter().map(|socket| (socket, url.tls)));
    }
    Ok(own)
}

async fn sockets(resolver: &TokioResolver, host: &str, port: u16) -> Result<Vec<Socket>, NetError> {
    let found = resolver.lookup_ip(host).await?;
    Ok(found.iter().map(|address| (address, port)).collect())
}

#[cfg(test)]
mod tests;
