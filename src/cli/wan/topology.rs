//! Who there is, as a file says it.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::matrix::{self, Matrix};
use crate::region;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topology {
    /// The part of members' names before `.test`.
    pub(crate) cluster: String,
    /// The socket for faults, beside the file unless it is an absolute path.
    pub(crate) control: PathBuf,
    pub(crate) regions: Vec<Region>,
    pub(crate) members: Vec<Seat>,
    pub(crate) relays: Vec<Relay>,
    pub(crate) matrix: Matrix,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Region {
    pub(crate) name: String,
    /// Where processes in the region find their proxy.
    pub(crate) proxy: SocketAddr,
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    /// The host that it really listens on; the port is the one that is asked for.
    pub(crate) host: String,
}

/// A port that leads from a region to a member's port, for what cannot use a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relay {
    pub(crate) region: String,
    pub(crate) member: String,
    pub(crate) listen: SocketAddr,
    pub(crate) port: u16,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what} {name:?} stands there twice")]
    Twice { what: &'static str, name: String },
    #[error("{what} {name:?}: {rule}", rule = region::NAME_RULE)]
    Name { what: &'static str, name: String },
    #[error("{what} {name:?} names region {region:?}, which is not there")]
    Region { what: &'static str, name: String, region: String },
    #[error("a relay leads to member {0:?}, which is not there")]
    Member(String),
    #[error("the round trip between {0} and {1} is not known")]
    RoundTrip(String, String),
    #[error("matrix: {0}")]
    Matrix(#[from] matrix::Error),
}

/// The name by which members call each other, which only proxies know.
pub(crate) fn host_name(member: &str, region: &str, cluster: &str) -> String {
    format!("{member}.{region}.{cluster}.test")
}

impl Topology {
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.matrix.check()?;
        let regions = self.regions.iter().map(|region| &region.name);
        let members = self.members.iter().map(|seat| &seat.name);
        each_once("cluster", std::iter::once(&self.cluster))?;
        each_once("region", regions)?;
        each_once("member", members)?;
        let has = |name: &str| self.regions.iter().any(|region| region.name == name);
        let missing = |what, name: &str, region: &str| Error::Region {
            what,
            name: name.to_owned(),
            region: region.to_owned(),
        };
        for seat in &self.members {
            if !has(&seat.region) {
                return Err(missing("member", &seat.name, &seat.region));
            }
        }
        for relay in &self.relays {
            if !has(&relay.region) {
                return Err(missing("relay to", &relay.member, &relay.region));
            }
            if !self.members.iter().any(|seat| seat.name == relay.member) {
                return Err(Error::Member(relay.member.clone()));
            }
        }
        for one in &self.regions {
            for other in &self.regions {
                if self.matrix.round_trip(&one.name, &other.name).is_none() {
                    return Err(Error::RoundTrip(one.name.clone(), other.name.clone()));
                }
            }
        }
        Ok(())
    }
}

fn each_once<'a>(what: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let mut seen: Vec<&String> = Vec::new();
    for name in names {
        if !region::is_name(name) {
            return Err(Error::Name { what, name: name.clone() });
        }
        if seen.contains(&name) {
            return Err(Error::Twice { what, name: name.clone() });
        }
        seen.push(name);
    }
    Ok(())
}
