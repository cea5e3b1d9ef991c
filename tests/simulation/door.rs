//! A member's door: where clients' requests go in, and how a member that is gone looks from outside.

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

/// Requests that wait while a member stands still; more are refused.
const QUEUED: usize = 256;

#[derive(Clone, Debug)]
pub enum Request {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest, Freshness),
    Compact(i64),
    Grant(LeaseGrantRequest),
    KeepAlive(LeaseId),
    MoveLeader(MemberId),
    Watch(WatchCreateRequest),
    Summary(i64),
}

#[derive(Debug)]
pub enum Reply {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    /// With the revision that was read at.
    Range(RangeResponse, i64),
    Done,
    /// Seconds; `None` when there is no such lease.
    KeptAlive(Option<i64>),
    Watching(mpsc::Receiver<WatchResponse>),
    Summary(Summary),
}

/// What a member has, without asking others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub revision: i64,
    pub leases: usize,
    /// HashKV at the revision asked for, if the member has come so far.
    pub hash: Option<(u32, i64)>,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request did not reach the member.
    Closed,
    /// The member is gone, and what became of the request is not known.
    Lost,
    Error(node::Error),
}

impl Trouble {
    /// Certainly nothing was changed, and nothing will be.
    pub fn is_definite(&self) -> bool {
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
pub type Requests = mpsc::Receiver<(Request, Answer)>;

/// The way to one member, through all its restarts. Clones are the same.
#[derive(Clone, Default)]
pub struct Door(Arc<Mutex<Option<mpsc::Sender<(Request, Answer)>>>>);

impl Door {
    pub fn open(&self) -> Requests {
        let (sender, requests) = mpsc::channel(QUEUED);
        *self.0.lock().unwrap() = Some(sender);
        requests
    }

    pub fn close(&self) {
        *self.0.lock().unwrap() = None;
    }

    pub async fn call(&self, request: Request) -> Result<Reply, Trouble> {
        let (sender, answer) = oneshot::channel();
        {
            let door = self.0.lock().unwrap();
            let door = door.as_ref().ok_or(Trouble::Closed)?;
            door.try_send((request, sender)).map_err(|_| Trouble::Closed)?;
        }
        answer.await.unwrap_or(Err(Trouble::Lost))
    }
}

/// Answers requests inside the member, each in a task of its own.
pub async fn serve(node: Node, mut requests: Requests) {
    while let Some((request, answer)) = requests.recv().await {
        let node = node.clone();
        tokio::spawn(async move {
            let reply = handle(&node, request).await.map_err(Trouble::Error);
            let _ = answer.send(reply);
        });
    }
}

async fn handle(node: &Node, request: Request) -> Result<Reply, node::Error> {
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
        Request::MoveLeader(to) => {
            node.membership.move_leader(to).await?;
            Reply::Done
        }
        Request::Watch(create) => Reply::Watching(watch(node, create)),
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

fn watch(node: &Node, create: WatchCreateRequest) -> mpsc::Receiver<WatchResponse> {
    let (sender, responses) = mpsc::channel(QUEUED);
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
    responses
}
