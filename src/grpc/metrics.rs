//! What the gRPC edge counts, under the names that etcd's dashboards and alerts use.

use std::sync::Arc;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tonic::Code;

use crate::{
    grpc::method,
    node::{Caller, Error, Node, Operation, Proposer, Space},
};

/// Codes of the gRPC protocol, named as etcd's metrics name them, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

type Labels = Vec<(&'static str, &'static str)>;

/// Counters of the edge; clones share them.
///
/// Every counter of every method exists from the start, at zero: a rate over one that appears with
/// its first error would miss that error.
#[derive(Clone)]
pub struct Metrics {
    methods: Arc<[MethodCounters]>,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    proposals_pending: Gauge,
    proposals_failed: Counter,
}

/// Counters of one method.
pub(crate) struct MethodCounters {
    pub(crate) started: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_sent: Counter,
    handled: Vec<Counter>,
}

impl MethodCounters {
    pub(crate) fn handled(&self, code: Code) -> &Counter {
        // A code is a number from 0 to 16, one for each row of `CODES`.
        &self.handled[code as usize]
    }
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Metrics {
        let started = family(registry, "grpc_server_started", "RPCs started on the server");
        let handled = family(
            registry,
            "grpc_server_handled",
            "RPCs completed on the server, regardless of success or failure",
        );
        let messages_received =
            family(registry, "grpc_server_msg_received", "Messages received on the server");
        let messages_sent = family(registry, "grpc_server_msg_sent", "Messages sent by the server");
        let of_method = |method: &method::Method| {
            let labels = vec![
                ("grpc_type", method.kind.name()),
                ("grpc_service", method.service),
                ("grpc_method", method.name),
            ];
            let with_code = |code| {
                let labels = [labels.as_slice(), &[("grpc_code", code)]].concat();
                handled.get_or_create_owned(&labels)
            };
            MethodCounters {
                started: started.get_or_create_owned(&labels),
                messages_received: messages_received.get_or_create_owned(&labels),
                messages_sent: messages_sent.get_or_create_owned(&labels),
                handled: CODES.into_iter().map(with_code).collect(),
            }
        };
        let metrics = Metrics {
            methods: method::ALL.iter().map(of_method).collect(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
        };
        metrics.register_totals(registry);
        metrics
    }

    fn register_totals(&self, registry: &mut Registry) {
        registry.register(
            "etcd_network_client_grpc_received_bytes",
            "Bytes received from gRPC clients",
            self.received_bytes.clone(),
        );
        registry.register(
            "etcd_network_client_grpc_sent_bytes",
            "Bytes sent to gRPC clients",
            self.sent_bytes.clone(),
        );
        registry.register(
            "etcd_server_proposals_pending",
            "Proposals of this member's clients that wait for their outcome",
            self.proposals_pending.clone(),
        );
        registry.register(
            "etcd_server_proposals_failed",
            "Proposals of this member's clients that failed or whose outcome nobody knows",
            self.proposals_failed.clone(),
        );
    }

    /// `position` is that in [`method::ALL`].
    pub(crate) fn method(&self, position: usize) -> &MethodCounters {
        &self.methods[position]
    }
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// A [`Proposer`] that counts.
#[derive(Clone)]
pub(crate) struct Proposals {
    proposer: Proposer,
    space: Space,
    metrics: Metrics,
}

impl Proposals {
    pub(crate) fn new(node: &Node, metrics: Metrics) -> Proposals {
        let (proposer, space) = (node.proposer.clone(), node.space.clone());
        Proposals { proposer, space, metrics }
    }

    /// Refuses what costs more of the quota than there is, before it is looked at any further.
    pub(crate) async fn admit(&self, cost: u64) -> Result<(), Error> {
        self.space.admit(cost).await
    }

    /// Refuses what costs anything while an alarm says that there is no space.
    pub(crate) async fn check_alarm(&self, cost: u64) -> Result<(), Error> {
        self.space.check_alarm(cost).await
    }

    pub(crate) async fn propose<O: Operation>(
        &self,
        caller: &Caller,
        operation: O,
    ) -> Result<O::Reply, Error> {
        let _pending = Pending::start(&self.metrics.proposals_pending);
        let outcome = self.proposer.propose(caller, operation).await;
        match &outcome {
            // A rejection is an answer.
            Ok(_) | Err(Error::Rejected(_)) => {}
            Err(_) => {
                self.metrics.proposals_failed.inc();
            }
        }
        outcome
    }
}

/// One proposal under way; a client that goes away ends it as well.
struct Pending<'a>(&'a Gauge);

impl Pending<'_> {
    fn start(pending: &Gauge) -> Pending<'_> {
        pending.inc();
        Pending(pending)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_every_method_is_there_from_the_start() {
        let mut registry = Registry::default();
        Metrics::register(&mut registry).method(0).handled(Code::OutOfRange).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "grpc_server_started_total{grpc_type=\"bidi_stream\",\
             grpc_service=\"etcdserverpb.Watch\",grpc_method=\"Watch\"} 0",
            "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",\
             grpc_method=\"Range\",grpc_code=\"OutOfRange\"} 1",
            "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",\
             grpc_method=\"Put\",grpc_code=\"Unavailable\"} 0",
            "grpc_server_msg_received_total{grpc_type=\"unary\",\
             grpc_service=\"etcdserverpb.KV\",grpc_method=\"Txn\"} 0",
            "etcd_network_client_grpc_received_bytes_total 0",
            "etcd_network_client_grpc_sent_bytes_total 0",
            "etcd_server_proposals_failed_total 0",
            "etcd_server_proposals_pending 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn codes_stand_in_the_order_of_their_numbers() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from(i32::try_from(number).unwrap());
            let name = if *name == "Canceled" { "Cancelled" } else { name };
            assert_eq!(format!("{code:?}").to_lowercase(), name.to_lowercase());
        }
    }
}
