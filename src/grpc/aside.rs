//! What takes long goes to a thread of its own, where it holds up no other request: reads, and the
//! encoding of answers that are large.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use futures::executor::block_on;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use prost::Message;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use crate::{grpc::status, mvcc, node};

/// From so many bytes on, encoding an answer costs more than to hand it to another thread.
const LARGE_BYTES: usize = 256 << 10;

/// Runs a read on a thread of its own, where it holds up no other request.
///
/// Costs some ten microseconds, so reads of single keys do without. tokio bounds the threads; a
/// read beyond them waits its turn.
pub(crate) async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, mvcc::Error> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(read).await {
        Ok(outcome) => Ok(outcome.map_err(node::Error::from)?),
        Err(_) => Err(status::read_panicked()),
    }
}

/// Marks an answer of which [`encoded`] is worth its while.
#[derive(Clone, Copy)]
struct Large;

/// The answer, marked if it is large.
pub(crate) fn answer<T: Message>(message: T) -> Response<T> {
    let is_large = message.encoded_len() > LARGE_BYTES;
    let mut response = Response::new(message);
    if is_large {
        response.extensions_mut().insert(Large);
    }
    response
}

/// Has the body of an answer encoded aside if the answer is marked as large.
///
/// The calls of a connection are one task: those that wait behind 50 MB would wait for long.
pub(crate) fn encoded(response: axum::response::Response) -> axum::response::Response {
    if response.extensions().get::<Large>().is_none() {
        return response;
    }
    response.map(|mut body| {
        let frames = tokio::task::spawn_blocking(move || {
            let mut frames = Frames::new();
            let mut next = || {
                block_on(std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)))
            };
            while let Some(frame) = next() {
                frames.push(frame);
            }
            frames
        });
        Body::new(Encoded { coming: Some(frames), frames: Frames::new().into_iter() })
    })
}

type Frames = Vec<Result<Frame<Bytes>, axum::Error>>;

/// A body whose frames come all at once.
struct Encoded {
    /// Until they are there.
    coming: Option<JoinHandle<Frames>>,
    frames: <Frames as IntoIterator>::IntoIter,
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(coming) = &mut self.coming {
            let frames = ready!(Pin::new(coming).poll(context));
            self.coming = None;
            self.frames = frames.map_err(axum::Error::new)?.into_iter();
        }
        Poll::Ready(self.frames.next())
    }

    fn is_end_stream(&self) -> bool {
        self.coming.is_none() && self.frames.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(response: axum::response::Response) -> Vec<Bytes> {
        let (mut body, mut frames) = (response.into_body(), Vec::new());
        while let Some(frame) = std::future::poll_fn(|it| Pin::new(&mut body).poll_frame(it)).await
        {
            frames.extend(frame.unwrap().into_data().ok());
        }
        assert!(body.is_end_stream());
        frames
    }

    #[tokio::test]
    async fn an_answer_is_the_same_however_it_is_encoded() {
        let text = "x".repeat(LARGE_BYTES + 1);
        for (text, is_large) in [("short", false), (text.as_str(), true)] {
            let marked = answer(text.to_owned());
            assert_eq!(marked.extensions().get::<Large>().is_some(), is_large);
            let mut response = axum::response::Response::new(Body::from(text.to_owned()));
            *response.extensions_mut() = marked.extensions().clone();
            assert_eq!(frames(encoded(response)).await.concat(), text.as_bytes());
        }
    }
}
