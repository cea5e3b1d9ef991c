//! Those who watch: one watcher per name, which goes on at another member when its stream ends, and
//! whoever looks at all members now and then.

use std::{sync::Arc, time::Duration};

use orrery::proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    access, admin,
    history::{MemberIndex, MemberState, Sample, Watch},
    recorder::Recorder,
    workload::Shared,
};

/// A stream that is silent for so long is given up: members tell their progress each second.
const SILENCE_MAX: Duration = Duration::from_secs(4);

const PAUSE: Duration = Duration::from_millis(100);

/// Requests of a stream that wait to be sent; a stream that takes none has ended.
const REQUESTS_MAX: usize = 8;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A watcher that wants to see everything that its request names.
pub struct Observer {
    pub name: String,
    pub recorder: Recorder,
    pub shared: Arc<Shared>,
    /// Where it begins, and how many it may go round.
    pub member: MemberIndex,
    pub members: usize,
    pub request: WatchCreateRequest,
    /// Whether what it has seen may be compacted.
    pub is_record: bool,
}

impl Observer {
    /// Watches until it has seen the revision that `last` names in the end.
    pub async fn run(mut self, mut last: watch::Receiver<Option<i64>>) {
        loop {
            let done = |last: &Option<i64>, next: i64| last.is_some_and(|last| next > last);
            if done(&last.borrow(), self.request.start_revision) {
                return;
            }
            let watched = self.watch_once(&mut last).await;
            self.recorder.history().watches.push(watched);
            self.member = (self.member + 1) % self.members;
            sleep(PAUSE).await;
        }
    }

    /// One stream, until it ends or all has been seen.
    async fn watch_once(&mut self, last: &mut watch::Receiver<Option<i64>>) -> Watch {
        let mut watched = begun(&self.recorder, &self.name, self.member, &self.request);
        match Stream::open(self.member, &self.request).await {
            Ok(mut stream) => {
                while watched.error.is_empty() {
                    if last.borrow().is_some_and(|last| self.request.start_revision > last) {
                        break;
                    }
                    let next = tokio::select! {
                        next = stream.next() => next,
                        Ok(()) = last.changed() => continue,
                    };
                    if let Ok(response) = &next {
                        self.see(response);
                    }
                    note(&mut watched, &self.recorder, next);
                }
            }
            Err(error) => watched.error = error,
        }
        watched.ended = self.recorder.now();
        watched
    }

    /// What comes next is above what has been seen.
    fn see(&mut self, response: &WatchResponse) {
        let next = &mut self.request.start_revision;
        if let Some(newest) = response.events.last().and_then(|event| event.kv.as_ref()) {
            // More of the revision may follow in another fragment.
            *next = (*next).max(newest.mod_revision + i64::from(!response.fragment));
        } else if !response.created && !response.canceled {
            let revision = crate::history::revision(response.header.as_ref());
            *next = (*next).max(revision + 1);
        }
        if response.canceled {
            *next = (*next).max(response.compact_revision);
        }
        if self.is_record {
            self.shared.record(*next - 1);
        }
    }
}

/// A watch of some length, at one member, which asks for progress on the way.
pub async fn session(
    recorder: &Recorder,
    name: String,
    member: MemberIndex,
    request: WatchCreateRequest,
    lasts: Duration,
) {
    let mut watched = begun(recorder, &name, member, &request);
    match Stream::open(member, &request).await {
        Ok(mut stream) => {
            let deadline = Instant::now() + lasts;
            let mut ask = tokio::time::interval(lasts / 3);
            while watched.error.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => break,
                    _ = ask.tick() => stream.ask_for_progress().await,
                    next = stream.next() => note(&mut watched, recorder, next),
                }
            }
        }
        Err(error) => watched.error = error,
    }
    watched.ended = recorder.now();
    recorder.history().watches.push(watched);
}

fn begun(
    recorder: &Recorder,
    name: &str,
    member: MemberIndex,
    request: &WatchCreateRequest,
) -> Watch {
    Watch {
        name: name.to_owned(),
        member,
        began: recorder.now(),
        ended: 0,
        request: request.clone(),
        received: Vec::new(),
        error: String::new(),
    }
}

fn note(watched: &mut Watch, recorder: &Recorder, next: Result<WatchResponse, String>) {
    match next {
        Ok(response) => {
            if response.canceled {
                watched.error = "canceled".to_owned();
            }
            watched.received.push((recorder.now(), response));
        }
        Err(error) => watched.error = error,
    }
}

/// A stream with one watcher.
struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(member: MemberIndex, request: &WatchCreateRequest) -> Result<Stream, String> {
        let (requests, sent) = mpsc::channel(REQUESTS_MAX);
        let create = RequestUnion::CreateRequest(request.clone());
        let create = WatchRequest { request_union: Some(create) };
        requests.try_send(create).map_err(|error| error.to_string())?;
        let mut client = WatchClient::new(access::client(member));
        client = client.max_decoding_message_size(usize::MAX);
        let opened = timeout(SILENCE_MAX, client.watch(ReceiverStream::new(sent))).await;
        let responses = match opened {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(status.to_string()),
            Err(_) => return Err("no answer".to_owned()),
        };
        Ok(Stream { requests, responses })
    }

    async fn ask_for_progress(&mut self) {
        let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
        // A stream that has ended is told to whoever reads it.
        let _ = self.requests.try_send(WatchRequest { request_union: Some(progress) });
    }

    async fn next(&mut self) -> Result<WatchResponse, String> {
        match timeout(SILENCE_MAX, self.responses.message()).await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err("the stream ended".to_owned()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err(format!("silent for {SILENCE_MAX:?}")),
        }
    }
}

/// Looks at every member again and again.
pub async fn sample(recorder: Recorder, members: usize, stop: CancellationToken) {
    let look = |member: MemberIndex| {
        let recorder = recorder.clone();
        async move {
            loop {
                let status = admin::status(member).await.ok();
                let state = status.map(|status| {
                    let header = status.header.unwrap_or_default();
                    MemberState {
                        leads: status.leader != 0 && status.leader == header.member_id,
                        is_learner: status.is_learner,
                        term: status.raft_term,
                        applied: status.raft_applied_index,
                        revision: header.revision,
                        db_size: status.db_size,
                    }
                });
                let at = recorder.now();
                recorder.history().samples.push(Sample { at, member, state });
                sleep(SAMPLE_EVERY).await;
            }
        }
    };
    let looking = futures::future::join_all((0..members).map(look));
    let _: Option<Vec<()>> = stop.run_until_cancelled(looking).await;
}
