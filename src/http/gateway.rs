//! The JSON gateway: the client API for whoever speaks HTTP and JSON alone, as etcd serves it.
//!
//! Each request becomes a call of the services in this process, through the same gate as everybody
//! else's: limits, metrics and permissions are decided there. Here messages are only translated.

mod call;
mod failure;
mod json;
mod metadata;
mod paths;
mod websocket;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method as Verb, header},
    response::{IntoResponse, Response},
    routing::any,
};
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tonic::{Code, codegen::http::uri::PathAndQuery};

use self::{call::Call, failure::Failure, paths::PATHS};
use crate::proto::CLIENT_API;

/// JSON of a message is this many times as long as the message, and some more: bytes grow by a
/// third as base64, numbers by a bit, and names come on top.
const JSON_TIMES: usize = 3;

/// The gateway's paths over `grpc`, which takes messages up to that many bytes.
pub(super) fn router(grpc: Router, message_bytes_max: usize) -> Router {
    let gateway = Arc::new(Gateway {
        grpc,
        methods: methods(),
        json_bytes_max: message_bytes_max.saturating_mul(JSON_TIMES),
    });
    Router::new().route("/v3/", any(answer)).route("/v3/{*path}", any(answer)).with_state(gateway)
}

struct Gateway {
    grpc: Router,
    /// By path.
    methods: HashMap<&'static str, Arc<Method>>,
    /// Longest request of one message; also the most that a stream may send before the end of an
    /// object.
    json_bytes_max: usize,
}

/// A method of the client API.
struct Method {
    path: PathAndQuery,
    request: MessageDescriptor,
    response: MessageDescriptor,
    takes: Messages,
    gives: Messages,
}

/// How many messages go one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Messages {
    One,
    Stream,
}

impl Messages {
    fn streaming(is_streaming: bool) -> Messages {
        if is_streaming { Messages::Stream } else { Messages::One }
    }
}

fn methods() -> HashMap<&'static str, Arc<Method>> {
    let pool = DescriptorPool::decode(CLIENT_API).expect("build.rs has made it");
    let method = |service: &str, name: &str| {
        let service = pool.get_service_by_name(service)?;
        let method = service.methods().find(|method| method.name() == name)?;
        Some(Method {
            path: format!("/{}/{name}", service.full_name()).parse().ok()?,
            request: method.input(),
            response: method.output(),
            takes: Messages::streaming(method.is_client_streaming()),
            gives: Messages::streaming(method.is_server_streaming()),
        })
    };
    let method_at = |(path, service, name): &(&'static str, &str, &str)| {
        let method = method(service, name).expect("the table names what the descriptors have");
        (*path, Arc::new(method))
    };
    PATHS.iter().map(method_at).collect()
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    if websocket::is_asked(request.headers()) {
        return websocket::answer(gateway, request).await;
    }
    gateway.answer(request).await
}

impl Gateway {
    async fn answer(&self, request: Request) -> Response {
        let found = self.method(&request).and_then(|method| Ok((method, Call::of(&request)?)));
        let (method, call) = match found {
            Ok(found) => found,
            Err(failure) => return failure.page(),
        };
        let body = request.into_body();
        match (method.takes, method.gives) {
            (Messages::One, Messages::One) => call.unary(self, &method, body).await,
            (Messages::One, Messages::Stream) => call.server_stream(self, &method, body).await,
            (Messages::Stream, _) => call.both_ways(self, method, body).await,
        }
        .unwrap_or_else(|failure| failure.page())
    }

    fn method(&self, request: &Request) -> Result<Arc<Method>, Failure> {
        let method = self.methods.get(request.uri().path());
        let method = method.ok_or_else(|| Failure::new(Code::NotFound, "Not Found"))?;
        if request.method() != Verb::POST || is_overridden(request) {
            return Err(Failure::new(Code::Unimplemented, "Method Not Allowed"));
        }
        Ok(Arc::clone(method))
    }
}

/// A form may name another method than POST, and no other is served.
fn is_overridden(request: &Request) -> bool {
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let method = header("x-http-method-override").unwrap_or_default();
    let is_form = header("content-type") == Some(b"application/x-www-form-urlencoded");
    is_form && !method.is_empty() && !method.eq_ignore_ascii_case(b"POST")
}

/// A page of JSON.
fn page(json: impl IntoResponse) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], json).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::{
        body::Body,
        http::{HeaderMap, StatusCode},
    };
    use hyper::body::Frame;
    use prost::Message as _;
    use tower::ServiceExt;

    use super::*;
    use crate::proto::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};

    #[test]
    fn every_path_is_a_method_that_the_gate_knows_or_will() {
        let methods = methods();
        assert_eq!(methods.len(), PATHS.len());
        let streams = PATHS.iter().filter(|(path, ..)| {
            let method = &methods[path];
            (method.takes, method.gives) != (Messages::One, Messages::One)
        });
        let streams: Vec<&str> = streams.map(|(path, ..)| *path).collect();
        let expected = [
            "/v3/watch",
            "/v3/lease/keepalive",
            "/v3/maintenance/snapshot",
            "/v3/election/observe",
        ];
        assert_eq!(streams, expected);
    }

    /// Services that take one put, and answer with the size of its key as revision.
    fn services() -> Router {
        Router::new().route("/etcdserverpb.KV/Put", any(put))
    }

    async fn put(headers: HeaderMap, body: axum::body::Bytes) -> Response {
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["token"], "a.7");
        let put = PutRequest::decode(body.slice(5..)).unwrap();
        let header = ResponseHeader { revision: put.key.len() as i64, ..Default::default() };
        let message = PutResponse { header: Some(header), prev_kv: None }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = Frame::data([&[0], &length[..], &message].concat().into());
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), 0.into())]);
        let ok = [("content-type", "application/grpc"), ("x-region", "here")];
        let frames = Frames([message, Frame::trailers(trailers)].into());
        (ok, Body::new(frames)).into_response()
    }

    struct Frames(VecDeque<Frame<axum::body::Bytes>>);

    impl hyper::body::Body for Frames {
        type Data = axum::body::Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    async fn answered(body: &str, bytes_max: usize) -> (StatusCode, HeaderMap, String) {
        let request = Request::post("/v3/kv/put").header("grpc-metadata-token", "a.7");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router(services(), bytes_max).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_request_of_json_becomes_a_call_and_its_answer_json() {
        let (status, headers, body) = answered(r#"{"key":"Zm9v"}"#, 1000).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"header":{"revision":"3"}}"#));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["grpc-metadata-x-region"], "here");
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_the_end() {
        let (status, _, body) = answered(&" ".repeat(31), 10).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
    }
}
