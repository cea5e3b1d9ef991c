//! The connections between members.
//!
//! To each other member a member keeps one connection per lane that it dials itself; what a member
//! asks and what it is asked never share a connection. Whoever is let in was judged by the
//! [`Gate`]; what it asks goes to the [`Handler`]. Nothing is ever sent twice: a request whose
//! connection ends fails, and who made it decides.

mod accept;
mod dial;
mod error;
mod handshake;
mod incoming;
mod pages;
mod replication;
mod serve;
mod snapshot;
mod urgent;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream::BoxStream};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use error::{PeerError, SnapshotError};
pub use handshake::{Lane, Refusal};
pub use pages::{FetchError, fetch_members};
pub use replication::{AppendReceiver, AppendSender};

use self::{
    dial::{Backoff, Dialer},
    incoming::{Incoming, Seldom},
    wire::Terms,
};
use super::{
    message::{AppendReply, AppendRequest, Failed, Reply, Request, SnapshotReply, SnapshotStart},
    network::{Listener, Network, PeerUrl, Tls},
};
use crate::{
    proto::etcdserverpb::Member,
    telemetry::{METERS, PeerMeter},
    types::{ClusterId, MemberId},
};

/// Who this member is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Made with the data directory.
    pub incarnation: u64,
    /// The Raft group; there is one now, number 0.
    pub group: u32,
}

pub struct Options {
    pub identity: Identity,
    pub network: Arc<dyn Network>,
    /// For peer URLs with TLS; those fail without it.
    pub tls: Option<Tls>,
    pub gate: Arc<dyn Gate>,
    /// A connection with unanswered requests and no sign of life for this long is closed. About one
    /// election timeout.
    pub dead_after: Duration,
    /// No larger message is sent or received:
    /// [`PAYLOAD_BYTES_MAX`](super::frame::PAYLOAD_BYTES_MAX) unless requests may be larger than
    /// that. The same on all members.
    pub payload_bytes_max: usize,
    /// For the randomness of pauses between dials.
    pub seed: u64,
}

/// Judges other members.
pub trait Gate: Send + Sync {
    /// Whether the member may talk to this one, and whether what answers under its id is it. A
    /// member whose recorded incarnation is another has lost its data and must not come back under
    /// its id.
    fn admit(&self, member: MemberId, incarnation: u64) -> Result<(), Refusal>;

    /// The member `by` does not let this one in. Called at every dial, about once a second.
    fn refused(&self, by: MemberId, refusal: &Refusal);
}

/// The requests of one append stream, in order.
pub type AppendRequests = ReceiverStream<AppendRequest>;

/// The chunks of one snapshot. It is complete when the stream ends without an error.
pub type SnapshotChunks = ReceiverStream<Result<Bytes, SnapshotError>>;

/// Answers what other members ask. A future is dropped when the connection ends.
pub trait Handler: Send + Sync + 'static {
    /// What came over the urgent lane. A single append is a heartbeat.
    fn answer(&self, from: MemberId, request: Request) -> BoxFuture<'_, Result<Reply, Failed>>;

    /// One reply for each request, in order. The stream ends after a conflict or a higher vote.
    fn append_stream(
        &self,
        from: MemberId,
        requests: AppendRequests,
    ) -> BoxStream<'_, Result<AppendReply, Failed>>;

    fn snapshot(
        &self,
        from: MemberId,
        start: SnapshotStart,
        chunks: SnapshotChunks,
    ) -> BoxFuture<'_, Result<SnapshotReply, Failed>>;

    /// The JSON body of `GET /version`.
    fn version(&self) -> String;

    /// For `GET /members`.
    fn members(&self) -> Vec<Member>;
}

/// The state of the urgent connection to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Being dialled, for the first time or after it was up.
    Dialling,
    Up {
        since: Instant,
    },
    /// The last dial failed. It is tried again and again.
    Down {
        since: Instant,
        error: PeerError,
    },
}

impl Link {
    fn error(&self) -> Option<PeerError> {
        match self {
            Link::Dialling | Link::Up { .. } => None,
            Link::Down { error, .. } => Some(error.clone()),
        }
    }
}

/// Handle to the connections; clones share them.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    peers: Mutex<BTreeMap<MemberId, Peer>>,
    incoming: Incoming,
    /// One line a second about connections that come to nothing.
    strangers: Seldom,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Another member, as seen from here.
struct Peer {
    addresses: Arc<ArcSwap<Vec<PeerUrl>>>,
    urgent: mpsc::Sender<urgent::Pending>,
    replication: mpsc::Sender<replication::Opening>,
    link: watch::Receiver<Link>,
    wakes: [Arc<Notify>; 2],
    /// Ends the lanes at once.
    stop: CancellationToken,
}

/// A port that is open and not served yet.
pub struct Bound {
    /// With the port that the system chose for port 0.
    pub url: PeerUrl,
    listener: Box<dyn Listener>,
}

impl Peers {
    pub fn new(options: Options) -> Peers {
        let own = options.identity.member;
        METERS.peers.known(own, own, true);
        let shared = Shared {
            options,
            peers: Mutex::default(),
            incoming: Incoming::default(),
            strangers: Seldom::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Peers { shared: Arc::new(shared) }
    }

    /// Opens the port of a peer URL.
    pub async fn bind(&self, url: &PeerUrl) -> io::Result<Bound> {
        if url.tls && self.shared.options.tls.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no TLS is configured"));
        }
        let listener = self.shared.options.network.bind(&url.address).await?;
        let address = listener.local()?;
        Ok(Bound { url: PeerUrl { tls: url.tls, address }, listener })
    }

    /// Lets members in at that port.
    pub fn serve(&self, bound: Bound, handler: Arc<dyn Handler>) {
        let shared = Arc::clone(&self.shared);
        let tls = bound.url.tls;
        self.shared.tasks.spawn(accept::run(shared, bound.listener, tls, handler));
    }

    /// Where the member can be reached; its addresses are tried in turn. Connections that are up
    /// stay. This member's own id is ignored.
    pub fn set_addresses(&self, member: MemberId, addresses: Vec<PeerUrl>) {
        if member == self.shared.options.identity.member || self.shared.stop.is_cancelled() {
            return;
        }
        let mut peers = self.shared.peers();
        match peers.get(&member) {
            Some(peer) if **peer.addresses.load() == addresses => (),
            Some(peer) => {
                peer.addresses.store(Arc::new(addresses));
                peer.wake();
            }
            None => {
                METERS.peers.known(self.shared.options.identity.member, member, true);
                peers.insert(member, self.shared.start_lanes(member, addresses));
            }
        }
    }

    /// Closes all connections to and from the member. It may dial again: the [`Gate`] judges it
    /// then.
    pub fn remove(&self, member: MemberId) {
        if let Some(peer) = self.shared.peers().remove(&member) {
            peer.stop.cancel();
            METERS.peers.known(self.shared.options.identity.member, member, false);
        }
        self.shared.incoming.close(member);
    }

    /// Since when the urgent connection to the member is up.
    pub fn connected(&self, member: MemberId) -> Option<Instant> {
        match self.link(member).map(|link| link.borrow().clone()) {
            Some(Link::Up { since }) => Some(since),
            Some(Link::Dialling | Link::Down { .. }) | None => None,
        }
    }

    /// The state of the urgent connection to the member, and its changes.
    pub fn link(&self, member: MemberId) -> Option<watch::Receiver<Link>> {
        self.shared.peers().get(&member).map(|peer| peer.link.clone())
    }

    /// Asks over the urgent lane. Any number of requests can be under way.
    pub async fn request(
        &self,
        to: MemberId,
        request: Request,
        limit: Duration,
    ) -> Result<Reply, PeerError> {
        self.check_size(request.bytes())?;
        let queue = self.lane(to, |peer| peer.urgent.clone())?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let pending = urgent::Pending { request, answer };
            queue.send(pending).await.map_err(|_| PeerError::Stopped)?;
            answered.await.unwrap_or(Err(PeerError::Stopped))
        };
        match timeout(limit, asked).await {
            Ok(Ok(Reply::Failed(failed))) => Err(PeerError::Failed(failed)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                self.shared.meter(to).sent_failures.inc();
                Err(error)
            }
            Err(_) => {
                self.shared.meter(to).sent_failures.inc();
                Err(PeerError::TimedOut)
            }
        }
    }

    /// An opaque request of the layer above.
    pub async fn call(
        &self,
        to: MemberId,
        request: Bytes,
        limit: Duration,
    ) -> Result<Bytes, PeerError> {
        let reply = self.request(to, Request::Call(request), limit).await?;
        let Reply::Call(reply) = reply else { return Err(PeerError::WrongReply) };
        Ok(reply)
    }

    /// A new stream of append requests to the member, in place of the one before.
    pub async fn append_stream(
        &self,
        to: MemberId,
    ) -> Result<(AppendSender, AppendReceiver), PeerError> {
        let queue = self.lane(to, |peer| peer.replication.clone())?;
        let (opening, opened) = oneshot::channel();
        queue.send(opening).await.map_err(|_| PeerError::Stopped)?;
        opened.await.unwrap_or(Err(PeerError::Stopped))
    }

    /// Sends a snapshot and waits until it is installed there. When `cancel` is done first, or the
    /// future is dropped, the other side forgets it.
    pub async fn send_snapshot(
        &self,
        to: MemberId,
        start: SnapshotStart,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<SnapshotReply, PeerError> {
        let (addresses, stop) =
            self.lane(to, |peer| (Arc::clone(&peer.addresses), peer.stop.clone()))?;
        let dialer = self.shared.dialer(to, Lane::Snapshot, addresses);
        tokio::select! {
            result = snapshot::send(&dialer, start, chunks) => result,
            () = cancel => Err(PeerError::Cancelled),
            () = stop.cancelled() => Err(PeerError::Stopped),
        }
    }

    /// Closes every connection and every port, and waits until all is quiet.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.peers().clear();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn lane<T>(&self, to: MemberId, pick: impl FnOnce(&Peer) -> T) -> Result<T, PeerError> {
        if self.shared.stop.is_cancelled() {
            return Err(PeerError::Stopped);
        }
        self.shared.peers().get(&to).map(pick).ok_or(PeerError::Unknown(to))
    }

    fn check_size(&self, bytes: usize) -> Result<(), PeerError> {
        let maximum = self.shared.options.payload_bytes_max;
        if bytes > maximum { Err(PeerError::TooLarge { bytes, maximum }) } else { Ok(()) }
    }
}

impl Peer {
    /// The member has shown that it is there: dial it now.
    fn wake(&self) {
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }
}

impl Shared {
    /// A panic elsewhere is no reason to panic here: each change under the lock is one insertion or
    /// removal.
    fn peers(&self) -> MutexGuard<'_, BTreeMap<MemberId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terms(&self) -> Terms {
        Terms {
            group: self.options.identity.group,
            payload_bytes_max: self.options.payload_bytes_max,
            dead_after: self.options.dead_after,
        }
    }

    fn wake(&self, member: MemberId) {
        if let Some(peer) = self.peers().get(&member) {
            peer.wake();
        }
    }

    fn dialer(
        &self,
        target: MemberId,
        lane: Lane,
        addresses: Arc<ArcSwap<Vec<PeerUrl>>>,
    ) -> Dialer {
        Dialer {
            identity: self.options.identity,
            target,
            lane,
            addresses,
            network: Arc::clone(&self.options.network),
            tls: self.options.tls.clone(),
            gate: Arc::clone(&self.options.gate),
            terms: self.terms(),
            meter: self.meter(target),
        }
    }

    fn meter(&self, member: MemberId) -> PeerMeter {
        METERS.peers.peer(self.options.identity.member, member)
    }

    fn start_lanes(&self, member: MemberId, addresses: Vec<PeerUrl>) -> Peer {
        let addresses = Arc::new(ArcSwap::from_pointee(addresses));
        let wakes = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        let (urgent, urgent_queue) = mpsc::channel(urgent::QUEUED_REQUESTS);
        let (replication, replication_queue) = mpsc::channel(replication::QUEUED_STREAMS);
        let (link_sender, link) = watch::channel(Link::Dialling);
        let stop = self.stop.child_token();
        let seed = |lane: Lane| self.options.seed ^ member.0 ^ lane as u64;
        let urgent_lane = urgent::Lane {
            dialer: self.dialer(member, Lane::Urgent, Arc::clone(&addresses)),
            queue: urgent_queue,
            link: link_sender,
            backoff: Backoff::new(seed(Lane::Urgent), Arc::clone(&wakes[0])),
            dead_after: self.options.dead_after,
            reached: Arc::clone(&wakes[1]),
        };
        let replication_lane = replication::Lane {
            dialer: self.dialer(member, Lane::Replication, Arc::clone(&addresses)),
            queue: replication_queue,
            backoff: Backoff::new(seed(Lane::Replication), Arc::clone(&wakes[1])),
            dead_after: self.options.dead_after,
        };
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(urgent_lane.run()));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(replication_lane.run()));
        Peer { addresses, urgent, replication, link, wakes, stop }
    }
}

#[cfg(test)]
mod tests;
