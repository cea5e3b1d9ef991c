//! Reaching a member: its addresses tried in turn, TLS, the handshake; and the pauses in between.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustls::pki_types::ServerName;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Gate, Identity, PeerError,
    handshake::{self, Hello, Lane},
    wire::{Terms, Wire},
};
use crate::{
    raft::network::{Address, Network, PeerUrl, Stream, Tls},
    telemetry::PeerMeter,
    types::MemberId,
};

/// How long one address may take to accept a connection. Several round trips around the earth, or
/// one lost packet (the first retransmission comes after a second).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long TLS and the handshake may take on either side.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

const PAUSE_MIN: Duration = Duration::from_millis(50);
/// A member that comes back is found within this time even when it does not dial us.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Makes connections on one lane to one member.
pub(super) struct Dialer {
    pub(super) identity: Identity,
    pub(super) target: MemberId,
    pub(super) lane: Lane,
    pub(super) addresses: Arc<ArcSwap<Vec<PeerUrl>>>,
    pub(super) network: Arc<dyn Network>,
    pub(super) tls: Option<Tls>,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) terms: Terms,
    pub(super) meter: PeerMeter,
}

impl Dialer {
    /// A connection on which both sides have agreed, over the first address that works.
    pub(super) async fn dial(&self) -> Result<Wire, PeerError> {
        let mut result = Err(PeerError::unreachable(io::ErrorKind::NotFound, "it has no address"));
        for url in self.addresses.load_full().iter() {
            result = self.dial_at(url).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn dial_at(&self, url: &PeerUrl) -> Result<Wire, PeerError> {
        let failed =
            |error: io::Error| PeerError::unreachable(error.kind(), format!("{url}: {error}"));
        let mut stream = connect(&*self.network, self.tls.as_ref(), url).await.map_err(failed)?;
        let hello = Hello {
            cluster: self.identity.cluster,
            member: self.identity.member,
            incarnation: self.identity.incarnation,
            target: self.target,
            lane: self.lane,
            group: self.terms.group,
        };
        let answer = bounded(HANDSHAKE_TIMEOUT, handshake::introduce(&mut stream, &hello));
        let answer = answer.await.map_err(failed)?;
        answer.verdict.map_err(|refusal| {
            self.gate.refused(self.target, &refusal);
            PeerError::Refused(refusal)
        })?;
        self.gate.admit(self.target, answer.incarnation).map_err(PeerError::Unrecognised)?;
        let wire = Wire::new(stream, BytesMut::new(), self.terms);
        Ok(wire.speaking(answer.format).metered(&self.meter))
    }
}

/// A stream to the address, with TLS when its scheme says so.
pub(super) async fn connect(
    network: &dyn Network,
    tls: Option<&Tls>,
    url: &PeerUrl,
) -> io::Result<Stream> {
    let stream = bounded(CONNECT_TIMEOUT, network.dial_url(url)).await?;
    if !url.tls {
        return Ok(stream);
    }
    let no_tls = || io::Error::new(io::ErrorKind::InvalidInput, "no TLS is configured");
    let config = (tls.ok_or_else(no_tls)?.client)();
    let host = match &url.address {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Unix(_) => "localhost",
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(config).connect(name, stream);
    Ok(Box::new(bounded(HANDSHAKE_TIMEOUT, stream).await?))
}

/// An I/O error when the future takes longer.
pub(super) async fn bounded<T>(
    limit: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// When to dial again: pauses double, and each is shortened by up to a quarter so that members that
/// lost each other at one moment do not all dial at one moment.
pub(super) struct Backoff {
    pause: Duration,
    random: StdRng,
    wake: Arc<Notify>,
}

impl Backoff {
    /// `wake` ends a pause early: the member has shown that it is there.
    pub(super) fn new(seed: u64, wake: Arc<Notify>) -> Backoff {
        Backoff { pause: Duration::ZERO, random: StdRng::seed_from_u64(seed), wake }
    }

    /// To be called when a connection ended. One that did not last is no sign of health: two
    /// members that keep closing each other's connections must not do so as fast as they can.
    pub(super) fn ended(&mut self, since: Instant) {
        if since.elapsed() >= PAUSE_MAX {
            self.pause = Duration::ZERO;
        }
    }

    /// The end of the pause that is due now; the next one is longer.
    pub(super) fn next(&mut self) -> Instant {
        let shortened = self.random.random_range(0.75..=1.0);
        let end = Instant::now() + self.pause.mul_f64(shortened);
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        end
    }

    /// Waits until `end` or until the member shows itself.
    pub(super) async fn wait(&self, end: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(end) => (),
            () = self.wake.notified() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff: &mut Backoff, count: usize) -> Vec<Duration> {
        (0..count).map(|_| backoff.next() - Instant::now()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_from_nothing_to_a_second() {
        let mut backoff = Backoff::new(1, Arc::default());
        let found = pauses(&mut backoff, 8);
        for (pause, full_ms) in found.iter().zip([0, 50, 100, 200, 400, 800, 1000, 1000]) {
            let full = Duration::from_millis(full_ms);
            assert!(*pause <= full && *pause >= full.mul_f64(0.74), "{pause:?} of {full:?}");
        }
        assert_eq!(found, pauses(&mut Backoff::new(1, Arc::default()), 8), "a seed replays");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_lasted_resets_the_pause() {
        let mut backoff = Backoff::new(1, Arc::default());
        pauses(&mut backoff, 8);
        let start = Instant::now();
        backoff.ended(start);
        assert!(backoff.next() > start);
        tokio::time::advance(PAUSE_MAX).await;
        backoff.ended(start);
        assert_eq!(backoff.next(), Instant::now());
    }
}
