//! One call of the services in this process.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    response::Response,
};
use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt, stream};
use prost_reflect::MessageDescriptor;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use super::{
    Gateway, Method,
    failure::Failure,
    json::{self, Json, Objects},
    metadata, page,
};

/// No call that sets no time ends by time.
const FOREVER: Duration = Duration::from_hours(24 * 365);

pub(super) struct Call {
    metadata: MetadataMap,
    deadline: Instant,
}

impl Call {
    pub(super) fn of(request: &Request) -> Result<Call, Failure> {
        let timeout = metadata::timeout(request.headers())?.unwrap_or(FOREVER).min(FOREVER);
        let metadata = metadata::of_request(request.headers())?;
        Ok(Call { metadata, deadline: Instant::now() + timeout })
    }

    pub(super) async fn unary(
        self,
        gateway: &Gateway,
        method: &Method,
        body: Body,
    ) -> Result<Response, Failure> {
        let (deadline, request) = self.one(gateway, method, body).await?;
        let mut client = gateway.client();
        let answer = client.unary(request, method.path.clone(), Raw);
        let (told, message, _) = in_time(deadline, answer).await?.into_parts();
        let mut response = page(to_json(&written(&method.response, message)?)?);
        metadata::to_response(&told, response.headers_mut());
        Ok(response)
    }

    pub(super) async fn server_stream(
        self,
        gateway: &Gateway,
        method: &Method,
        body: Body,
    ) -> Result<Response, Failure> {
        let (deadline, request) = self.one(gateway, method, body).await?;
        let mut client = gateway.client();
        let answer = client.server_streaming(request, method.path.clone(), Raw);
        Ok(streamed(in_time(deadline, answer).await, &method.response, deadline).await)
    }

    /// What is sent goes on while answers come; what is no request ends the sending.
    pub(super) async fn both_ways(
        self,
        gateway: &Gateway,
        method: Arc<Method>,
        body: Body,
    ) -> Result<Response, Failure> {
        let mut client = gateway.client();
        let requests = requests(body, method.clone(), gateway.json_bytes_max);
        let request = self.request(requests);
        let answer = client.streaming(request, method.path.clone(), Raw);
        let answer = in_time(self.deadline, answer).await;
        Ok(streamed(answer, &method.response, self.deadline).await)
    }

    /// Reads the one message of a request.
    async fn one(
        self,
        gateway: &Gateway,
        method: &Method,
        body: Body,
    ) -> Result<(Instant, tonic::Request<Bytes>), Failure> {
        let body = axum::body::to_bytes(body, gateway.json_bytes_max).await.map_err(|_| {
            Failure::new(Code::ResourceExhausted, "grpc: received message larger than max")
        })?;
        let message = read(method, &body)?;
        let request = self.request(message);
        Ok((self.deadline, request))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

impl Gateway {
    fn client(&self) -> Grpc<axum::Router> {
        // What the services say is as large as they please.
        Grpc::new(self.grpc.clone()).max_decoding_message_size(usize::MAX)
    }
}

async fn in_time<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    let too_late = || Failure::new(Code::DeadlineExceeded, "context deadline exceeded");
    if deadline <= Instant::now() {
        return Err(too_late());
    }
    Ok(timeout_at(deadline, answer).await.map_err(|_| too_late())??)
}

/// An empty body stands for an empty message.
fn read(method: &Method, body: &[u8]) -> Result<Bytes, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(Bytes::new());
    }
    let message = json::read(&method.request, body);
    Ok(message.map_err(|text| Failure::new(Code::InvalidArgument, text))?.into())
}

/// The messages of a body, up to the first thing that is none.
fn requests(
    body: Body,
    method: Arc<Method>,
    json_bytes_max: usize,
) -> impl Stream<Item = Bytes> + Send + 'static {
    struct Reading {
        body: BodyDataStream,
        objects: Objects,
        method: Arc<Method>,
    }
    let reading = Reading { body: body.into_data_stream(), objects: Objects::default(), method };
    stream::unfold(reading, move |mut reading| async move {
        loop {
            if let Some(object) = reading.objects.next() {
                return match json::read(&reading.method.request, &object) {
                    Ok(message) => Some((Bytes::from(message), reading)),
                    Err(error) => {
                        tracing::debug!(error, "a stream to the gateway sends no request");
                        None
                    }
                };
            }
            if reading.objects.waiting() > json_bytes_max {
                return None;
            }
            match reading.body.next().await {
                Some(Ok(chunk)) => reading.objects.push(&chunk),
                Some(Err(_)) | None => return None,
            }
        }
    })
}

/// The page of a stream: a line for each message, and one for the error that ends it.
///
/// It begins with the first message, as etcd's does, or says with its status why there is none.
async fn streamed(
    answer: Result<tonic::Response<Streaming<Bytes>>, Failure>,
    kind: &MessageDescriptor,
    deadline: Instant,
) -> Response {
    let (told, messages, _) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(failure) => return failed(&failure),
    };
    let mut lines = Box::pin(lines(messages, kind.clone(), deadline));
    let mut response = match lines.next().await {
        Some(Ok(first)) => {
            let rest = lines.map(|line| line.unwrap_or_else(|failure| failure.line()));
            let lines = stream::once(async { first }).chain(rest);
            page(Body::from_stream(lines.map(Ok::<_, Infallible>)))
        }
        Some(Err(failure)) => failed(&failure),
        None => return Response::default(),
    };
    metadata::to_response(&told, response.headers_mut());
    response
}

/// The page of a stream that fails before its first message.
fn failed(failure: &Failure) -> Response {
    let mut response = page(Body::from(failure.line()));
    *response.status_mut() = failure.status();
    response
}

/// Ends behind the first error.
fn lines(
    messages: Streaming<Bytes>,
    kind: MessageDescriptor,
    deadline: Instant,
) -> impl Stream<Item = Result<Vec<u8>, Failure>> + Send + 'static {
    stream::unfold(Some((messages, kind)), move |reading| async move {
        let (mut messages, kind) = reading?;
        let next = in_time(deadline, messages.message()).await;
        match next.and_then(|next| next.map(|message| line(&kind, message)).transpose()) {
            Ok(None) => None,
            Ok(Some(line)) => Some((Ok(line), Some((messages, kind)))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
}

fn line(kind: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Line {
        result: Json,
    }
    let mut line = to_json(&Line { result: written(kind, message)? })?;
    line.push(b'\n');
    Ok(line)
}

fn written(kind: &MessageDescriptor, message: Bytes) -> Result<Json, Failure> {
    let json = Json::of(kind, message);
    json.ok_or_else(|| Failure::new(Code::Internal, "the answer is no such message"))
}

fn to_json(of: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(of).map_err(|error| Failure::new(Code::Internal, error.to_string()))
}

/// Messages as they are on the wire, to and from.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
