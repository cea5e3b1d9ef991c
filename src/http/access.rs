//! What every request for a page passes through before it finds its page: `--host-whitelist`,
//! `--cors`, and paths as nobody should write them. Calls of gRPC come another way.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;

use crate::{grpc::CommonName, http::text};

/// Names, or any name at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    #[default]
    Any,
    Only(BTreeSet<String>),
}

impl Allowed {
    /// From a list of a flag, in which `*` stands for all; so does a list with nothing in it.
    pub fn of(names: impl IntoIterator<Item = String>) -> Allowed {
        let names: BTreeSet<String> = names.into_iter().collect();
        if names.is_empty() || names.contains("*") { Allowed::Any } else { Allowed::Only(names) }
    }

    fn allows(&self, name: &str) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::Only(names) => names.contains(name),
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--cors`: origins whose pages a browser lets read the answers.
    pub origins: Allowed,
    /// `--host-whitelist`: names that requests without TLS may be for. A page whose name was made
    /// to lead here has another.
    pub hosts: Allowed,
}

impl Access {
    /// For listeners with TLS, where the certificate vouches for the name.
    #[must_use]
    pub fn with_any_host(self) -> Access {
        Access { hosts: Allowed::Any, ..self }
    }

    /// `refuses_names` is asked about clients with a name in their certificate.
    pub(super) fn guard(self, pages: Router, refuses_names: RefusesNames) -> Router {
        let guarded = Guarded { access: self, pages, refuses_names };
        Router::new().fallback(pass).with_state(Arc::new(guarded))
    }

    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::Only(_) => {
                let origin = headers.get(header::ORIGIN)?;
                self.origins.allows(origin.to_str().ok()?).then(|| origin.clone())
            }
        }
    }
}

/// Whether authentication is on. Then the gateway refuses clients that have shown who they are by a
/// certificate: it goes by tokens alone, and they could think otherwise.
pub(super) type RefusesNames = Arc<dyn Fn() -> bool + Send + Sync>;

struct Guarded {
    access: Access,
    pages: Router,
    refuses_names: RefusesNames,
}

async fn pass(State(guarded): State<Arc<Guarded>>, mut request: Request) -> Response {
    let Guarded { access, pages, refuses_names } = guarded.as_ref();
    if let Some(uri) = without_beta(request.uri()) {
        *request.uri_mut() = uri;
    }
    let host = host(&request);
    if !access.hosts.allows(host) {
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return text(StatusCode::MISDIRECTED_REQUEST, unknown_host(host));
    }
    let is_named = request.extensions().get::<CommonName>().is_some_and(|name| !name.0.is_empty());
    if is_named && request.uri().path().starts_with("/v3/") && refuses_names() {
        return text(StatusCode::BAD_REQUEST, NAMED.to_owned());
    }
    let origin = access.origin(request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else if let Some(path) = cleaned(request.uri().path()) {
        moved(request.uri(), &path)
    } else {
        match pages.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.append(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    }
    response
}

/// In etcd's words.
const NAMED: &str = "CommonName of client sending a request against gateway will be ignored and not \
                     used as expected\n";

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("accept, content-type, authorization");

/// `/v3beta/` is what `/v3/` was called.
fn without_beta(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/v3beta/")?;
    format!("/v3/{rest}").parse().ok()
}

/// The name that a request is for, without the port.
fn host(request: &Request) -> &str {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = || request.uri().authority().map(|authority| authority.as_str());
    let named = named.or_else(authority).unwrap_or_default();
    match named.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') && host.ends_with(']') => &host[1..host.len() - 1],
        Some((host, _)) if !host.contains([':', '[', ']']) => host,
        Some(_) | None => named,
    }
}

/// In etcd's words, which name what to do.
fn unknown_host(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks \
         (CVE-2018-5702).\n\n"
    )
}

/// The path without empty parts, `.` and `..`, if it has any.
fn cleaned(path: &str) -> Option<String> {
    if path == "*" {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

fn moved(uri: &Uri, path: &str) -> Response {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let place = HeaderValue::try_from(format!("{path}{query}"));
    match place {
        Ok(place) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::any};

    use super::*;

    fn only(names: &[&str]) -> Allowed {
        Allowed::of(names.iter().map(|name| (*name).to_owned()))
    }

    async fn ask(access: Access, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let page = any(|request: Request| async move { request.uri().to_string() });
        let pages = Router::new().route("/{*path}", page);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        access.guard(pages, Arc::new(|| true)).oneshot(request).await.unwrap()
    }

    async fn body(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn hosts_that_are_not_listed_are_told_how_they_could_be() {
        let access = Access { hosts: only(&["here", "::1"]), ..Access::default() };
        for host in ["here", "here:2379", "[::1]:2379"] {
            let response = ask(access.clone(), "GET", "/x", &[("host", host)]).await;
            assert_eq!(response.status(), StatusCode::OK, "{host}");
        }
        for host in ["there", "there:2379", "here:1:2", "HERE"] {
            let response = ask(access.clone(), "GET", "/x", &[("host", host)]).await;
            assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
            assert!(body(response).await.contains("etcd --host-whitelist \""), "{host}");
            let response =
                ask(access.clone().with_any_host(), "GET", "/x", &[("host", host)]).await;
            assert_eq!(response.status(), StatusCode::OK, "{host}");
        }
    }

    #[tokio::test]
    async fn whoever_has_a_name_is_told_that_the_gateway_does_not_look_at_it() {
        for (name, path, is_on, status) in [
            ("ann", "/v3/kv/range", true, StatusCode::BAD_REQUEST),
            ("ann", "/v3beta/kv/range", true, StatusCode::BAD_REQUEST),
            ("ann", "/v3/kv/range", false, StatusCode::OK),
            ("ann", "/health", true, StatusCode::OK),
            ("", "/v3/kv/range", true, StatusCode::OK),
        ] {
            let pages = Router::new().route("/{*path}", any(async || "page"));
            let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
            request.extensions_mut().insert(CommonName(name.into()));
            let guarded = Access::default().guard(pages, Arc::new(move || is_on));
            let response = guarded.oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{name:?} {path} {is_on}");
        }
    }

    #[tokio::test]
    async fn origins_that_are_listed_may_read_the_answers() {
        let allowed = async |origins: Allowed, origin: &str| {
            let access = Access { origins, ..Access::default() };
            let response = ask(access, "OPTIONS", "/x", &[("origin", origin)]).await;
            assert_eq!(response.status(), StatusCode::OK);
            let allowed = response.headers().get("access-control-allow-origin").cloned();
            allowed.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed(Allowed::Any, "http://a").await.as_deref(), Some("*"));
        let listed = only(&["http://a", "http://b"]);
        assert_eq!(allowed(listed.clone(), "http://a").await.as_deref(), Some("http://a"));
        assert_eq!(allowed(listed, "http://c").await, None);
        assert_eq!(only(&["*", "http://a"]), Allowed::Any);
        assert_eq!(only(&[]), Allowed::Any);
    }

    #[tokio::test]
    async fn old_paths_are_read_as_new_ones_and_odd_ones_are_sent_elsewhere() {
        let response = ask(Access::default(), "POST", "/v3beta/kv/range?a=b", &[]).await;
        assert_eq!(body(response).await, "/v3/kv/range?a=b");
        for (odd, place) in [
            ("//v3///kv/range?a=b", "/v3/kv/range?a=b"),
            ("/v3/./x/../kv/", "/v3/kv/"),
            ("/..", "/"),
        ] {
            let response = ask(Access::default(), "POST", odd, &[]).await;
            assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT, "{odd}");
            assert_eq!(response.headers()["location"], place, "{odd}");
        }
    }
}
