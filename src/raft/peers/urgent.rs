//! The urgent lane to one member: requests that pair with replies by id, many in flight.
//!
//! The lane is always connected or trying to be, whether there is something to say or not: it tells
//! whether the member is there, and a vote does not wait for a handshake.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{debug, info};

use super::{
    Link, PeerError,
    dial::{Backoff, Dialer},
    wire::{self, Wire, Writer, quarters},
};
use crate::{
    raft::message::{Message, Reply, Request},
    telemetry::Histogram,
};

/// Requests that wait for the connection. Callers beyond that wait within their own time limits.
pub(super) const QUEUED_REQUESTS: usize = 1024;

/// Requests without a reply on one connection. The other side runs as many handlers at once and
/// fails what goes beyond, so both sides of a connection must have the same number.
pub(super) const OPEN_REQUESTS: usize = 4096;

/// A silent connection is asked for a sign of life after this many quarters of the time after which
/// it counts as dead.
const PING_AFTER: u32 = 2;
/// Counted in ticks, not by the clock: when this process itself was stopped for a while, what the
/// other side sent meanwhile is read before the connection is judged.
const DEAD_AFTER: u32 = 5;

/// A request with the way back to who asked.
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Reply, PeerError>>,
}

impl Pending {
    fn fail(self, error: PeerError) {
        let _ = self.answer.send(Err(error)); // who asked may have given up
    }
}

pub(super) struct Lane {
    pub(super) dialer: Dialer,
    pub(super) queue: mpsc::Receiver<Pending>,
    pub(super) link: watch::Sender<Link>,
    pub(super) backoff: Backoff,
    pub(super) dead_after: Duration,
    /// Tells the replication lane that the member is there.
    pub(super) reached: Arc<Notify>,
}

impl Lane {
    /// Runs until every sender of requests is gone.
    pub(super) async fn run(mut self) {
        while !self.queue.is_closed() {
            match self.dial().await {
                Ok(wire) => {
                    info!(member = %self.dialer.target, "connected");
                    let since = Instant::now();
                    self.link.send_replace(Link::Up { since });
                    let _connected = self.dialer.meter.connected();
                    self.reached.notify_one();
                    let end = self.converse(wire).await;
                    info!(member = %self.dialer.target, "disconnected: {end}");
                    self.link.send_replace(Link::Dialling);
                    self.backoff.ended(since);
                }
                Err(error) => {
                    self.refuse_queued(&error);
                    self.link.send_if_modified(|link| note_failure(link, &error));
                    debug!(member = %self.dialer.target, "{error}");
                }
            }
            self.pause().await;
        }
    }

    /// While the member is known to be down, requests fail at once instead of waiting for the dial.
    async fn dial(&mut self) -> Result<Wire, PeerError> {
        let down = self.link.borrow().error();
        let dial = self.dialer.dial();
        let refuse = refuse_all(&mut self.queue, down);
        tokio::select! {
            result = dial => result,
            () = refuse => Err(PeerError::Stopped),
        }
    }

    async fn pause(&mut self) {
        let end = self.backoff.next();
        let down = self.link.borrow().error();
        tokio::select! {
            () = self.backoff.wait(end) => (),
            () = refuse_all(&mut self.queue, down) => (),
        }
    }

    fn refuse_queued(&mut self, error: &PeerError) {
        while let Ok(pending) = self.queue.try_recv() {
            pending.fail(error.clone());
        }
    }

    /// Serves one connection until it ends; why it ended.
    async fn converse(&mut self, wire: Wire) -> wire::Error {
        let Wire { mut reader, mut writer } = wire;
        let round_trip = self.dialer.meter.round_trip.clone();
        let mut open = Open { answers: BTreeMap::new(), next_id: 1, round_trip };
        let mut pinged = None;
        let mut silent_ticks = 0;
        let mut ticks = quarters(self.dead_after);
        let end = loop {
            tokio::select! {
                received = reader.next() => match received {
                    Ok((_, Message::Pong)) => {
                        silent_ticks = 0;
                        open.returned(pinged.take());
                    }
                    Ok((id, Message::Reply(reply))) => {
                        silent_ticks = 0;
                        open.answer(id, reply);
                    }
                    Ok((_, message)) => break wire::Error::Misplaced(message.kind()),
                    Err(error) => break error,
                },
                drained = writer.drain(), if writer.has_output() => {
                    if let Err(error) = drained {
                        break error.into();
                    }
                }
                pending = self.queue.recv(), if writer.has_room() && open.has_room() => {
                    let Some(pending) = pending else { break wire::Error::Closed };
                    open.ask(pending, &mut writer);
                    while writer.has_room() && open.has_room() {
                        let Ok(pending) = self.queue.try_recv() else { break };
                        open.ask(pending, &mut writer);
                    }
                }
                _ = ticks.tick() => {
                    silent_ticks = if writer.take_advanced() { 0 } else { silent_ticks + 1 };
                    if silent_ticks == PING_AFTER {
                        writer.put(0, &Message::Ping);
                        pinged = Some(Instant::now());
                    } else if silent_ticks >= DEAD_AFTER {
                        break wire::Error::Silent;
                    }
                }
            }
        };
        for asked in open.answers.into_values() {
            let _ = asked.answer.send(Err(PeerError::Disconnected)); // who asked may have given up
        }
        end
    }
}

/// Fails what comes until no more can come. For a member that is not known to be down, requests
/// stay queued instead.
async fn refuse_all(queue: &mut mpsc::Receiver<Pending>, down: Option<PeerError>) {
    let Some(error) = down else { return std::future::pending().await };
    while let Some(pending) = queue.recv().await {
        pending.fail(error.clone());
    }
}

/// Whether the state of the link changed: one failed dial after another is no news unless the
/// reason is another.
fn note_failure(link: &mut Link, error: &PeerError) -> bool {
    let since = match link {
        Link::Down { error: known, .. } if known == error => return false,
        Link::Down { since, .. } => *since,
        Link::Dialling | Link::Up { .. } => Instant::now(),
    };
    *link = Link::Down { since, error: error.clone() };
    true
}

/// Requests on one connection that have no reply yet; when it ends they fail in order, the same in
/// every run of a simulation.
struct Open {
    answers: BTreeMap<u64, Asked>,
    next_id: u64,
    round_trip: Histogram,
}

struct Asked {
    answer: oneshot::Sender<Result<Reply, PeerError>>,
    /// When, if the other side answers such a request as soon as it comes.
    at: Option<Instant>,
}

impl Open {
    fn has_room(&self) -> bool {
        self.answers.len() < OPEN_REQUESTS
    }

    fn ask(&mut self, pending: Pending, writer: &mut Writer) {
        if pending.answer.is_closed() {
            return; // gave up while it was queued
        }
        let at = is_prompt(&pending.request).then(Instant::now);
        writer.put(self.next_id, &Message::Request(pending.request));
        self.answers.insert(self.next_id, Asked { answer: pending.answer, at });
        self.next_id += 1;
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        if let Some(Asked { answer, at }) = self.answers.remove(&id) {
            self.returned(at);
            let _ = answer.send(Ok(reply)); // who asked may have given up
        }
    }

    /// What was sent at that time has come back.
    fn returned(&self, sent: Option<Instant>) {
        if let Some(sent) = sent {
            self.round_trip.observe(sent.elapsed());
        }
    }
}

/// Heartbeats and the like: the time until the answer is that of the way.
fn is_prompt(request: &Request) -> bool {
    match request {
        Request::Append(_) | Request::Confirm(_) => true,
        Request::Vote(_) | Request::Transfer(_) | Request::Vacancy(_) | Request::Call(_) => false,
    }
}
