//! Calls through the gate, in front of a service that needs no node.

use std::{future::poll_fn, time::Duration};

use axum::{Router, body::Body};
use hyper::body::Body as _;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::sync::watch;
use tonic::{Code, service::Routes};
use tonic_health::pb::HealthCheckRequest;
use tower::ServiceExt;

use super::*;
use crate::{
    grpc::{Extent, gated},
    proto::v3lockpb::{
        LockRequest, LockResponse, UnlockRequest, UnlockResponse,
        lock_server::{self, LockServer},
    },
    types::MemberId,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const LOCK: &str = "/v3lockpb.Lock/Lock";
const LIMITS: Limits = Limits { max_request_bytes: 100, ..Limits::DEFAULT };

/// The gate before the health service, which needs no node and has a call of each kind.
struct Edge {
    router: Router,
    metrics: Metrics,
    leader: watch::Sender<Option<MemberId>>,
    stopping: CancellationToken,
}

fn edge_of(leader: Option<u64>, is_learner: bool) -> Edge {
    let metrics = Metrics::register(&mut Registry::default(), Extent::Basic);
    let stopping = CancellationToken::new();
    let (leader, receiver) = watch::channel(leader.map(MemberId));
    let admission = Admission {
        leadership: Leadership::new(receiver, LIMITS.election_timeout),
        is_learner: Arc::new(move || is_learner),
    };
    let routes = Routes::new(tonic_health::server::health_reporter().1)
        .add_service(LockServer::new(NeverFree));
    let gate = Gate {
        admission,
        limits: LIMITS,
        metrics: metrics.clone(),
        let_in: Arc::new(|who, standing| {
            let is_let_in = standing != Standing::Root || who.token.as_deref() == Some("root's");
            let outcome = if is_let_in { Ok(()) } else { Err(node::Error::InvalidToken) };
            Box::pin(std::future::ready(outcome))
        }),
        stopping: stopping.clone(),
    };
    Edge { router: gated(routes, gate), metrics, leader, stopping }
}

/// A lock service whose every lock is somebody else's.
struct NeverFree;

#[tonic::async_trait]
impl lock_server::Lock for NeverFree {
    async fn lock(
        &self,
        _: tonic::Request<LockRequest>,
    ) -> Result<tonic::Response<LockResponse>, Status> {
        std::future::pending().await
    }

    async fn unlock(
        &self,
        _: tonic::Request<UnlockRequest>,
    ) -> Result<tonic::Response<UnlockResponse>, Status> {
        Ok(tonic::Response::new(UnlockResponse::default()))
    }
}

fn edge() -> Edge {
    edge_of(Some(1), false)
}

/// A call with one message that is as long as asked for.
fn call(path: &str, message_bytes: usize) -> Request {
    let mut body = vec![0];
    body.extend(u32::try_from(message_bytes).unwrap().to_be_bytes());
    body.resize(body.len() + message_bytes, 0);
    if message_bytes > 0 {
        // A service name that no service has.
        let mut message = HealthCheckRequest { service: "x".repeat(message_bytes) };
        while message.encoded_len() > message_bytes {
            message.service.pop();
        }
        body[5..].copy_from_slice(&message.encode_to_vec());
    }
    Request::builder()
        .method("POST")
        .version(Version::HTTP_2)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(Body::from(body))
        .unwrap()
}

fn with_header(mut request: Request, name: &'static str, value: &[u8]) -> Request {
    let value = axum::http::HeaderValue::from_bytes(value).unwrap();
    request.headers_mut().insert(name, value);
    request
}

impl Edge {
    async fn send(&self, request: Request) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn status(&self, request: Request) -> (Code, String) {
        status(self.send(request).await).await
    }

    fn counted(&self, path: &str, code: Code) -> (u64, u64) {
        let counters = self.metrics.method(method::position(path).unwrap());
        (counters.started.get(), counters.handled(code).get())
    }
}

async fn status(response: Response) -> (Code, String) {
    let (parts, mut body) = response.into_parts();
    let mut headers = parts.headers;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(trailers) = frame.unwrap().into_trailers() {
            headers = trailers;
        }
    }
    let status = Status::from_header_map(&headers).expect("a status in headers or trailers");
    (status.code(), status.message().to_owned())
}

fn code_and_text(code: Code, text: &str) -> (Code, String) {
    (code, text.to_owned())
}

#[tokio::test]
async fn a_call_is_served_and_counted() {
    let edge = edge();
    assert_eq!(edge.status(call(CHECK, 0)).await, code_and_text(Code::Ok, ""));
    assert_eq!(edge.counted(CHECK, Code::Ok), (1, 1));
    let counters = edge.metrics.method(method::position(CHECK).unwrap());
    assert_eq!((counters.messages_received.get(), counters.messages_sent.get()), (1, 1));
    assert_eq!(edge.metrics.received_bytes.get(), 5);
    assert_eq!(edge.metrics.sent_bytes.get(), 7);
    assert_eq!(edge.status(call(CHECK, 20)).await.0, Code::NotFound);
    assert_eq!(edge.counted(CHECK, Code::NotFound), (2, 1));
}

#[tokio::test]
async fn who_is_not_what_a_call_needs_is_refused_before_it_is_read() {
    const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
    let edge = edge();
    let refused = code_and_text(Code::Unauthenticated, "etcdserver: invalid auth token");
    assert_eq!(edge.status(call(DEFRAGMENT, 0)).await, refused);
    assert_eq!(edge.counted(DEFRAGMENT, Code::Unauthenticated), (1, 1));
    let by_root = with_header(call(DEFRAGMENT, 0), "token", b"root's");
    assert_eq!(edge.status(by_root).await.0, Code::Unimplemented, "nobody serves it here");
}

#[tokio::test]
async fn a_call_whose_client_goes_away_counts_as_canceled() {
    let edge = edge();
    let response = edge.send(call(WATCH, 0)).await;
    assert_eq!(edge.counted(WATCH, Code::Cancelled), (1, 0));
    drop(response);
    assert_eq!(edge.counted(WATCH, Code::Cancelled), (1, 1));
}

#[tokio::test]
async fn a_message_is_refused_by_its_length_alone() {
    let edge = edge();
    let limit = LIMITS.message_bytes_max();
    assert_eq!(edge.status(call(CHECK, limit)).await.0, Code::NotFound);
    let text = format!("grpc: received message larger than max ({} vs. {limit})", limit + 1);
    let too_large = code_and_text(Code::ResourceExhausted, &text);
    assert_eq!(edge.status(call(CHECK, limit + 1)).await, too_large);
    assert_eq!(edge.counted(CHECK, Code::ResourceExhausted), (2, 1));

    // Only the length has come, and nothing waits for the rest.
    let announced = [&[0][..], &(u32::MAX).to_be_bytes()].concat();
    let request = call(CHECK, 0).map(|_| Body::from(announced));
    let text = format!("grpc: received message larger than max ({} vs. {limit})", u32::MAX);
    assert_eq!(edge.status(request).await, code_and_text(Code::ResourceExhausted, &text));
}

#[tokio::test]
async fn who_asks_for_a_leader_is_refused_without_one() {
    let no_leader = code_and_text(Code::Unavailable, "etcdserver: no leader");
    let edge = edge_of(None, false);
    for path in [CHECK, WATCH] {
        let request = with_header(call(path, 0), "hasleader", b"true");
        assert_eq!(edge.status(request).await, no_leader, "{path}");
    }
    assert_eq!(edge.status(call(CHECK, 0)).await.0, Code::Ok);
    edge.leader.send(Some(MemberId(1))).unwrap();
    assert_eq!(edge.status(with_header(call(CHECK, 0), "hasleader", b"true")).await.0, Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_asks_for_a_leader_ends_when_it_is_long_gone() {
    let edge = edge();
    let asking = edge.send(with_header(call(WATCH, 0), "hasleader", b"true")).await;
    let not_asking = edge.send(call(WATCH, 0)).await;
    edge.leader.send(None).unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(status(asking).await, code_and_text(Code::Unavailable, "etcdserver: no leader"));
    assert_eq!(begun.elapsed().as_secs(), 3);
    let patience = Duration::from_secs(3600);
    assert!(tokio::time::timeout(patience, status(not_asking)).await.is_err());
}

#[tokio::test]
async fn a_stop_ends_every_stream() {
    let edge = edge();
    let stream = edge.send(call(WATCH, 0)).await;
    edge.stopping.cancel();
    let stopped = code_and_text(Code::Unavailable, "etcdserver: server stopped");
    assert_eq!(status(stream).await, stopped);
    assert_eq!(edge.counted(WATCH, Code::Unavailable), (1, 1));
    assert_eq!(edge.status(call(WATCH, 0)).await, stopped);
    assert_eq!(edge.status(call(CHECK, 0)).await.0, Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_call_that_waits_for_others_and_the_loss_of_the_leader_does_not() {
    let edge = edge();
    let request = with_header(call(LOCK, 0), "hasleader", b"true");
    let mut waiting = Box::pin(edge.status(request));
    let patience = Duration::from_secs(3600);
    assert!(tokio::time::timeout(patience, &mut waiting).await.is_err());
    edge.leader.send(None).unwrap();
    assert!(tokio::time::timeout(patience, &mut waiting).await.is_err());
    edge.stopping.cancel();
    assert_eq!(waiting.await, code_and_text(Code::Unavailable, "etcdserver: server stopped"));
    assert_eq!(edge.counted(LOCK, Code::Unavailable), (1, 1));
    assert_eq!(edge.status(call("/v3lockpb.Lock/Unlock", 0)).await.0, Code::Ok);
}

#[tokio::test]
async fn a_learner_serves_little() {
    let edge = edge_of(Some(1), true);
    let refused =
        code_and_text(Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
    for path in [CHECK, WATCH, "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"] {
        assert_eq!(edge.status(call(path, 0)).await, refused, "{path}");
    }
    let served: Vec<&str> = method::ALL
        .iter()
        .filter(|method| edge_admits(method, true))
        .map(|method| method.name)
        .collect();
    assert_eq!(served, ["Range", "Status", "Snapshot", "Show"]);
    assert!(method::ALL.iter().all(|method| edge_admits(method, false)));
}

fn edge_admits(method: &Method, is_learner: bool) -> bool {
    let leadership = Leadership::new(watch::channel(None).1, LIMITS.election_timeout);
    let admission = Admission { leadership, is_learner: Arc::new(move || is_learner) };
    admission.admit(method, &HeaderMap::new()).is_ok()
}

#[tokio::test]
async fn an_api_version_is_text() {
    let edge = edge();
    let invalid = with_header(call(CHECK, 0), "client-api-version", b"3\xff");
    let text = "etcdserver: invalid client api version";
    assert_eq!(edge.status(invalid).await, code_and_text(Code::InvalidArgument, text));
    let valid = with_header(call(CHECK, 0), "client-api-version", "3.7é".as_bytes());
    assert_eq!(edge.status(valid).await.0, Code::Ok);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let edge = edge();
    for (path, text) in [
        ("/etcdserverpb.Table/Lay", "unknown service etcdserverpb.Table"),
        ("/etcdserverpb.KV/Get", "unknown method Get for service etcdserverpb.KV"),
        ("/nonsense", "unknown service /nonsense"),
    ] {
        assert_eq!(edge.status(call(path, 0)).await, code_and_text(Code::Unimplemented, text));
    }
}

#[tokio::test]
async fn what_is_no_grpc_call_is_not_found() {
    let edge = edge();
    let mut http1 = call(CHECK, 0);
    *http1.version_mut() = Version::HTTP_11;
    let json = with_header(call(CHECK, 0), "content-type", b"application/json");
    for request in [http1, json] {
        assert_eq!(edge.send(request).await.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn pages_beside_the_services_leave_both_as_they_are() {
    let mut edge = edge();
    let page = axum::routing::any(|| async { "a page" });
    edge.router = Router::new().route("/page", page).merge(edge.router);
    let get = |path| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(edge.send(get("/page")).await.status(), StatusCode::OK);
    assert_eq!(edge.send(get("/nonsense")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(edge.status(call(CHECK, 0)).await.0, Code::Ok);
    assert_eq!(edge.status(call("/nobody.Knows/It", 0)).await.0, Code::Unimplemented);
}

#[tokio::test]
async fn a_huge_message_is_refused_and_its_connection_serves_on() {
    let edge = edge();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let listener = crate::http::Listener::Tcp(listener);
    let settings = crate::http::Connections::default();
    let router = edge.router.clone();
    let serving =
        tokio::spawn(crate::http::serve(listener, None, router, settings, shutdown.clone()));
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let huge = HealthCheckRequest { service: "x".repeat(100 << 20) };
    let refused = client.check(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("grpc: received message larger than max (1048576"));
    assert!(client.check(HealthCheckRequest::default()).await.is_ok());
    assert!(edge.metrics.received_bytes.get() < 4 << 20);
    shutdown.cancel();
    drop(client);
    serving.await.unwrap();
}
