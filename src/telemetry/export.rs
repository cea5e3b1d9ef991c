//! Sending traces to a collector, by OTLP over gRPC.
//!
//! Spans that have ended wait in a queue for a thread that has nothing else to do; what the queue
//! has no room for is dropped. So a collector that is slow or away costs traces and nothing else.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        self as sdk, BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData,
    },
};
use tokio::runtime::Runtime;
use tracing::{Subscriber, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::traces::{TARGET, switch_on};

/// Spans that wait to be sent, a few hundred bytes each. As many as in etcd.
const QUEUE_MAX: usize = 2048;

/// Spans sent with one request.
const BATCH_MAX: usize = 512;

/// A request to the collector, with its repetitions, is given up after that long; what comes
/// meanwhile waits in the queue.
const EXPORT_MAX: Duration = Duration::from_secs(10);

/// How long a member that stops waits for its last spans to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// What traces say of where they come from, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Host and port.
    pub address: String,
    pub service_name: String,
    pub instance_id: Option<String>,
    /// Name of the member.
    pub member: String,
}

/// Traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Address(#[from] ExporterBuildError),
}

/// The way to a collector. Clones share it.
#[derive(Clone)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Looks for no collector yet: it may come later, and go and come again.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(to: Destination) -> Result<Exporter, ExportError> {
        let sending = Sending::new(&to.address)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .build();
        let processor = BatchSpanProcessor::builder(sending).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource(to))
            // Whether a trace is recorded is decided before its first span is made.
            .with_sampler(Sampler::AlwaysOn)
            .build();
        Ok(Exporter(provider))
    }

    /// Takes the spans of traces, and nothing else, out of what is told to a subscriber.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        switch_on();
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("orrery"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO))
    }

    /// Sends what waits, as far as that goes in a short time. Nothing is sent after it.
    pub async fn stop(&self) {
        let provider = self.0.clone();
        let stopping = move || provider.shutdown_with_timeout(FLUSH_MAX);
        // Whether or not the last spans were sent, the member stops.
        let _ = tokio::task::spawn_blocking(stopping).await;
    }
}

fn resource(to: Destination) -> Resource {
    let id = to.instance_id.map(|id| KeyValue::new("service.instance.id", id));
    Resource::builder()
        .with_service_name(to.service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("member.name", to.member))
        .with_attributes(id)
        .build()
}

/// Sends on the thread that calls it, and tells once when that fails and once when it works again.
#[derive(Debug)]
struct Sending {
    inner: SpanExporter,
    /// Of the connection alone: whatever happens on it, the server's own runtime has nothing to do
    /// with it.
    runtime: Arc<Runtime>,
    is_failing: AtomicBool,
}

impl Sending {
    fn new(address: &str) -> Result<Sending, ExportError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let inner = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{address}"))
            .with_timeout(EXPORT_MAX)
            .with_retry_policy(RetryPolicy::recommended())
            .build()?;
        drop(entered);
        Ok(Sending { inner, runtime: Arc::new(runtime), is_failing: AtomicBool::new(false) })
    }

    fn tell(&self, outcome: &OTelSdkResult) {
        let failed = outcome.is_err();
        if self.is_failing.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        match outcome {
            Ok(()) => info!("traces are sent again"),
            Err(error) => warn!(%error, "traces cannot be sent, and are dropped until they can"),
        }
    }
}

impl sdk::SpanExporter for Sending {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.runtime.block_on(async {
            let sent = tokio::time::timeout(EXPORT_MAX, self.inner.export(batch)).await;
            sent.unwrap_or(Err(OTelSdkError::Timeout(EXPORT_MAX)))
        });
        self.tell(&sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
