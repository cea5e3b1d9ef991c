//! Where connections come in: a region's proxy, and relays.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{
    World,
    fault::Spot,
    head::{self, Connect, Refusal},
    opening::{Opened, Way},
    topology::Seat,
};

/// A client that connects and says nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to accept where the process may open no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(super) enum Door {
    Proxy { region: String },
    Relay { region: String, member: String, port: u16 },
}

/// Never returns.
pub(super) async fn serve(listener: TcpListener, door: Door, world: Arc<World>) {
    loop {
        let permit = world.connections.clone().acquire_owned().await;
        let Ok(permit) = permit else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (door, world) = (door.clone(), world.clone());
        tokio::spawn(async move {
            // Whoever fails here has left, or will see that the connection is closed.
            let _ = door.enter(stream, &world).await;
            drop(permit);
        });
    }
}

impl Door {
    async fn enter(self, mut stream: TcpStream, world: &World) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match self {
            Door::Proxy { region } => proxy(&region, stream, world).await,
            Door::Relay { region, member, port } => {
                let Some(seat) = world.member(&member) else { return Ok(()) };
                let from = Spot { region, zone: None, member: None };
                let way = way(from, seat, port);
                let mut early = BytesMut::new();
                match way.open(world, &mut stream, &mut early).await {
                    Opened::Open(target) => way.carry(world, stream, target, early).await,
                    // As a refused connection looks to one that was let in already.
                    Opened::Refused(_) => stream.set_zero_linger()?,
                    Opened::Left => {}
                }
                Ok(())
            }
        }
    }
}

async fn proxy(region: &str, mut stream: TcpStream, world: &World) -> io::Result<()> {
    let Ok(Some((connect, early))) = timeout(HEAD_TIMEOUT, head::read(&mut stream)).await else {
        return Ok(());
    };
    let mut early = BytesMut::from(early);
    let opened = match connect.and_then(|connect| find(region, &connect, world)) {
        Err(refusal) => return refuse(stream, &refusal).await,
        Ok(way) => (way.open(world, &mut stream, &mut early).await, way),
    };
    match opened {
        (Opened::Open(target), way) => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            way.carry(world, stream, target, early).await;
            Ok(())
        }
        (Opened::Refused(refusal), _) => refuse(stream, &refusal).await,
        (Opened::Left, _) => Ok(()),
    }
}

async fn refuse(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    stream.write_all(refusal.response().as_bytes()).await?;
    stream.shutdown().await
}

/// From whom to whom.
fn find(region: &str, connect: &Connect, world: &World) -> Result<Way, Refusal> {
    let nobody = || Refusal::gateway("dns_error", format!("{}: no such member", connect.host));
    let target = world.resolve(&connect.host).ok_or_else(nobody)?;
    let from = match &connect.user {
        None => Spot { region: region.to_owned(), zone: None, member: None },
        Some(name) => {
            let own = world.member(name).filter(|seat| seat.region == region);
            let stranger = || {
                let text = format!("{name} is no member in {region}");
                Refusal::new("407 Proxy Authentication Required", text)
            };
            spot(own.ok_or_else(stranger)?)
        }
    };
    Ok(way(from, target, connect.port))
}

fn way(from: Spot, target: &Seat, port: u16) -> Way {
    Way { from, to: spot(target), host: target.host.clone(), port }
}

fn spot(seat: &Seat) -> Spot {
    Spot {
        region: seat.region.clone(),
        zone: Some(seat.zone.clone()),
        member: Some(seat.name.clone()),
    }
}
