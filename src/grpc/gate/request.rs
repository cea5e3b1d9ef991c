//! The body of a request, with a limit on its messages.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{BoxError, body::Body};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tonic::Status;

use super::{Refusal, frames::Frames};
use crate::grpc::Metrics;

/// Fails at the first message that is too large, before any of it is kept.
///
/// tonic has such a limit too, but says so in words and with a code that no client knows.
pub(super) struct Limited {
    body: Body,
    frames: Frames,
    limit: usize,
    bytes: Counter,
    messages: Counter,
    failed: bool,
}

impl Limited {
    pub(super) fn new(body: Body, limit: usize, metrics: &Metrics, position: usize) -> Limited {
        Limited {
            body,
            frames: Frames::default(),
            limit,
            bytes: metrics.received_bytes.clone(),
            messages: metrics.method(position).messages_received.clone(),
            failed: false,
        }
    }

    fn look_at(&mut self, chunk: &Bytes) -> Result<(), Refusal> {
        self.bytes.inc_by(chunk.len() as u64);
        for size in self.frames.lengths(chunk) {
            if size > self.limit {
                return Err(Refusal::MessageTooLarge { size, limit: self.limit });
            }
            self.messages.inc();
        }
        Ok(())
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = &polled else {
            return polled.map_err(BoxError::from);
        };
        match frame.data_ref().map_or(Ok(()), |chunk| self.look_at(chunk)) {
            Ok(()) => polled.map_err(BoxError::from),
            Err(refusal) => {
                self.failed = true;
                Poll::Ready(Some(Err(Box::new(Status::from(refusal)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
