//! A stream of watches: what comes on it, sorted into events and the rest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use orrery::proto::{
    etcdserverpb::{
        WatchProgressRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    answer::{Frame, Lines},
    auth::Connection,
};

/// A server that has something to say does so within this; etcd looks after watchers that are
/// behind ten times a second.
const ATTEMPT: Duration = Duration::from_millis(120);

/// So many times nothing may come before it is believed that nothing will.
const QUIET_ATTEMPTS: u32 = 3;

/// A stream of watches as a client has it.
pub(crate) struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    pub(crate) controls: VecDeque<WatchResponse>,
    pub(crate) events: VecDeque<(i64, Event)>,
    pub(crate) watchers: usize,
    /// Revision of the newest event of each watcher.
    seen: BTreeMap<i64, i64>,
    pub(crate) fragment: bool,
    /// Watchers that were to be canceled since the stream was last known to be quiet.
    cancels: usize,
}

pub(crate) fn ended() -> Status {
    Status::new(Code::Ok, "the stream ended")
}

impl WatchStream {
    /// A server may say nothing at all until it is asked something.
    pub(crate) async fn open(
        channel: Connection,
        first: RequestUnion,
    ) -> Result<WatchStream, Status> {
        let (requests, queue) = mpsc::channel(16);
        let first = WatchRequest { request_union: Some(first) };
        requests.send(first).await.expect("the queue is at hand");
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.watch(ReceiverStream::new(queue)).await?.into_inner();
        Ok(WatchStream {
            requests,
            responses,
            controls: VecDeque::new(),
            events: VecDeque::new(),
            watchers: 0,
            seen: BTreeMap::new(),
            fragment: false,
            cancels: 0,
        })
    }

    pub(crate) async fn send(&mut self, union: RequestUnion) {
        self.cancels += usize::from(matches!(union, RequestUnion::CancelRequest(_)));
        let request = WatchRequest { request_union: Some(union) };
        // A stream that has ended says so where its responses are read.
        let _ = self.requests.send(request).await;
    }

    /// Sorts the next response into events and the rest.
    pub(crate) async fn receive(&mut self) -> Result<(), Status> {
        let response = self.responses.message().await?;
        let response = response.ok_or_else(ended)?;
        if response.events.is_empty() {
            if response.created {
                self.seen.remove(&response.watch_id); // of another watcher with this id
            }
            self.controls.push_back(response);
            return Ok(());
        }
        let seen = self.seen.entry(response.watch_id).or_insert(0);
        let before = *seen;
        for event in &response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let splits = revision == before && !self.fragment;
            if revision < *seen || splits {
                let text = format!("revision {revision} comes again or late behind {seen}");
                return Err(Status::new(Code::Internal, text));
            }
            *seen = revision;
            self.events.push_back((response.watch_id, (**event).clone()));
        }
        Ok(())
    }

    /// Waits until nothing more is under way: a server tells progress only behind all events. It
    /// tells none while a watcher cannot have progress, so it may have to be quiet for some time.
    pub(crate) async fn settle(&mut self) -> Result<(), Status> {
        self.hear_all_events().await?;
        // In etcd progress may overtake the answer to a cancel, and one of nobody has none.
        let end = Instant::now() + ATTEMPT * QUIET_ATTEMPTS;
        while self.cancels > self.controls.iter().filter(|control| control.canceled).count() {
            match timeout_at(end, self.receive()).await {
                Ok(received) => received?,
                Err(_) => break,
            }
        }
        self.cancels = 0;
        self.controls.retain(|response| !is_progress(response));
        Ok(())
    }

    async fn hear_all_events(&mut self) -> Result<(), Status> {
        let mut quiet = 0;
        while quiet < QUIET_ATTEMPTS {
            quiet += 1;
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
            let end = Instant::now() + ATTEMPT;
            while let Ok(received) = timeout_at(end, self.receive()).await {
                received?;
                quiet = 0;
                let before = self.controls.len();
                self.controls.retain(|response| !is_progress(response));
                if self.controls.len() < before {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn control(
        &mut self,
        wanted: impl Fn(&WatchResponse) -> bool,
    ) -> Result<WatchResponse, Status> {
        loop {
            if let Some(at) = self.controls.iter().position(&wanted) {
                return Ok(self.controls.remove(at).expect("it was found there"));
            }
            self.receive().await?;
        }
    }

    /// The next events. Those of several watchers have no order among each other.
    pub(crate) async fn take(&mut self, count: usize, frame: Frame) -> Result<Lines, Status> {
        while self.events.len() < count {
            self.receive().await?;
        }
        let mut events: Vec<_> = self.events.drain(..count).collect();
        events.sort_by_key(|(id, event)| (event.kv.as_ref().map(|kv| kv.mod_revision), *id));
        let several = self.watchers > 1;
        let lines =
            events.iter().flat_map(|(id, event)| frame.event(several.then_some(*id), event));
        Ok(lines.collect())
    }
}

/// Of all watchers of a stream.
fn is_progress(response: &WatchResponse) -> bool {
    response.watch_id == -1 && !response.created && !response.canceled
}
