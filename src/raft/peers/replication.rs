//! The replication lane to one member: a stream of append requests, pipelined, replies in order.
//!
//! The connection outlives a stream. The id of a frame is the stream's number and the request's
//! number in it, 32 bits each; the first request of a new number ends the stream before it on both
//! sides.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::debug;

use super::{
    PeerError,
    dial::{Backoff, Dialer},
    wire::{self, Wire, Writer, quarters},
};
use crate::raft::message::{AppendReply, AppendRequest, Message, Reply, Request};

/// Requests of one stream that have been sent and whose replies have not been taken. The other side
/// has room for as many and closes a connection that sends more, so both must have the same number.
pub(super) const WINDOW_MESSAGES: usize = 64;

/// Bytes of requests in flight beyond which no further one is sent. Enough for 100 MB/s over a
/// round trip of 80 ms.
pub(super) const WINDOW_BYTES: usize = 8 << 20;

/// A stream with unanswered requests is dead after this many quarters of the time limit without a
/// sign of progress. Ticks, not the clock, for the reason given in urgent.rs.
const DEAD_AFTER: u32 = 5;

/// Streams that wait for the lane: each supersedes the one before it, so there is no point in many.
pub(super) const QUEUED_STREAMS: usize = 4;

/// Requests that were handed over and do not fit in the window yet. A few, so that one write takes
/// more than one of them.
const QUEUED_REQUESTS: usize = 4;

/// The sending half of a stream. Dropping it ends the stream once the outstanding replies are in.
#[derive(Debug)]
pub struct AppendSender(mpsc::Sender<AppendRequest>);

impl AppendSender {
    /// Waits while the window is full.
    ///
    /// # Errors
    /// When the stream is over; the receiver has the reason.
    pub async fn send(&self, request: AppendRequest) -> Result<(), PeerError> {
        self.0.send(request).await.map_err(|_| PeerError::Disconnected)
    }
}

/// The receiving half: one reply per request, in their order, then the end. The last item is an
/// error when the stream did not end by itself. It ends by itself when the sender was dropped, and
/// after a conflict or a higher vote. Dropping it ends the stream.
#[derive(Debug)]
pub struct AppendReceiver(mpsc::Receiver<Result<AppendReply, PeerError>>);

impl Stream for AppendReceiver {
    type Item = Result<AppendReply, PeerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// A request for a stream.
pub(super) type Opening = oneshot::Sender<Result<(AppendSender, AppendReceiver), PeerError>>;

/// The frame id of a request and of its reply.
pub(super) fn frame_id(stream: u32, request: u32) -> u64 {
    u64::from(stream) << 32 | u64::from(request)
}

/// The two numbers in a frame id.
pub(super) fn split_id(id: u64) -> (u32, u32) {
    ((id >> 32) as u32, id as u32)
}

pub(super) struct Lane {
    pub(super) dialer: Dialer,
    pub(super) queue: mpsc::Receiver<Opening>,
    pub(super) backoff: Backoff,
    pub(super) dead_after: Duration,
}

impl Lane {
    /// Runs until nobody can ask for a stream any more. Dials when a stream is asked for; while the
    /// pause after a failure lasts, asking fails at once.
    pub(super) async fn run(mut self) {
        while let Some(opening) = self.queue.recv().await {
            let refusal = match self.dialer.dial().await {
                Ok(wire) => {
                    let since = Instant::now();
                    let end = self.converse(wire, opening).await;
                    debug!(member = %self.dialer.target, "replication disconnected: {end}");
                    self.backoff.ended(since);
                    PeerError::Disconnected
                }
                Err(error) => {
                    let _ = opening.send(Err(error.clone())); // who asked may have given up
                    error
                }
            };
            let end = self.backoff.next();
            tokio::select! {
                () = self.backoff.wait(end) => (),
                () = refuse_all(&mut self.queue, &refusal) => (),
            }
        }
    }

    /// Serves one connection until it ends; why it ended.
    async fn converse(&mut self, wire: Wire, opening: Opening) -> wire::Error {
        let Wire { mut reader, mut writer } = wire;
        let mut current = Current::open(1, opening);
        let mut ticks = quarters(self.dead_after);
        let end = loop {
            tokio::select! {
                received = reader.next() => match received {
                    Ok((id, Message::Reply(reply))) => {
                        if let Err(error) = current.take_reply(id, reply) {
                            break error;
                        }
                    }
                    Ok((_, message)) => break wire::Error::Misplaced(message.kind()),
                    Err(error) => break error,
                },
                drained = writer.drain(), if writer.has_output() => {
                    if let Err(error) = drained {
                        break error.into();
                    }
                }
                event = current.next(), if writer.has_room() => {
                    current.handle(event, &mut writer);
                    while writer.has_room() && current.send_queued(&mut writer) {}
                }
                opening = self.queue.recv() => {
                    let Some(opening) = opening else { break wire::Error::Closed };
                    current.fail(PeerError::Superseded);
                    current = Current::open(current.number.wrapping_add(1), opening);
                }
                _ = ticks.tick() => {
                    if current.is_dead(writer.take_advanced()) {
                        break wire::Error::Silent;
                    }
                }
            }
        };
        let is_silent = matches!(end, wire::Error::Silent);
        current.fail(if is_silent { PeerError::TimedOut } else { PeerError::Disconnected });
        end
    }
}

async fn refuse_all(queue: &mut mpsc::Receiver<Opening>, error: &PeerError) {
    while let Some(opening) = queue.recv().await {
        let _ = opening.send(Err(error.clone())); // who asked may have given up
    }
}

/// The newest stream on a connection, if it is not over.
struct Current {
    number: u32,
    active: Option<Active>,
}

struct Active {
    requests: mpsc::Receiver<AppendRequest>,
    /// Nothing more comes from `requests`.
    complete: bool,
    replies: Replies,
    /// Room for the reply to the next request: taken before the request is, so that a receiver that
    /// does not take its replies holds up the requests and not the connection.
    slot: Option<Slot>,
    /// Room for the reason why the stream failed.
    last: Slot,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// Number of the next request.
    next: u32,
    /// Number of the next reply.
    answered: u32,
    quiet_ticks: u32,
}

type Replies = mpsc::Sender<Result<AppendReply, PeerError>>;
type Slot = mpsc::OwnedPermit<Result<AppendReply, PeerError>>;

struct InFlight {
    bytes: usize,
    slot: Slot,
}

/// What the owner of the stream's halves did.
enum Event {
    Request(AppendRequest),
    /// The sender was dropped.
    Complete,
    /// The receiver was dropped.
    Abandoned,
}

impl Current {
    fn open(number: u32, opening: Opening) -> Current {
        let (request_sender, requests) = mpsc::channel(QUEUED_REQUESTS);
        let (replies, reply_receiver) = mpsc::channel(WINDOW_MESSAGES + 1); // one for `last`
        let last = replies.clone().try_reserve_owned().expect("a new channel has room");
        let halves = (AppendSender(request_sender), AppendReceiver(reply_receiver));
        let is_wanted = opening.send(Ok(halves)).is_ok();
        let active = is_wanted.then_some(Active {
            requests,
            complete: false,
            replies,
            slot: None,
            last,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            next: 0,
            answered: 0,
            quiet_ticks: 0,
        });
        Current { number, active }
    }

    /// Dropping the future loses nothing.
    async fn next(&mut self) -> Event {
        let Some(active) = &mut self.active else { return std::future::pending().await };
        let has_room = active.has_room();
        let Active { requests, replies, slot, .. } = active;
        let request = async {
            if slot.is_none() {
                let Ok(reserved) = replies.clone().reserve_owned().await else {
                    return Event::Abandoned;
                };
                *slot = Some(reserved);
            }
            requests.recv().await.map_or(Event::Complete, Event::Request)
        };
        tokio::select! {
            event = request, if has_room => event,
            () = replies.closed() => Event::Abandoned,
        }
    }

    fn handle(&mut self, event: Event, writer: &mut Writer) {
        let Some(active) = &mut self.active else { return };
        match event {
            Event::Request(request) => active.send(self.number, request, writer),
            Event::Complete => active.complete = true,
            Event::Abandoned => self.active = None,
        }
        self.end_if_done();
    }

    /// Sends a request if one can be had and sent without waiting.
    fn send_queued(&mut self, writer: &mut Writer) -> bool {
        let Some(active) = self.active.as_mut().filter(|active| active.has_room()) else {
            return false;
        };
        if active.slot.is_none() {
            active.slot = active.replies.clone().try_reserve_owned().ok();
        }
        if active.slot.is_none() {
            return false;
        }
        let Ok(request) = active.requests.try_recv() else { return false };
        active.send(self.number, request, writer);
        true
    }

    fn take_reply(&mut self, id: u64, reply: Reply) -> Result<(), wire::Error> {
        let (number, request) = split_id(id);
        let Some(active) = self.active.as_mut().filter(|_| number == self.number) else {
            return Ok(()); // late, of a stream that is over
        };
        let reply = match reply {
            Reply::Append(reply) => reply,
            Reply::Failed(failed) => {
                self.fail(PeerError::Failed(failed));
                return Ok(());
            }
            Reply::Vote(_)
            | Reply::Transfer(_)
            | Reply::Vacancy(_)
            | Reply::Confirm(_)
            | Reply::Call(_)
            | Reply::Snapshot(_) => {
                return Err(wire::Error::Misplaced(Message::Reply(reply).kind()));
            }
        };
        let is_next = request == active.answered;
        let Some(first) = active.in_flight.pop_front().filter(|_| is_next) else {
            return Err(wire::Error::Misplaced(Message::Reply(Reply::Append(reply)).kind()));
        };
        active.answered = active.answered.wrapping_add(1);
        active.in_flight_bytes -= first.bytes;
        active.quiet_ticks = 0;
        let is_last = ends_stream(&reply);
        first.slot.send(Ok(reply));
        if is_last {
            self.active = None;
        }
        self.end_if_done();
        Ok(())
    }

    fn end_if_done(&mut self) {
        self.active.take_if(|active| active.complete && active.in_flight.is_empty());
    }

    fn fail(&mut self, error: PeerError) {
        if let Some(active) = self.active.take() {
            active.last.send(Err(error));
        }
    }

    /// Called at each tick.
    fn is_dead(&mut self, has_advanced: bool) -> bool {
        let Some(active) = &mut self.active else { return false };
        let is_quiet = !active.in_flight.is_empty() && !has_advanced;
        active.quiet_ticks = if is_quiet { active.quiet_ticks + 1 } else { 0 };
        active.quiet_ticks >= DEAD_AFTER
    }
}

impl Active {
    fn has_room(&self) -> bool {
        !self.complete && self.in_flight_bytes < WINDOW_BYTES
    }

    fn send(&mut self, number: u32, mut request: AppendRequest, writer: &mut Writer) {
        if !writer.takes_traces() {
            request.traces = Vec::new();
        }
        let slot = self.slot.take().expect("a request is taken only once there is a slot for it");
        let bytes = request.bytes();
        writer.put(frame_id(number, self.next), &Message::Request(Request::Append(request)));
        self.next = self.next.wrapping_add(1);
        self.in_flight.push_back(InFlight { bytes, slot });
        self.in_flight_bytes += bytes;
    }
}

/// After such a reply the leader has to think again where the follower's log stands.
pub(super) fn ends_stream(reply: &AppendReply) -> bool {
    match reply {
        AppendReply::Accepted(_) => false,
        AppendReply::Conflict(_) | AppendReply::HigherVote(_) => true,
    }
}
