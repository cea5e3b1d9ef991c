//! One port for everything a client asks: gRPC over HTTP/2, and the pages for people, probes and
//! Prometheus over HTTP/1.1 or HTTP/2, with TLS and without.

mod access;
mod calls;
mod debug;
mod exposition;
mod gateway;
mod health;
mod metrics;
mod process;
mod serve;
mod unmoved;
mod unread;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};

pub use self::{
    access::{Access, Allowed},
    debug::Debug,
    metrics::{Feature, Metrics},
    serve::{Connections, Front, Listener, TlsSource, serve},
};
use crate::{
    cluster::Versions,
    grpc::version,
    node::{Node, VersionPage},
};

/// What flags say of the pages of a client URL.
#[derive(Clone, Debug)]
pub struct Options {
    pub access: Access,
    pub debug: Debug,
    /// Whether the JSON gateway is served, for calls up to that many bytes.
    pub gateway_message_bytes_max: Option<usize>,
}

/// The pages of a client URL, and the JSON gateway over `grpc`, the services of
/// [`crate::grpc::router`].
pub fn router(node: &Node, grpc: &Router, metrics: Arc<Metrics>, options: Options) -> Router {
    let status = node.status.clone();
    let pages = metrics_router(node, metrics)
        .merge(version_page(move || status.versions()))
        .merge(debug::router(node, options.debug))
        .fallback(not_found);
    let Some(bytes) = options.gateway_message_bytes_max else {
        return options.access.guard(pages, Arc::new(|| false));
    };
    let credentials = node.credentials.clone();
    // What cannot be read is no secret kept: the call itself will say so.
    let refuses_names = move || credentials.is_enabled().unwrap_or(true);
    let pages = pages.merge(gateway::router(grpc.clone(), bytes));
    options.access.guard(pages, Arc::new(refuses_names))
}

/// What a URL for gRPC alone answers to everything else.
pub fn no_pages() -> Router {
    Router::new().fallback(not_found)
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

/// What a `--listen-metrics-urls` URL serves: health and metrics.
pub fn metrics_router(node: &Node, metrics: Arc<Metrics>) -> Router {
    health::pages(health::checker(node), metrics.health()).merge(metrics::page(node, metrics))
}

fn version_page(versions: impl Fn() -> Versions + Clone + Send + Sync + 'static) -> Router {
    let page = move || async move { Json(VersionPage::new(version::SERVER, versions())) };
    pages(Router::new().route("/version", any(page)))
}

/// Pages answer GET alone; HEAD is refused too, as in etcd.
fn pages(router: Router) -> Router {
    router.route_layer(middleware::from_fn(get_only))
}

async fn get_only(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    refusal
}

/// Plain text that no browser takes for anything else.
fn text(status: StatusCode, text: String) -> Response {
    let mut response = (status, text).into_response();
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests;
