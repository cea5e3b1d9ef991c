//! A span for each call whose trace is recorded, with the names and attributes that etcd gives it:
//! those of OpenTelemetry's conventions for gRPC.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::method;
use crate::telemetry::traces;

/// Records the traces of calls whose callers record them and, of all others, that part in a
/// million. Nothing is in the way of calls to services that are not traced.
pub fn traced(services: Router, rate: u32) -> Router {
    services.layer(from_fn_with_state(rate, pass))
}

async fn pass(State(rate): State<u32>, request: Request, next: Next) -> Response {
    let Some(span) = begin(&request, rate) else { return next.run(request).await };
    let response = next.run(request).instrument(span.clone()).await;
    // An error without a body has its status in the headers.
    if let Some(status) = Status::from_header_map(response.headers()) {
        note(&span, &status);
        traces::end(span);
        return response;
    }
    let answer = span.in_scope(|| traces::part("answer"));
    response.map(|body| Body::new(Answer { body, call: Some(span), answer }))
}

fn begin(request: &Request, rate: u32) -> Option<Span> {
    let path = request.uri().path();
    method::position(path)?;
    let name = path.strip_prefix('/').unwrap_or(path);
    let span = traces::request(name, request.headers(), rate)?;
    traces::set(&span, "rpc.system.name", "grpc");
    traces::set(&span, "rpc.method", name.to_owned());
    Some(span)
}

/// What became of the call. As the conventions have it, what a client did wrong is no failure of
/// the server.
fn note(call: &Span, status: &Status) {
    traces::set(call, "rpc.response.status_code", name(status.code()));
    match status.code() {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => traces::set_failed(call, status.message()),
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => {}
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The body of an answer. The call ends with it, or when nobody wants the rest.
struct Answer {
    body: Body,
    /// `None` once its outcome is known.
    call: Option<Span>,
    /// Held for as long as it takes.
    answer: Span,
}

impl Answer {
    fn look_at(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers)
            && let Some(call) = self.call.take()
        {
            note(&call, &status);
            self.end(call);
        }
    }

    fn end(&mut self, call: Span) {
        // First, since a span ends after all of its parts.
        traces::end(std::mem::replace(&mut self.answer, Span::none()));
        traces::end(call);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            traces::set(&call, "rpc.response.status_code", name(Code::Cancelled));
            self.end(call);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.look_at(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
