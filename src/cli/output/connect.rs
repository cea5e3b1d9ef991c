//! Where clients in each region connect, and doing so.

use std::{fs, time::Duration};

use anyhow::Context;
use serde::Serialize;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Identity};

use super::{Output, State};

/// A round trip around the earth, a few times: a connection with TLS takes three.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client in a region reaches a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub(crate) member: String,
    /// Where the member is.
    pub(crate) member_region: String,
    pub(crate) url: String,
    pub(crate) round_trip_ms: u64,
}

impl State {
    /// For clients in that region: its own members first, which they reach directly, then the
    /// others by the relays.
    pub(crate) fn endpoints(&self, region: &str) -> Vec<Endpoint> {
        let State { plan, ports, .. } = self;
        let relay = |member: &str| {
            let mut relays = ports.relays.iter();
            relays.find(|it| it.region == region && it.member == member).map(|it| it.port)
        };
        let members = plan.members.iter().zip(&ports.members);
        let mut endpoints: Vec<Endpoint> = members
            .filter_map(|(seat, ports)| {
                let is_here = seat.region == region;
                let port = if is_here { ports.client } else { relay(&seat.name)? };
                let round_trip = plan.matrix.round_trip(region, &seat.region).unwrap_or_default();
                Some(Endpoint {
                    member: seat.name.clone(),
                    member_region: seat.region.clone(),
                    url: format!("https://127.0.0.1:{port}"),
                    round_trip_ms: if is_here { 0 } else { round_trip.as_millis() as u64 },
                })
            })
            .collect();
        endpoints.sort_by_key(|endpoint| endpoint.member_region != region);
        endpoints
    }
}

impl Output {
    /// A connection with the client's certificate.
    pub(crate) async fn connect(&self, url: &str) -> anyhow::Result<Channel> {
        let read = |name: &str| {
            let path = self.path(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .identity(Identity::from_pem(read("etcdclient.crt")?, read("etcdclient.key")?));
        let endpoint = transport::Endpoint::from_shared(url.to_owned())?;
        let endpoint = endpoint.tls_config(tls)?.connect_timeout(CONNECT_TIMEOUT);
        endpoint.connect().await.with_context(|| url.to_owned())
    }
}
