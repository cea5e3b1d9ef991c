//! What every call passes through: who is served at all, how large a message may be, when a call
//! must end, and what is counted.

mod frames;
mod operations;
mod request;
mod response;

use std::{pin::Pin, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    grpc::{
        Limits, Metrics,
        method::{self, Access, Learner, Method},
        require_leader::{self, Leadership},
        stats, who,
    },
    node::{self, Standing, Who},
};

/// Why a call is not served, whatever it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoLeader,
    NotSupportedForLearner,
    ClientApiVersion,
    Stopped,
    MessageTooLarge {
        size: usize,
        limit: usize,
    },
    UnknownMethod {
        service: String,
        /// `None` when not even the service is known.
        method: Option<String>,
    },
}

/// Whether this member may serve a call as it is now.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) leadership: Leadership,
    pub(crate) is_learner: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Admission {
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        match method.learner {
            Learner::Serves | Learner::Depends => {}
            Learner::Refuses => self.voter_only()?,
        }
        let version = headers.get("client-api-version");
        if version.is_some_and(|version| std::str::from_utf8(version.as_bytes()).is_err()) {
            return Err(Refusal::ClientApiVersion);
        }
        if require_leader::is_asked(headers) && !self.leadership.has_leader() {
            return Err(Refusal::NoLeader);
        }
        Ok(())
    }

    /// For requests that a learner has no right to answer.
    pub(crate) fn voter_only(&self) -> Result<(), Refusal> {
        if (self.is_learner)() { Err(Refusal::NotSupportedForLearner) } else { Ok(()) }
    }
}

/// Refuses who is not what a call needs.
pub(crate) type LetIn =
    Arc<dyn Fn(Who, Standing) -> BoxFuture<'static, Result<(), node::Error>> + Send + Sync>;

/// Resolves when a call must end, with the reason.
type EndOfCall = Pin<Box<dyn Future<Output = Refusal> + Send>>;

pub(crate) struct Gate {
    pub(crate) admission: Admission,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) let_in: LetIn,
    /// Ends all endless calls: a stop would wait for them in vain.
    pub(crate) stopping: CancellationToken,
}

/// The middleware.
pub(crate) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if !is_grpc(&request) {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    match method::position(request.uri().path()) {
        Some(position) => gate.call(position, request, next).await,
        None => Status::from(unknown(request.uri().path())).into_http(),
    }
}

impl Gate {
    async fn call(self: Arc<Self>, position: usize, request: Request, next: Next) -> Response {
        let method = &method::ALL[position];
        let call = response::Call::start(self.clone(), position);
        let version = request.headers().get("client-api-version");
        self.metrics.clients.count(version, method.kind.is_stream());
        if let Err(refusal) = self.admission.admit(method, request.headers()) {
            return call.answer(Status::from(refusal).into_http(), None);
        }
        if let Access::Needs(standing) = method.access {
            let who = who::of_call(request.headers(), request.extensions());
            if let Err(refusal) = (self.let_in)(who, standing).await {
                return call.answer(Status::from(refusal).into_http(), None);
            }
        }
        let end = method.is_endless().then(|| self.end_of_call(method, request.headers()));
        let request = request.map(|body| {
            let limit = self.limits.message_bytes_max();
            axum::body::Body::new(request::Limited::new(body, limit, &self.metrics, position))
        });
        let request = if method.is_txn() {
            match operations::bounded(request, &self.limits).await {
                Ok(request) => request,
                Err(status) => return call.answer(status.into_http(), None),
            }
        } else {
            request
        };
        let Some(mut end) = end else {
            // Calls of the KV service are told with what they ask for, by the service.
            let told = (method.service != stats::KV).then(|| {
                let remote = stats::remote(request.extensions());
                stats::Call::start((method.service, method.name), remote)
            });
            let response = next.run(request).await;
            if let Some(told) = told {
                told.end(self.limits.slow_unary);
            }
            return call.answer(response, None);
        };
        let response = tokio::select! {
            response = next.run(request) => response,
            refusal = &mut end => return call.answer(Status::from(refusal).into_http(), None),
        };
        // A single answer is not taken back.
        call.answer(response, method.kind.is_stream().then_some(end))
    }

    fn end_of_call(&self, method: &Method, headers: &HeaderMap) -> EndOfCall {
        let stopped = self.stopping.clone().cancelled_owned();
        let needs_leader = method.kind.is_stream() && require_leader::is_asked(headers);
        let lost_leader = needs_leader.then(|| self.admission.leadership.lost_leader());
        Box::pin(async move {
            let Some(lost_leader) = lost_leader else {
                stopped.await;
                return Refusal::Stopped;
            };
            tokio::select! {
                () = stopped => Refusal::Stopped,
                () = lost_leader => Refusal::NoLeader,
            }
        })
    }
}

/// What etcd takes for a gRPC call; everything else goes to the pages.
pub(crate) fn is_grpc<B>(request: &http::Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

fn unknown(path: &str) -> Refusal {
    let (service, name) = method::names(path).unwrap_or((path, ""));
    let method = method::is_service(service).then(|| name.to_owned());
    Refusal::UnknownMethod { service: service.to_owned(), method }
}

#[cfg(test)]
mod tests;
