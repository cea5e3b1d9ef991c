//! Members on loopback that talk to each other.

mod port;
mod requests;
mod snapshots;
mod streams;
mod tls;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;

use super::{
    super::message::{
        ConfirmReply, ConfirmRequest, TransferReply, TransferRequest, VacancyReply, VacancyRequest,
        VoteReply, VoteRequest,
    },
    *,
};
use crate::{
    log::{Entry, EntryKind},
    raft::{frame::PAYLOAD_BYTES_MAX, network::Sockets},
    types::{LogId, TraceContext, Vote},
};

const CLUSTER: ClusterId = ClusterId(0xc);
const DEAD_AFTER: Duration = Duration::from_millis(300);
/// Long enough for anything that is meant to happen.
const LONG: Duration = Duration::from_secs(20);

const VOTE: Vote = Vote { term: 1, node: 1, committed: true };

fn log_id(index: u64) -> LogId {
    LogId { term: 1, node: 1, index }
}

/// One entry at `index` with a payload of that size.
fn append_request(index: u64, payload_bytes: usize) -> AppendRequest {
    let entry = Entry {
        id: log_id(index),
        kind: EntryKind::Command,
        payload: Bytes::from(vec![index as u8; payload_bytes]),
    };
    AppendRequest { vote: VOTE, prev: None, entries: vec![entry], commit: None, traces: vec![] }
}

/// Lets everybody in whose incarnation is ten times its id, and those it was told not to.
#[derive(Default)]
struct TestGate {
    removed: Mutex<HashSet<MemberId>>,
    refusals: Mutex<Vec<(MemberId, Refusal)>>,
}

impl Gate for TestGate {
    fn admit(&self, member: MemberId, incarnation: u64) -> Result<(), Refusal> {
        match (member.0, incarnation) {
            _ if self.removed.lock().unwrap().contains(&member) => Err(Refusal::RemovedMember),
            (100.., _) => Err(Refusal::UnknownMember),
            (id, incarnation) if incarnation != id * 10 => Err(Refusal::IncarnationDiffers),
            _ => Ok(()),
        }
    }

    fn refused(&self, by: MemberId, refusal: &Refusal) {
        self.refusals.lock().unwrap().push((by, refusal.clone()));
    }
}

/// Does what requests tell it to do.
struct TestHandler {
    /// One permit lets the append stream answer one request.
    append_permits: Semaphore,
    /// Entries that reached the append stream, and their payload bytes.
    appends_seen: AtomicU64,
    bytes_seen: AtomicU64,
    /// What came of each snapshot: its bytes, or what went wrong.
    snapshots: mpsc::Sender<Result<Vec<u8>, SnapshotError>>,
}

/// The append stream answers requests for this index in a special way.
const CONFLICT_AT: u64 = 1_000_001;
const FAIL_AT: u64 = 1_000_002;
const END_AT: u64 = 1_000_003;

impl TestHandler {
    async fn answer(&self, request: &AppendRequest) -> Option<Result<AppendReply, Failed>> {
        let entry = &request.entries[0];
        self.appends_seen.fetch_add(1, Ordering::SeqCst);
        self.bytes_seen.fetch_add(entry.payload.len() as u64, Ordering::SeqCst);
        self.append_permits.acquire().await.unwrap().forget();
        match entry.id.index {
            CONFLICT_AT => Some(Ok(AppendReply::Conflict(entry.id))),
            FAIL_AT => Some(Err(Failed("as you wish".to_owned()))),
            END_AT => None,
            _ => Some(Ok(AppendReply::Accepted(Some(entry.id)))),
        }
    }
}

async fn answer_call(from: MemberId, request: Bytes) -> Result<Bytes, Failed> {
    match &request[..] {
        b"who" => Ok(Bytes::from(from.to_string())),
        b"hang" => std::future::pending().await,
        b"fail" => Err(Failed("as you wish".to_owned())),
        b"slow" => {
            tokio::time::sleep(3 * DEAD_AFTER).await;
            Ok(request)
        }
        b"huge" => Ok(Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1])),
        _ => Ok(request),
    }
}

impl Handler for TestHandler {
    fn answer(&self, from: MemberId, request: Request) -> BoxFuture<'_, Result<Reply, Failed>> {
        async move {
            Ok(match request {
                Request::Vote(request) => {
                    let vote = Vote { node: from.0, ..request.vote };
                    let granted = request.pre_vote;
                    Reply::Vote(VoteReply { vote, granted, last: request.last })
                }
                Request::Append(request) => Reply::Append(AppendReply::Accepted(request.commit)),
                Request::Transfer(request) => Reply::Transfer(match request.last {
                    Some(_) => TransferReply::Accepted,
                    None => TransferReply::Refused("no log".to_owned()),
                }),
                Request::Vacancy(VacancyRequest { vote }) => {
                    Reply::Vacancy(VacancyReply { vacant: vote.committed, last: None })
                }
                Request::Confirm(ConfirmRequest { vote }) => {
                    Reply::Confirm(ConfirmReply { held: vote.committed })
                }
                Request::Call(call) => Reply::Call(answer_call(from, call).await?),
            })
        }
        .boxed()
    }

    fn append_stream(
        &self,
        _: MemberId,
        requests: AppendRequests,
    ) -> BoxStream<'_, Result<AppendReply, Failed>> {
        let answers = requests.then(move |request| async move { self.answer(&request).await });
        answers
            .take_while(|answer| std::future::ready(answer.is_some()))
            .map(Option::unwrap)
            .boxed()
    }

    fn snapshot(
        &self,
        _: MemberId,
        start: SnapshotStart,
        mut chunks: SnapshotChunks,
    ) -> BoxFuture<'_, Result<SnapshotReply, Failed>> {
        async move {
            let mut received = Vec::new();
            if start.meta == "unwanted" {
                return Err(Failed("unwanted".to_owned()));
            }
            while let Some(chunk) = chunks.next().await {
                match chunk {
                    Ok(chunk) => received.extend_from_slice(&chunk),
                    Err(error) => {
                        self.snapshots.send(Err(error)).await.unwrap();
                        return Err(Failed("incomplete".to_owned()));
                    }
                }
            }
            self.snapshots.send(Ok(received)).await.unwrap();
            Ok(SnapshotReply { vote: start.vote })
        }
        .boxed()
    }

    fn version(&self) -> String {
        r#"{"etcdserver":"3.7.0"}"#.to_owned()
    }

    fn members(&self) -> Vec<Member> {
        vec![Member { id: 1, name: "one".to_owned(), ..Member::default() }]
    }
}

/// One member, listening.
struct Node {
    id: MemberId,
    peers: Peers,
    url: PeerUrl,
    gate: Arc<TestGate>,
    handler: Arc<TestHandler>,
    snapshots: mpsc::Receiver<Result<Vec<u8>, SnapshotError>>,
}

impl Node {
    async fn start(id: u64) -> Node {
        Node::start_at(id, id * 10, "http://127.0.0.1:0", None).await
    }

    async fn start_at(id: u64, incarnation: u64, url: &str, tls: Option<Tls>) -> Node {
        let id = MemberId(id);
        let gate = Arc::new(TestGate::default());
        let peers = Peers::new(Options {
            identity: Identity { cluster: CLUSTER, member: id, incarnation, group: 0 },
            network: Arc::new(Sockets),
            tls,
            gate: Arc::clone(&gate) as Arc<dyn Gate>,
            dead_after: DEAD_AFTER,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            seed: 1,
        });
        let (sender, snapshots) = mpsc::channel(16);
        let handler = Arc::new(TestHandler {
            append_permits: Semaphore::new(Semaphore::MAX_PERMITS),
            appends_seen: AtomicU64::new(0),
            bytes_seen: AtomicU64::new(0),
            snapshots: sender,
        });
        let bound = peers.bind(&url.parse().unwrap()).await.unwrap();
        let url = bound.url.clone();
        peers.serve(bound, Arc::clone(&handler) as Arc<dyn Handler>);
        Node { id, peers, url, gate, handler, snapshots }
    }

    fn meet(&self, other: &Node) {
        self.peers.set_addresses(other.id, vec![other.url.clone()]);
    }

    /// Calls and expects the request back.
    #[track_caller]
    fn echo(&self, to: &Node) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let (peers, to) = (self.peers.clone(), to.id);
        async move {
            let reply = peers.call(to, Bytes::from_static(b"echo"), LONG).await;
            assert_eq!(reply, Ok(Bytes::from_static(b"echo")), "called at {caller}");
        }
    }
}

/// Two members; the first knows where the second is.
async fn pair() -> (Node, Node) {
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    one.meet(&two);
    (one, two)
}

/// Waits until it is true, for as long as a slow machine may need.
#[track_caller]
fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let waited = timeout(LONG, async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited in vain at {caller}"));
    }
}
