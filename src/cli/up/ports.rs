//! Ports on loopback: chosen once, and the same at every start after that.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// Where the search for ports begins: below those that systems give to outgoing connections.
const FIRST: u16 = 23_790;

/// Clusters beside each other for which there is room.
const BLOCKS_MAX: u16 = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// In the order of the plan's members.
    pub(crate) members: Vec<MemberPorts>,
    /// In the order of the plan's regions.
    pub(crate) proxies: Vec<u16>,
    pub(crate) relays: Vec<RelayPort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberPorts {
    pub(crate) client: u16,
    pub(crate) peer: u16,
}

/// For clients in a region to a member in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayPort {
    pub(crate) region: String,
    pub(crate) member: String,
    pub(crate) port: u16,
}

impl Ports {
    /// Free ones: from `first` on, or wherever the system likes for 0, or the first block that is
    /// free for `None`.
    pub(super) fn choose(plan: &Plan, first: Option<u16>) -> anyhow::Result<Ports> {
        let count = Ports::count(plan);
        let ports = match first {
            Some(0) => of_the_system(count).context("--port 0")?,
            Some(first) => {
                let ports = Ports::assign(plan, &block(first, count)?);
                for (port, what) in ports.named(plan) {
                    free(port).with_context(|| format!("--port {first}: {port} for {what}"))?;
                }
                return Ok(ports);
            }
            None => first_free(count)?,
        };
        Ok(Ports::assign(plan, &ports))
    }

    fn count(plan: &Plan) -> usize {
        let (members, regions) = (plan.members.len(), plan.account.locations.len());
        // Each member has two, each region a proxy, and a relay to each member elsewhere.
        members * 2 + regions + members * (regions - 1)
    }

    /// Clients' ports come first, so that the first member's is the first of all.
    fn assign(plan: &Plan, ports: &[u16]) -> Ports {
        let mut ports = ports.iter().copied();
        let mut next = || ports.next().unwrap_or_default();
        let clients: Vec<u16> = plan.members.iter().map(|_| next()).collect();
        let members =
            clients.into_iter().map(|client| MemberPorts { client, peer: next() }).collect();
        let proxies = plan.account.locations.iter().map(|_| next()).collect();
        let mut relays = Vec::new();
        for region in plan.regions() {
            for seat in plan.members.iter().filter(|seat| seat.region != region) {
                let (region, member) = (region.clone(), seat.name.clone());
                relays.push(RelayPort { region, member, port: next() });
            }
        }
        Ports { members, proxies, relays }
    }

    /// Each with what it is for.
    fn named(&self, plan: &Plan) -> Vec<(u16, String)> {
        let mut named = Vec::new();
        for (ports, seat) in self.members.iter().zip(&plan.members) {
            named.push((ports.client, format!("clients of {}", seat.name)));
            named.push((ports.peer, format!("peers of {}", seat.name)));
        }
        named.extend(self.of_the_network(plan));
        named
    }

    /// Those that the process listens on that plays the network.
    fn of_the_network(&self, plan: &Plan) -> Vec<(u16, String)> {
        let proxies = self.proxies.iter().zip(plan.regions());
        let proxies = proxies.map(|(port, region)| (*port, format!("the proxy of {region}")));
        let relays = self.relays.iter();
        let relays =
            relays.map(|it| (it.port, format!("the relay from {} to {}", it.region, it.member)));
        proxies.chain(relays).collect()
    }

    /// Whether a process that is to start can have its ports: a member, by its number, or the
    /// network.
    pub(super) fn check(&self, plan: &Plan, member: Option<usize>) -> anyhow::Result<()> {
        let wanted = match member {
            None => self.of_the_network(plan),
            Some(at) => self.named(plan)[at * 2..at * 2 + 2].to_vec(),
        };
        for (port, what) in wanted {
            free(port).with_context(|| format!("port {port} for {what}"))?;
        }
        Ok(())
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn free(port: u16) -> anyhow::Result<()> {
    match listen(port) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("it is in use by another program")
        }
        Err(error) => Err(error.into()),
    }
}

fn block(first: u16, count: usize) -> anyhow::Result<Vec<u16>> {
    let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
    if ports.len() < count {
        bail!("--port {first}: {count} ports from there on are more than there are");
    }
    Ok(ports)
}

fn of_the_system(count: usize) -> io::Result<Vec<u16>> {
    // Kept until all are there, so that none comes twice.
    let listeners: Vec<TcpListener> = (0..count).map(|_| listen(0)).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn first_free(count: usize) -> anyhow::Result<Vec<u16>> {
    for at in 0..BLOCKS_MAX {
        let ports = block(FIRST + at * count as u16, count)?;
        if ports.iter().all(|port| listen(*port).is_ok()) {
            return Ok(ports);
        }
    }
    bail!("no {count} free ports from {FIRST} on; say where with --port")
}
