//! A member's door: where clients' requests go in, and how a member that is gone looks from
//! outside.

use std::sync::{Arc, Mutex};

use orrery::{
    node::{self, Caller, Freshness, Node},
    proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest,
        WatchRequest, WatchResponse, watch_request::RequestUnion,
    },
    types::{LeaseId, MemberId, Revision},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that wait while a member stands still; more are refused.
const QUEUED: usize = 256;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest, Freshness),
    Compact(i64),
    Grant(LeaseGrantRequest),
    KeepAlive(LeaseId),
    TimeToLive(LeaseId),
    MoveLeader(MemberId),
    Watch(WatchCreateRequest),
    Summary(i64),
}

#[derive(Debug)]
pub(crate) enum Reply {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    /// With the revision that was read at.
    Range(RangeResponse, i64),
    Done,
    /// Seconds; `None` when there is no such lease.
    KeptAlive(Option<i64>),
    /// Whether there is such a lease.
    TimeToLive(bool),
    Watching(Responses),
    Summary(Summary),
}

/// What a member has, without asking others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub revision: i64,
    pub leases: usize,
    /// HashKV at the revision asked for, if the member has come so far.
    pub hash: Option<(u32, i64)>,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The request did not reach the member.
    Closed,
    /// The member is gone, and what became of the request is not known.
    Lost,
    Error(node::Error),
}

impl Trouble {
    /// Certainly nothing was changed, and nothing will be.
    pub(crate) fn is_definite(&self) -> bool {
        match self {
            Trouble::Closed => true,
            Trouble::Lost => false,
            Trouble::Error(error) => matches!(
                error,
                node::Error::Rejected(_)
                    | node::Error::TooManyRequests
                    | node::Error::RequestTooLarge
            ),
        }
    }
}

type Answer = oneshot::Sender<Result<Reply, Trouble>>;

/// The member's side of its door.
pub(crate) struct Requests {
    received: mpsc::Receiver<(Request, Answer)>,
    closed: CancellationToken,
}

/// What a watcher is told, until the member is gone.
#[derive(Debug)]
pub(crate) struct Responses {
    received: mpsc::Receiver<WatchResponse>,
    closed: CancellationToken,
}

impl Responses {
    pub(crate) async fn recv(&mut self) -> Option<WatchResponse> {
        let response = self.closed.run_until_cancelled(self.received.recv()).await;
        response.flatten()
    }
}

/// The way to one member, through all its restarts. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<Option<Open>>>);

struct Open {
    requests: mpsc::Sender<(Request, Answer)>,
    closed: CancellationToken,
}

impl Door {
    /// Open until `closed`. Whoever waits for an answer learns of it in the order of asking, and
    /// not in that in which the member's tasks happen to end.
    pub(crate) fn open(&self, closed: CancellationToken) -> Requests {
        let (requests, received) = mpsc::channel(QUEUED);
        *self.0.lock().unwrap() = Some(Open { requests, closed: closed.clone() });
        Requests { received, closed }
    }

    pub(crate) async fn call(&self, request: Request) -> Result<Reply, Trouble> {
        let (sender, answer) = oneshot::channel();
        let closed = {
            let door = self.0.lock().unwrap();
            let door = door.as_ref().filter(|it| !it.closed.is_cancelled());
            let door = door.ok_or(Trouble::Closed)?;
            door.requests.try_send((request, sender)).map_err(|_| Trouble::Closed)?;
            door.closed.clone()
        };
        tokio::select! {
            biased;
            () = closed.cancelled() => Err(Trouble::Lost),
            answer = answer => answer.unwrap_or(Err(Trouble::Lost)),
        }
    }
}

/// Answers requests inside the member, each in a task of its own.
pub(crate) async fn serve(node: Node, mut requests: Requests) {
    while let Some((request, answer)) = requests.received.recv().await {
        let (node, closed) = (node.clone(), requests.closed.clone());
        tokio::spawn(async move {
            let reply = handle(&node, request, closed).await.map_err(Trouble::Error);
            let _ = answer.send(reply);
        });
    }
}

async fn handle(
    node: &Node,
    request: Request,
    closed: CancellationToken,
) -> Result<Reply, node::Error> {
    let caller = Caller::default();
    Ok(match request {
        Request::Put(put) => Reply::Put(node.proposer.propose(&caller, put).await?),
        Request::Delete(delete) => Reply::Delete(node.proposer.propose(&caller, delete).await?),
        Request::Txn(txn) => Reply::Txn(node.proposer.propose(&caller, txn).await?),
        Request::Range(range, freshness) => {
            let view = node.reader.view(freshness).await?;
            Reply::Range(view.keys().range(&range)?, view.keys().revision().get())
        }
        Request::Compact(revision) => {
            let compact = CompactionRequest { revision, physical: false };
            node.proposer.propose(&caller, compact).await?;
            Reply::Done
        }
        Request::Grant(grant) => {
            node.proposer.propose(&caller, grant).await?;
            Reply::Done
        }
        Request::KeepAlive(id) => Reply::KeptAlive(node.leases.keep_alive(id).await?),
        Request::TimeToLive(id) => Reply::TimeToLive(node.leases.time_to_live(id).await?.is_some()),
        Request::MoveLeader(to) => {
            node.membership.move_leader(to).await?;
            Reply::Done
        }
        Request::Watch(create) => Reply::Watching(watch(node, create, closed)),
        Request::Summary(revision) => {
            let view = node.reader.view(Freshness::Any).await?;
            let now = view.keys().revision().get();
            let hash = match revision <= now {
                true => {
                    let hash = view.keys().hash_kv(revision)?;
                    Some((hash.hash, hash.compact_revision.map_or(0, Revision::get)))
                }
                false => None,
            };
            let leases = view.leases()?.len();
            Reply::Summary(Summary { revision: now, leases, hash })
        }
    })
}

fn watch(node: &Node, create: WatchCreateRequest, closed: CancellationToken) -> Responses {
    let (sender, received) = mpsc::channel(QUEUED);
    let mut session = node.watch.open(1 << 20);
    tokio::spawn(async move {
        let request_union = Some(RequestUnion::CreateRequest(create));
        session.request(WatchRequest { request_union });
        while let Ok(response) = session.next_response().await {
            if sender.send(response).await.is_err() {
                return;
            }
        }
    });
    Responses { received, closed }
}
