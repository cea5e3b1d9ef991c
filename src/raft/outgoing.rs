//! What openraft sends, over our connections.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, Either, ready},
    stream::{BoxStream, once},
};
use openraft::{
    RaftNetworkFactory,
    error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    impls::EmptyNode,
    network::{
        Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    },
    raft::{
        AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::{SnapshotOf, VoteOf},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::info;

use super::{
    apply::SnapshotData,
    message::{self, AppendReply, Reply, Request, TransferReply},
    peers::{PeerError, Peers},
    traced::{Traced, Unanswered},
    type_config::{
        TypeConfig, encode_stored_membership, entry_from_open, log_id_from_open, log_id_to_open,
        vote_from_open, vote_to_open,
    },
};
use crate::{
    storage,
    telemetry::{METERS, traces},
    types::MemberId,
};

type OpenError = RPCError<TypeConfig>;
type Replies<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, OpenError>>;

/// Chunks of a snapshot, about 1 MiB each, that are read before the one in front of them has been
/// sent.
const CHUNKS_AHEAD: usize = 2;

/// Makes openraft's ways to other members.
pub(crate) struct Outgoing {
    peers: Peers,
    timeout: Duration,
    snapshots_sent: SnapshotsSent,
    traced: Traced,
}

/// Counts the snapshots that are being sent. Clones share the count.
#[derive(Clone, Default)]
pub(crate) struct SnapshotsSent(Arc<AtomicUsize>);

impl SnapshotsSent {
    pub(crate) fn are_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Counts one more until dropped.
    fn begin(&self) -> SnapshotUnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        SnapshotUnderWay(Arc::clone(&self.0))
    }
}

struct SnapshotUnderWay(Arc<AtomicUsize>);

impl Drop for SnapshotUnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One way to one member.
pub(crate) struct Way {
    peers: Peers,
    to: MemberId,
    lane: Lane,
    timeout: Duration,
    snapshots_sent: SnapshotsSent,
    traced: Traced,
}

#[derive(Clone, Copy)]
enum Lane {
    /// Entries in order, many requests under way.
    Replication,
    /// Heartbeats and votes, which must not stand behind entries.
    Urgent,
}

impl Outgoing {
    /// `timeout` is how long votes and the like may take.
    pub(crate) fn new(
        peers: Peers,
        timeout: Duration,
        snapshots_sent: &SnapshotsSent,
        traced: &Traced,
    ) -> Outgoing {
        let (snapshots_sent, traced) = (snapshots_sent.clone(), traced.clone());
        Outgoing { peers, timeout, snapshots_sent, traced }
    }

    fn way(&self, to: u64, lane: Lane) -> Way {
        let (peers, snapshots_sent) = (self.peers.clone(), self.snapshots_sent.clone());
        let (timeout, traced) = (self.timeout, self.traced.clone());
        Way { peers, to: MemberId(to), lane, timeout, snapshots_sent, traced }
    }
}

impl RaftNetworkFactory<TypeConfig> for Outgoing {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Urgent)
    }

    async fn new_snapshot_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Replication)
    }
}

impl Way {
    async fn ask(&self, request: Request) -> Result<Reply, OpenError> {
        self.peers.request(self.to, request, self.timeout).await.map_err(open_error)
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, OpenError> {
        let request = message::VoteRequest {
            vote: vote_from_open(&request.vote),
            last: request.last_log_id.as_ref().map(log_id_from_open),
            pre_vote,
            leadership_transfer: request.leadership_transfer,
        };
        match self.ask(Request::Vote(request)).await? {
            Reply::Vote(reply) => Ok(VoteResponse {
                vote: vote_to_open(reply.vote),
                vote_granted: reply.granted,
                last_log_id: reply.last.map(log_id_to_open),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

impl NetBackoff<TypeConfig> for Way {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Way {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, OpenError> {
        self.ask_vote(request, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, OpenError> {
        self.ask_vote(request, true).await
    }
}

impl NetTransferLeader<TypeConfig> for Way {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, OpenError> {
        let request = message::TransferRequest {
            from: vote_from_open(request.from_leader()),
            to: MemberId(*request.to_node_id()),
            last: request.last_log_id().map(log_id_from_open),
        };
        match self.ask(Request::Transfer(request)).await? {
            Reply::Transfer(TransferReply::Accepted) => Ok(Ok(())),
            // The reason is for people; what matters is that this member goes on leading or not.
            Reply::Transfer(TransferReply::Refused(reason)) => Err(unreachable(&reason)),
            other => Err(unexpected(&other)),
        }
    }
}

impl NetStreamAppend<TypeConfig> for Way {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<Replies<'s>, OpenError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        match self.lane {
            Lane::Urgent => ready(Ok(self.append_each(input))).boxed(),
            Lane::Replication => ready(Ok(self.append_pipelined(input))).boxed(),
        }
    }
}

impl Way {
    /// One request after the other, ending when the input ends: openraft reads a heartbeat's
    /// answers to their end.
    fn append_each<'s>(
        &'s self,
        input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    ) -> Replies<'s> {
        input
            .then(move |request| async move {
                let asked = self.ask(Request::Append(append_request(request))).await;
                match asked.inspect_err(|_| {
                    METERS.raft.heartbeat_failures.inc();
                })? {
                    Reply::Append(reply) => Ok(append_result(reply)),
                    other => Err(unexpected(&other)),
                }
            })
            .boxed()
    }

    /// Many requests under way, answers in order. The stream ends with its first error.
    ///
    /// The first request is taken before the connection is looked for: openraft pauses there after
    /// an error, and nowhere else. Failing before it would make a member that is down cost a busy
    /// loop.
    fn append_pipelined<'s>(
        &'s self,
        mut input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    ) -> Replies<'s> {
        let opened = async move {
            let first = input.next().await?;
            let (sender, receiver) = match self.peers.append_stream(self.to).await {
                Ok(halves) => halves,
                Err(error) => return Some(once(ready(Err(open_error(error)))).boxed()),
            };
            // Ends with the receiver: sending then fails.
            let mut requests = once(ready(first)).chain(input);
            let (traced, to) = (self.traced.clone(), self.to);
            let unanswered = Arc::new(Unanswered::default());
            let sent = unanswered.clone();
            let pump = AbortOnDrop(tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let mut request = append_request(request);
                    add_traces(&mut request, to, &traced, &sent);
                    if sender.send(request).await.is_err() {
                        break;
                    }
                }
            }));
            let replies = receiver.map(move |reply| {
                let _ = &pump;
                if let Ok(AppendReply::Accepted(Some(matching))) = &reply {
                    unanswered.answered(matching.index);
                }
                reply.map(append_result).map_err(open_error)
            });
            Some(replies.boxed())
        };
        once(opened).filter_map(ready).flatten().boxed()
    }
}

/// A stream that openraft has dropped must not keep reading the log.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl NetSnapshot<TypeConfig> for Way {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Outgoing(picture) = snapshot.snapshot else {
            return Err(unreachable("a snapshot that came in can't be sent on").into());
        };
        let start = message::SnapshotStart {
            vote: vote_from_open(&vote),
            last: snapshot.meta.last_log_id.as_ref().map(log_id_from_open),
            meta: encode_stored_membership(&snapshot.meta.last_membership),
        };
        let _under_way = self.snapshots_sent.begin();
        let metered = METERS.snapshots.sent.begin(self.to);
        let index = start.last.map_or(0, |last| last.index);
        info!(member = %self.to, index, "sending a snapshot");
        let chunks = read_chunks(picture);
        let sending = self.peers.send_snapshot(self.to, start, chunks, std::future::pending());
        match futures::future::select(pin!(sending), pin!(cancel)).await {
            Either::Left((sent, _)) => {
                let reply = sent.map_err(open_error)?;
                metered.succeeded();
                Ok(SnapshotResponse::new(vote_to_open(reply.vote)))
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }
}

fn append_request(request: AppendEntriesRequest<TypeConfig>) -> message::AppendRequest {
    message::AppendRequest {
        vote: vote_from_open(&request.vote),
        prev: request.prev_log_id.as_ref().map(log_id_from_open),
        entries: request.entries.into_iter().map(entry_from_open).collect(),
        commit: request.leader_commit.as_ref().map(log_id_from_open),
        traces: Vec::new(),
    }
}

/// Begins the spans of sending those entries whose traces are recorded, and sends these along.
fn add_traces(
    request: &mut message::AppendRequest,
    to: MemberId,
    traced: &Traced,
    sent: &Unanswered,
) {
    for sending in traced.replicate(request.entries.iter().map(|entry| entry.id)) {
        request.traces.push((sending.position, sending.context));
        if !sending.span.is_none() {
            traces::set(&sending.span, "to", to.to_string());
            sent.sent(sending.id.index, sending.span);
        }
    }
}

fn append_result(reply: AppendReply) -> StreamAppendResult<TypeConfig> {
    match reply {
        AppendReply::Accepted(matching) => Ok(matching.map(log_id_to_open)),
        AppendReply::Conflict(id) => Err(StreamAppendError::Conflict(log_id_to_open(id))),
        AppendReply::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_to_open(vote))),
    }
}

/// A broken connection is worth an attempt at once, an unreachable member is not.
fn open_error(error: PeerError) -> OpenError {
    match error {
        PeerError::Disconnected | PeerError::TimedOut => {
            RPCError::Network(NetworkError::new(&error))
        }
        PeerError::Unknown(_)
        | PeerError::Unreachable { .. }
        | PeerError::Refused(_)
        | PeerError::Unrecognised(_)
        | PeerError::TooLarge { .. }
        | PeerError::Failed(_)
        | PeerError::WrongReply
        | PeerError::Superseded
        | PeerError::Source(_)
        | PeerError::Cancelled
        | PeerError::Stopped => RPCError::Unreachable(Unreachable::new(&error)),
    }
}

/// The store's rows, read on a thread that may block, a few chunks ahead of what has been sent.
fn read_chunks(picture: storage::Snapshot) -> ReceiverStream<io::Result<Bytes>> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    storage::spawn_off_thread(async move {
        for chunk in picture.export() {
            let chunk = chunk.map_err(io::Error::other);
            if sender.send(chunk).await.is_err() {
                // Nobody sends it any more.
                return;
            }
        }
    });
    ReceiverStream::new(chunks)
}

fn unreachable(reason: &str) -> OpenError {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

fn unexpected(reply: &Reply) -> OpenError {
    match reply {
        Reply::Failed(failed) => unreachable(&failed.0),
        Reply::Append(_)
        | Reply::Vote(_)
        | Reply::Transfer(_)
        | Reply::Vacancy(_)
        | Reply::Confirm(_)
        | Reply::Call(_)
        | Reply::Snapshot(_) => unreachable("a reply of another kind than the request"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        raft::{
            PAYLOAD_BYTES_MAX,
            network::Sockets,
            peers::{Gate, Identity, Options, Refusal},
        },
        types::{ClusterId, Vote},
    };

    struct Everybody;

    impl Gate for Everybody {
        fn admit(&self, _: MemberId, _: u64) -> Result<(), Refusal> {
            Ok(())
        }

        fn refused(&self, _: MemberId, _: &Refusal) {}
    }

    fn way(to: u64, lane: Lane) -> Way {
        let identity =
            Identity { cluster: ClusterId(1), member: MemberId(1), incarnation: 1, group: 0 };
        let peers = Peers::new(Options {
            identity,
            network: Arc::new(Sockets),
            tls: None,
            gate: Arc::new(Everybody),
            dead_after: Duration::from_secs(1),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            seed: 1,
        });
        let snapshots_sent = SnapshotsSent::default();
        Way {
            peers,
            to: MemberId(to),
            lane,
            timeout: Duration::from_secs(1),
            snapshots_sent,
            traced: Default::default(),
        }
    }

    /// openraft pauses inside of its stream of requests, so who does not take one gets no pause.
    #[tokio::test]
    async fn a_member_that_is_down_costs_one_request_for_each_attempt() {
        let mut way = way(2, Lane::Replication);
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let input = futures::stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            AppendEntriesRequest {
                vote: vote_to_open(Vote { term: 1, node: 1, committed: true }),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            }
        });
        let option = RPCOption::new(Duration::from_secs(1));
        let replies: Vec<_> = way.stream_append(input, option).await.unwrap().collect().await;
        assert!(matches!(replies.as_slice(), [Err(RPCError::Unreachable(_))]), "{replies:?}");
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }
}
