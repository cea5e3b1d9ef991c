//! `orrery wan`: the network between regions, played by one process on one machine.
//!
//! Each region has an HTTP proxy. A process in region A reaches a member in region B by the name
//! `NAME.B.CLUSTER.test`, which only proxies know, through A's proxy; so the proxy knows source and
//! target, and delays bytes by half the round trip between them. What cannot use a proxy connects
//! to a relay instead: one port for each region and member. A file says who there is; a socket
//! takes faults.

pub(crate) mod control;
pub(crate) mod fault;
pub(crate) mod matrix;
pub(crate) mod topology;

mod door;
mod head;
mod opening;
mod pipe;
mod timer;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use serde_json::{Map, Value};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use self::{
    fault::{Faults, Link, Spot},
    matrix::Matrix,
    topology::{Seat, Topology, host_name},
};
use super::snapshot::{Parsed, parse};
use crate::{raft::network::remove_left_over, telemetry};

/// Connections carried at a time. Each may hold two pipes' worth of bytes in flight, so this also
/// bounds the memory; fifteen members in five regions need a quarter of it.
const CONNECTIONS_MAX: usize = 4096;

/// Play the network between regions on this machine.
///
/// A file (JSON) says which regions and members there are; `orrery up` writes one.
#[derive(Debug, Parser)]
#[command(name = "orrery wan")]
struct Arguments {
    /// Who there is and where: regions, members, relays, round trips.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,

    /// Round trips to go by instead: {"names": [...], "milliseconds": [[...]]}.
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
}

/// Everybody there is, and what is wrong between them.
#[derive(Debug)]
pub(crate) struct World {
    topology: Topology,
    pub(crate) faults: Faults,
    connections: Arc<Semaphore>,
}

/// `arguments` begin with the word `wan`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Arguments =
        match parse(arguments).map_err(|it| anyhow!("wan: {}", it.message))? {
            Parsed::Print(text) => return super::print(&text),
            Parsed::Run(arguments) => arguments,
        };
    let topology = read(&arguments).context("wan")?;
    // Each connection is five of them.
    super::serve::allow_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(serve(topology)).context("wan")?;
    Ok(ExitCode::SUCCESS)
}

fn read(arguments: &Arguments) -> anyhow::Result<Topology> {
    let text =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let path = &arguments.topology;
    let about = || path.display().to_string();
    let mut topology: Topology = serde_json::from_str(&text(path)?).with_context(about)?;
    if let Some(path) = &arguments.matrix {
        let matrix = Matrix::parse(&text(path)?);
        topology.matrix = matrix.with_context(|| path.display().to_string())?;
    }
    topology.check().with_context(about)?;
    // Beside the file, wherever the process was started.
    let folder = path.parent().unwrap_or(std::path::Path::new("")).to_owned();
    topology.control = folder.join(&topology.control);
    Ok(topology)
}

async fn serve(topology: Topology) -> anyhow::Result<()> {
    let (mut stop, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let world = World::new(topology);
    let control = world.listen().await?;
    telemetry::say(
        "info",
        "playing the network between regions",
        &Map::from_iter([
            ("regions".to_owned(), Value::from(world.topology.regions.len())),
            ("members".to_owned(), Value::from(world.topology.members.len())),
            ("control".to_owned(), Value::from(world.topology.control.display().to_string())),
        ]),
    );
    tokio::select! {
        _ = stop.recv() => (),
        _ = interrupt.recv() => (),
        () = control::serve(control, world.clone()) => bail!("the control socket is gone"),
    }
    let _ = std::fs::remove_file(&world.topology.control);
    Ok(())
}

impl World {
    pub(crate) fn new(topology: Topology) -> Arc<World> {
        Arc::new(World {
            topology,
            faults: Faults::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Binds everything and serves proxies and relays; the control socket is returned.
    pub(crate) async fn listen(self: &Arc<World>) -> anyhow::Result<UnixListener> {
        let control = &self.topology.control;
        let taken = |what: String| move || format!("{what}: cannot listen");
        remove_left_over(control).await?;
        let mut doors = Vec::new();
        for region in &self.topology.regions {
            let about = taken(format!("proxy of {} at {}", region.name, region.proxy));
            let listener = TcpListener::bind(region.proxy).await.with_context(about)?;
            doors.push((listener, door::Door::Proxy { region: region.name.clone() }));
        }
        for relay in &self.topology.relays {
            let (region, member) = (relay.region.clone(), relay.member.clone());
            let about = taken(format!("relay of {region} to {member} at {}", relay.listen));
            let listener = TcpListener::bind(relay.listen).await.with_context(about)?;
            doors.push((listener, door::Door::Relay { region, member, port: relay.port }));
        }
        let control = UnixListener::bind(control)
            .with_context(|| format!("{}: cannot listen", control.display()))?;
        for (listener, door) in doors {
            tokio::spawn(door::serve(listener, door, self.clone()));
        }
        Ok(control)
    }

    fn member(&self, name: &str) -> Option<&Seat> {
        self.topology.members.iter().find(|seat| seat.name == name)
    }

    /// The member of a name as members' URLs have it.
    fn resolve(&self, host: &str) -> Option<&Seat> {
        let cluster = &self.topology.cluster;
        let host = host.to_ascii_lowercase();
        self.topology
            .members
            .iter()
            .find(|seat| host == host_name(&seat.name, &seat.region, cluster))
    }

    /// The way from one spot to another.
    fn link(&self, from: &Spot, to: &Spot) -> Link {
        let round_trip = self.topology.matrix.round_trip(&from.region, &to.region);
        // A topology that was checked has every pair.
        let one_way = round_trip.unwrap_or_default() / 2;
        self.faults.link(from.clone(), to.clone(), one_way)
    }
}
