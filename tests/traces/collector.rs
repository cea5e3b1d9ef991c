//! A collector: takes what members send by OTLP, and finds spans in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind},
};
use tokio::{net::TcpListener, time::sleep};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Longer than a busy machine needs to send a few spans.
const SPANS_DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

/// A span with what its resource says of its member.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub resource: BTreeMap<String, String>,
    pub attributes: BTreeMap<String, String>,
    span: Span,
}

impl Found {
    pub(crate) fn member(&self) -> &str {
        self.resource.get("member.name").map_or("", String::as_str)
    }

    pub(crate) fn id(&self) -> Vec<u8> {
        self.span.span_id.clone()
    }

    pub(crate) fn trace(&self) -> Vec<u8> {
        self.span.trace_id.clone()
    }

    pub(crate) fn parent(&self) -> Vec<u8> {
        self.span.parent_span_id.clone()
    }

    pub(crate) fn name(&self) -> &str {
        &self.span.name
    }

    pub(crate) fn kind(&self) -> SpanKind {
        self.span.kind()
    }

    /// In nanoseconds, by the clock that all members of a test share.
    pub(crate) fn times(&self) -> (u64, u64) {
        (self.span.start_time_unix_nano, self.span.end_time_unix_nano)
    }
}

/// Receives spans until it is dropped with the test's runtime. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Found>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().unwrap();
        for of_member in request.into_inner().resource_spans {
            let resource = of_member.resource.unwrap_or_default();
            let resource = texts(&resource.attributes);
            let spans = of_member.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
            received.extend(spans.map(|span| Found {
                resource: resource.clone(),
                attributes: texts(&span.attributes),
                span,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|it| (it.key.clone(), text(&it.value))).collect()
}

impl Collector {
    pub(crate) async fn start() -> (Collector, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Collector::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        (collector, address)
    }

    pub(crate) fn all(&self) -> Vec<Found> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn traces(&self) -> BTreeSet<Vec<u8>> {
        self.all().iter().map(Found::trace).collect()
    }

    /// Waits for a span of that name at that member.
    pub(crate) async fn named(&self, member: &str, name: &str) -> Found {
        let is_it = |it: &Found| it.member() == member && it.name() == name;
        self.first(format!("{name} at {member}"), is_it).await
    }

    /// Waits for the span that another one follows from.
    pub(crate) async fn parent(&self, of: &Found) -> Found {
        self.first(format!("parent of {}", of.name()), |it| it.id() == of.parent()).await
    }

    /// Waits for the span of that name at that member whose parent is the given one.
    pub(crate) async fn child(&self, member: &str, name: &str, parent: Vec<u8>) -> Found {
        let is_it =
            |it: &Found| it.member() == member && it.name() == name && it.parent() == parent;
        self.first(format!("{name} at {member}"), is_it).await
    }

    /// Waits for a span.
    pub(crate) async fn first(&self, what: String, is_it: impl Fn(&Found) -> bool) -> Found {
        let begin = Instant::now();
        while begin.elapsed() < SPANS_DEADLINE {
            if let Some(found) = self.all().into_iter().find(&is_it) {
                return found;
            }
            sleep(POLL).await;
        }
        let known: Vec<String> =
            self.all().iter().map(|it| format!("{} at {}", it.name(), it.member())).collect();
        panic!("no {what}; there is {}", known.join(", "));
    }
}
