//! A connection's beginning: there and back as TCP's first packets go, held by a cut as they are.

use std::io;

use bytes::BytesMut;
use tokio::{io::AsyncReadExt, net::TcpStream, time::Instant};

use super::{
    World,
    fault::{Link, Spot},
    head::Refusal,
    pipe,
    timer::Timer,
};

/// What a client may say before it has an answer; a TLS hello has half a kilobyte.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// One end of a way, and the port at the other.
pub(super) struct Way {
    pub(super) from: Spot,
    pub(super) to: Spot,
    /// Where the target really is.
    pub(super) host: String,
    pub(super) port: u16,
}

/// How an attempt to reach the target ended.
pub(super) enum Opened {
    Open(TcpStream),
    Refused(Refusal),
    /// The client has left in the meantime.
    Left,
}

impl Way {
    /// Reaches the target, which takes a round trip.
    pub(super) async fn open(
        &self,
        world: &World,
        client: &mut TcpStream,
        early: &mut BytesMut,
    ) -> Opened {
        tokio::select! {
            opened = self.reach(world) => match opened {
                Ok(stream) => Opened::Open(stream),
                Err(refusal) => Opened::Refused(refusal),
            },
            () = hung_up(client, early) => Opened::Left,
        }
    }

    async fn reach(&self, world: &World) -> Result<TcpStream, Refusal> {
        let timer = Timer::fine();
        travel(&mut world.link(&self.from, &self.to), &timer).await;
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        travel(&mut world.link(&self.to, &self.from), &timer).await;
        let refused = |error: io::Error| {
            let error_type = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connection_refused",
                io::ErrorKind::TimedOut => "connection_timeout",
                _ => "destination_unavailable",
            };
            Refusal::gateway(error_type, format!("{}:{}: {error}", self.host, self.port))
        };
        let stream = connected.map_err(refused)?;
        // Delays are ours to make, not those of small packets that wait for company.
        stream.set_nodelay(true).map_err(refused)?;
        Ok(stream)
    }

    /// Carries bytes both ways until both ends have closed, or one is gone.
    pub(super) async fn carry(
        &self,
        world: &World,
        client: TcpStream,
        target: TcpStream,
        early: BytesMut,
    ) {
        let (there, back) = (world.link(&self.from, &self.to), world.link(&self.to, &self.from));
        let (from_client, to_client) = client.into_split();
        let (from_target, to_target) = target.into_split();
        let there = pipe::carry(from_client, to_target, early.freeze(), there, Timer::fine());
        let back =
            pipe::carry(from_target, to_client, BytesMut::new().freeze(), back, Timer::fine());
        // Who takes no more is gone; then so is what it said, once that has arrived.
        let _ = tokio::join!(there, back);
    }
}

/// One packet, one way.
async fn travel(link: &mut Link, timer: &Timer) {
    timer.until(Instant::now() + link.delay()).await;
    while link.is_cut() {
        link.changed().await;
    }
}

/// Returns when the client closes; keeps what it says.
async fn hung_up(client: &mut TcpStream, early: &mut BytesMut) {
    while early.len() < EARLY_BYTES_MAX {
        if client.read_buf(early).await.unwrap_or(0) == 0 {
            return;
        }
    }
    std::future::pending().await
}
