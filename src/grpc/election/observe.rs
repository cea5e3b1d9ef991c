//! Who leads, one after the other, with every value that a leader proclaims.

use std::collections::VecDeque;

use futures::{Stream, stream};
use tonic::Status;

use crate::{
    grpc::{
        client::Client,
        queue::{Queue, is_put},
    },
    node::{self, WatchSession},
    proto::{
        etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse},
        mvccpb::KeyValue,
        v3electionpb::LeaderResponse,
    },
};

/// What an observer is waiting for.
enum Awaited {
    /// To be told who leads now.
    Answer,
    /// That somebody joins the queue, which was empty.
    First(WatchSession),
    /// What becomes of the leader's key.
    Change(WatchSession),
}

struct Observer {
    queue: Queue,
    awaited: Awaited,
    /// What the leader has proclaimed and is not delivered yet.
    values: VecDeque<LeaderResponse>,
    /// The leader's key is gone.
    is_over: bool,
}

/// Ends without an error, as in etcd, when this member can't say who leads.
pub(super) fn leaders(queue: Queue) -> impl Stream<Item = Result<LeaderResponse, Status>> {
    let observer =
        Observer { queue, awaited: Awaited::Answer, values: VecDeque::new(), is_over: false };
    stream::unfold(observer, async |mut observer| {
        let leader = observer.next().await?;
        Some((Ok(leader), observer))
    })
}

impl Observer {
    async fn next(&mut self) -> Option<LeaderResponse> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Some(value);
            }
            if std::mem::take(&mut self.is_over) {
                self.awaited = Awaited::Answer;
            }
            match &mut self.awaited {
                Awaited::Answer => self.ask().await?,
                Awaited::First(session) => {
                    let response = next(session).await?;
                    self.take_first(response);
                }
                Awaited::Change(session) => {
                    let response = next(session).await?;
                    self.take_changes(response);
                }
            }
        }
    }

    async fn ask(&mut self) -> Option<()> {
        let range = self.queue.client().range(self.queue.oldest()).await.ok()?;
        let header = range.header?;
        match range.kvs.into_iter().next() {
            Some(leader) => self.follow(header, leader),
            None => self.awaited = Awaited::First(self.queue.watch(header.revision + 1)),
        }
        Some(())
    }

    fn take_first(&mut self, response: WatchResponse) {
        let put = response.events.iter().find(|event| is_put(event));
        let leader = put.and_then(|event| event.kv.clone());
        if let (Some(header), Some(leader)) = (self.header(response.header), leader) {
            // Of several revisions in one response, the others are yet to be looked at.
            let revision = leader.mod_revision;
            self.follow(ResponseHeader { revision, ..header }, leader);
        }
    }

    fn take_changes(&mut self, response: WatchResponse) {
        let header = self.header(response.header);
        let values = response.events.iter().take_while(|event| is_put(event));
        let responses = values.map(|event| LeaderResponse { header, kv: event.kv.clone() });
        self.values.extend(responses);
        self.is_over = response.events.iter().any(|event| !is_put(event));
    }

    fn follow(&mut self, header: ResponseHeader, leader: KeyValue) {
        self.awaited = Awaited::Change(watch(self.queue.client(), &leader, header.revision + 1));
        self.values.push_back(LeaderResponse { header: Some(header), kv: Some(leader) });
    }

    fn header(&self, mut header: Option<ResponseHeader>) -> Option<ResponseHeader> {
        self.queue.client().fill(&mut header);
        header
    }
}

fn watch(client: &Client, leader: &KeyValue, revision: i64) -> WatchSession {
    client.watch(WatchCreateRequest {
        key: leader.key.clone(),
        start_revision: revision,
        ..WatchCreateRequest::default()
    })
}

/// `None` when the watch can't go on.
async fn next(session: &mut WatchSession) -> Option<WatchResponse> {
    let response = session.next_response().await.map_err(node::Error::from).ok()?;
    (!response.canceled).then_some(response)
}
