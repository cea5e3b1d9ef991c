//! The answer to a call: counted, and ended when it must end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{body::Body, response::Response};
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::{Code, Status};

use super::{EndOfCall, Gate, Refusal, frames::Frames};
use crate::grpc::aside;

/// A call under way. However it ends, it is counted as handled once.
pub(super) struct Call {
    gate: Arc<Gate>,
    position: usize,
    /// `Canceled` until something better is known: that is what a client does that goes away.
    code: Code,
    begun: Option<Instant>,
}

impl Call {
    pub(super) fn start(gate: Arc<Gate>, position: usize) -> Call {
        let method = gate.metrics.method(position);
        method.started.inc();
        let begun = method.begin();
        Call { gate, position, code: Code::Cancelled, begun }
    }

    /// Hands the answer on; the call ends with the last of its body.
    pub(super) fn answer(mut self, response: Response, end: Option<EndOfCall>) -> Response {
        // An error without a body has its status in the headers.
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.code = status.code();
            return response;
        }
        aside::encoded(response).map(|body| {
            Body::new(Answer { body, call: self, end, frames: Frames::default(), ended: false })
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let method = self.gate.metrics.method(self.position);
        method.handled(self.code).inc();
        method.end(self.begun);
    }
}

struct Answer {
    body: Body,
    call: Call,
    end: Option<EndOfCall>,
    frames: Frames,
    ended: bool,
}

impl Answer {
    fn look_at(&mut self, frame: &Frame<Bytes>) {
        if let Some(chunk) = frame.data_ref() {
            let Call { gate, position, .. } = &self.call;
            let metrics = &gate.metrics;
            metrics.sent_bytes.inc_by(chunk.len() as u64);
            let messages = self.frames.lengths(chunk).count();
            metrics.method(*position).messages_sent.inc_by(messages as u64);
        }
        if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
            self.call.code = status.code();
            self.ended = true;
        }
    }

    /// The last frame of a stream that the server ends.
    fn end(&mut self, refusal: Refusal) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        Status::from(refusal).add_header(&mut trailers).expect("texts travel percent-encoded");
        let frame = Frame::trailers(trailers);
        self.look_at(&frame);
        // The service's side of the stream stops now, not when the client has read the end.
        self.body = Body::empty();
        self.end = None;
        frame
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(end) = &mut self.end
            && let Poll::Ready(refusal) = end.as_mut().poll(context)
        {
            return Poll::Ready(Some(Ok(self.end(refusal))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.look_at(frame);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}
