//! One port for everything a client asks: gRPC over HTTP/2, and the pages for people, probes and
//! Prometheus over HTTP/1.1 or HTTP/2, with TLS and without.

mod health;
mod metrics;
mod process;
mod serve;

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
    metrics::Metrics,
    serve::{Connections, Listener, TlsSource, serve},
};
use crate::{grpc::version, node::Node};

/// What a client URL serves: the services of [`crate::grpc::router`] and the pages.
pub fn router(node: &Node, grpc: Router, metrics: Arc<Metrics>) -> Router {
    metrics_router(node, metrics).merge(version_page()).merge(grpc)
}

/// What a `--listen-metrics-urls` URL serves: health and metrics.
pub fn metrics_router(node: &Node, metrics: Arc<Metrics>) -> Router {
    health::pages(health::checker(node)).merge(metrics::page(node, metrics))
}

fn version_page() -> Router {
    pages(Router::new().route("/version", any(versions)))
}

async fn versions() -> Json<Versions> {
    Json(VERSIONS)
}

/// The body of `/version`, for the peers' port.
pub fn version_json() -> String {
    serde_json::to_string(&VERSIONS).expect("three strings become JSON")
}

const VERSIONS: Versions = Versions {
    etcdserver: version::SERVER,
    etcdcluster: version::CLUSTER,
    storage: version::STORAGE,
};

#[derive(serde::Serialize)]
struct Versions {
    etcdserver: &'static str,
    etcdcluster: &'static str,
    storage: &'static str,
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
