//! The Watch service: what a stream says and hears, from the watch hub.
//!
//! A stream's responses are made when its connection takes them. A client that does not read costs
//! nothing but its place: the hub lets its queue go, and it reads the store when it goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{self, Instant, Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    grpc::{Limits, consistency::Levels, header::Header, status, who},
    node::{self, Credentials, Node, Reader, WatchHub, WatchSession, Who},
    proto::etcdserverpb::{
        ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
        watch_server::{self, WatchServer},
    },
    telemetry::{METERS, Watched},
    types::KeyRange,
};

/// The shortest interval of progress notification that is taken, as in etcd.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Streams that are opened together end their intervals apart, spread over a tenth of the interval.
const PROGRESS_SPREAD: u32 = 16;

#[derive(Clone)]
pub(crate) struct Watch {
    hub: WatchHub,
    reader: Reader,
    header: Header,
    levels: Levels,
    credentials: Credentials,
    /// Responses to clients that take fragments stay below.
    response_bytes_max: usize,
    progress_interval: Duration,
    opened: Arc<AtomicU32>,
}

/// `progress_interval`: `--watch-progress-notify-interval`, after which idle watchers that asked
/// for it are told how far they have come.
pub(crate) fn service(
    node: &Node,
    (header, levels): (&Header, &Levels),
    limits: Limits,
    progress_interval: Duration,
) -> WatchServer<Watch> {
    let watch = Watch {
        hub: node.watch.clone(),
        reader: node.reader.clone(),
        header: header.clone(),
        levels: levels.clone(),
        credentials: node.credentials.clone(),
        response_bytes_max: limits.message_bytes_max(),
        progress_interval: progress_interval.max(PROGRESS_INTERVAL_MIN),
        opened: Arc::default(),
    };
    WatchServer::new(watch).max_decoding_message_size(limits.message_bytes_max())
}

#[async_trait]
impl watch_server::Watch for Watch {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // What is watched from now on begins with a state as fresh as the client asks for.
        self.levels.of_stream(&request).await?.reach(&self.reader).await?;
        let session = self.hub.open(self.response_bytes_max);
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let interval = interval(self.progress_interval, opened);
        let header = self.header.clone();
        let fill = move |response: &mut Option<ResponseHeader>| header.fill(response);
        let (credentials, who) = (self.credentials.clone(), who::of(&request));
        let judge =
            async move |create: &WatchCreateRequest| judge(&credentials, &who, create).await;
        let responses = responses(session, request.into_inner(), interval, fill, judge);
        Ok(Response::new(responses.boxed()))
    }
}

/// Ticks at the end of each interval of progress notification of the n-th stream.
fn interval(period: Duration, nth: u32) -> Interval {
    let period = period + period / 10 * (nth % PROGRESS_SPREAD) / PROGRESS_SPREAD;
    let mut interval = time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// As in etcd, a watcher is judged once: it goes on when its user loses the right to read.
async fn judge(
    credentials: &Credentials,
    who: &Who,
    create: &WatchCreateRequest,
) -> Result<(), Status> {
    // Refused for another reason, which comes first.
    if create.start_revision < 0 {
        return Ok(());
    }
    // An empty key stands for the smallest.
    let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key.clone() };
    let range = KeyRange::from_wire(key, create.range_end.clone());
    Ok(credentials.may_watch(who, &range).await?)
}

/// What a stream is made of while it lasts.
struct Serving<R, F, J> {
    session: WatchSession,
    /// `None` when the client has said all that it will; it still listens.
    requests: Option<R>,
    interval: Interval,
    fill: F,
    judge: J,
    /// The last response, and since when the connection is busy with it: it asks for the next one
    /// when it has room again.
    given: Option<(Watched, Instant)>,
}

/// The responses of one stream, which ends when it is dropped or with an error.
fn responses<R, F, J>(
    session: WatchSession,
    requests: R,
    interval: Interval,
    fill: F,
    judge: J,
) -> impl Stream<Item = Result<WatchResponse, Status>>
where
    R: Stream<Item = Result<WatchRequest, Status>> + Unpin,
    F: Fn(&mut Option<ResponseHeader>),
    J: AsyncFn(&WatchCreateRequest) -> Result<(), Status>,
{
    let serving = Serving { session, requests: Some(requests), interval, fill, judge, given: None };
    stream::unfold(Some(serving), async |serving| {
        let mut serving = serving?;
        match serving.next_response().await {
            Ok(response) => Some((Ok(response), Some(serving))),
            Err(status) => Some((Err(status), None)),
        }
    })
}

impl<R, F, J> Serving<R, F, J>
where
    R: Stream<Item = Result<WatchRequest, Status>> + Unpin,
    F: Fn(&mut Option<ResponseHeader>),
    J: AsyncFn(&WatchCreateRequest) -> Result<(), Status>,
{
    async fn next_response(&mut self) -> Result<WatchResponse, Status> {
        if let Some((what, since)) = self.given.take() {
            METERS.watch.sent(what, since.elapsed());
        }
        loop {
            // A client that asks and does not listen is asked to wait.
            let listens = !self.session.has_responses();
            tokio::select! {
                response = self.session.next_response() => {
                    let mut response = response.map_err(node::Error::from)?;
                    (self.fill)(&mut response.header);
                    METERS.watch.events.inc_by(response.events.len() as u64);
                    self.given = Some((content(&response), Instant::now()));
                    return Ok(response);
                }
                request = next(&mut self.requests), if listens => match request {
                    Some(request) => {
                        let failed = |_: &Status| METERS.watch.stream_failed("watch");
                        self.request(request.inspect_err(failed)?).await;
                    }
                    None => self.requests = None,
                },
                _ = self.interval.tick() => self.session.tick(),
            }
        }
    }
}

impl<R, F, J> Serving<R, F, J>
where
    J: AsyncFn(&WatchCreateRequest) -> Result<(), Status>,
{
    async fn request(&mut self, request: WatchRequest) {
        let refused = match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => (self.judge)(create).await.err(),
            Some(RequestUnion::CancelRequest(_) | RequestUnion::ProgressRequest(_)) | None => None,
        };
        match refused {
            Some(status) => self.session.refuse(status::as_reason(&status)),
            None => self.session.request(request),
        }
    }
}

fn content(response: &WatchResponse) -> Watched {
    match u32::try_from(response.events.len()) {
        Ok(0) if response.created || response.canceled => Watched::Control,
        Ok(0) => Watched::Progress,
        Ok(events) => Watched::Events(events),
        Err(_) => Watched::Events(u32::MAX),
    }
}

/// The next request, for ever if there are no more.
async fn next<R: Stream + Unpin>(requests: &mut Option<R>) -> Option<R::Item> {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, channel::mpsc};

    use super::*;
    use crate::watch::memory::Memory;

    type Requests = mpsc::Sender<Result<WatchRequest, Status>>;

    fn open(hub: &WatchHub) -> (Requests, BoxStream<'static, Result<WatchResponse, Status>>) {
        let (requests, received) = mpsc::channel(1);
        let interval = interval(Duration::from_secs(600), 0);
        let fill = |header: &mut Option<ResponseHeader>| {
            header.as_mut().unwrap().member_id = 7;
        };
        let judge = async |create: &WatchCreateRequest| match create.key.as_ref() {
            b"secret" => Err(node::Error::InvalidToken.into()),
            _ => Ok(()),
        };
        (requests, responses(hub.open(1 << 20), received, interval, fill, judge).boxed())
    }

    fn create(key: &'static str, progress_notify: bool) -> Result<WatchRequest, Status> {
        let create = WatchCreateRequest {
            key: key.into(),
            progress_notify,
            ..WatchCreateRequest::default()
        };
        Ok(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    }

    fn put(memory: &Memory, hub: &WatchHub, key: &str) {
        hub.publish(memory.write(&[(key, Some("value"))]).into_iter().collect());
    }

    #[tokio::test]
    async fn a_client_that_has_no_more_to_say_still_hears() {
        let memory = Memory::default();
        let hub = memory.hub();
        let (mut requests, mut responses) = open(&hub);
        requests.send(create("k", false)).await.unwrap();
        drop(requests);
        let created = responses.next().await.unwrap().unwrap();
        assert!(created.created);
        assert_eq!(created.header.unwrap().member_id, 7);
        for revision in 2..5 {
            put(&memory, &hub, "k");
            let response = responses.next().await.unwrap().unwrap();
            assert_eq!(response.events[0].kv.as_ref().unwrap().mod_revision, revision);
        }
        drop(responses);
        assert_eq!((hub.counts().streams, hub.counts().watchers), (0, 0));
    }

    #[tokio::test]
    async fn a_request_that_can_not_be_read_ends_the_stream() {
        let hub = Memory::default().hub();
        let (mut requests, mut responses) = open(&hub);
        requests.send(Err(node::Error::Stopped.into())).await.unwrap();
        assert!(responses.next().await.unwrap().is_err());
        assert!(responses.next().await.is_none());
        assert_eq!(hub.counts().streams, 0);
    }

    #[tokio::test]
    async fn who_may_not_watch_is_told_so_and_may_watch_something_else() {
        let hub = Memory::default().hub();
        let (mut requests, mut responses) = open(&hub);
        for (key, watch_id) in [("secret", -1), ("k", 0)] {
            requests.send(create(key, false)).await.unwrap();
            let response = responses.next().await.unwrap().unwrap();
            let refused = watch_id == -1;
            assert_eq!((response.created, response.canceled), (true, refused));
            assert_eq!(response.watch_id, watch_id);
            let reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
            assert_eq!(response.cancel_reason, if refused { reason } else { "" });
        }
        assert_eq!(hub.counts().watchers, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_watchers_hear_of_their_progress_after_each_interval() {
        let memory = Memory::default();
        let hub = memory.hub();
        let (mut requests, mut responses) = open(&hub);
        requests.send(create("k", true)).await.unwrap();
        let begin = Instant::now();
        assert!(responses.next().await.unwrap().unwrap().created);
        put(&memory, &hub, "other");
        for minutes in [10, 20] {
            let progress = responses.next().await.unwrap().unwrap();
            assert_eq!((progress.watch_id, progress.events.len()), (0, 0));
            assert_eq!(progress.header.unwrap().revision, 2);
            assert_eq!(begin.elapsed(), Duration::from_secs(minutes * 60));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_opened_together_end_their_intervals_apart_by_at_most_a_tenth() {
        let period = Duration::from_secs(600);
        let periods: Vec<Duration> = (0..16).map(|nth| interval(period, nth).period()).collect();
        assert!(periods.is_sorted_by(|one, next| one < next));
        assert!(periods[15] < period * 11 / 10);
        assert_eq!(interval(period, 16).period(), period);
    }
}
