//! etcd's gRPC services over the handles of a node.
//!
//! Each handler says who asks, checks the request, does it, and fills the header in. What holds for
//! all calls stands in [`gate`]; [`status`] alone knows how an error looks on the wire.

mod aside;
mod cluster;
mod gate;
mod header;
mod kv;
mod lease;
mod maintenance;
mod method;
mod metrics;
mod require_leader;
mod status;
mod validate;
pub mod version;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use self::metrics::Metrics;
use self::{
    cluster::Cluster,
    gate::{Admission, Gate},
    header::Header,
    kv::Kv,
    lease::Lease,
    maintenance::Maintenance,
    metrics::Proposals,
    require_leader::Leadership,
};
use crate::{
    node::{Caller, Node},
    proto::etcdserverpb::{
        cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer,
    },
};

/// What clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-request-bytes`: largest request that may enter the log, in bytes.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`: operations of a transaction, for each of its lists.
    pub max_txn_ops: usize,
    /// `--watch-progress-notify-interval`: idle time after which a watcher that asked for it is
    /// told how far it has come.
    pub progress_interval: Duration,
    /// `--election-timeout`; a stream that asks for a leader is ended after three without one.
    pub election_timeout: Duration,
}

impl Limits {
    /// etcd's defaults.
    pub const DEFAULT: Limits = Limits {
        max_request_bytes: 1536 * 1024,
        max_txn_ops: 128,
        progress_interval: Duration::from_mins(10),
        election_timeout: Duration::from_secs(1),
    };
}

/// What a message may have beyond the request limit, so that a request that is a little too large
/// is refused in etcd's words.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

impl Limits {
    /// Largest message that is read at all, in bytes.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.max_request_bytes + MESSAGE_OVERHEAD_BYTES
    }
}

/// All services, behind the gate. Cancel `stopping` to end the streams.
pub fn router(
    node: &Node,
    limits: Limits,
    metrics: &Metrics,
    stopping: CancellationToken,
) -> axum::Router {
    let admission = Admission {
        leadership: Leadership::new(node.status.leader(), limits.election_timeout),
        is_learner: Arc::new({
            let status = node.status.clone();
            move || status.is_learner()
        }),
    };
    let header = Header::new(node);
    let proposals = Proposals::new(node.proposer.clone(), metrics.clone());
    let kv = Kv {
        proposals: proposals.clone(),
        reader: node.reader.clone(),
        admission: admission.clone(),
        header: header.clone(),
        limits,
    };
    let lease = Lease { proposals, leases: node.leases.clone(), header: header.clone() };
    let cluster = Cluster { membership: node.membership.clone(), header: header.clone() };
    let watching = watch::service(node, &header, limits, limits.progress_interval);
    let maintenance = Maintenance {
        status: node.status.clone(),
        reader: node.reader.clone(),
        membership: node.membership.clone(),
        header,
    };
    let largest = limits.message_bytes_max();
    let routes = Routes::new(KvServer::new(kv).max_decoding_message_size(largest))
        .add_service(watching)
        .add_service(LeaseServer::new(lease).max_decoding_message_size(largest))
        .add_service(ClusterServer::new(cluster).max_decoding_message_size(largest))
        .add_service(MaintenanceServer::new(maintenance).max_decoding_message_size(largest))
        .add_service(tonic_health::server::health_reporter().1);
    gated(routes, Gate { admission, limits, metrics: metrics.clone(), stopping })
}

fn gated(routes: Routes, gate: Gate) -> axum::Router {
    routes.into_axum_router().layer(axum::middleware::from_fn_with_state(gate, gate::pass))
}

/// Who asks. Until users come with authentication, everybody is anonymous.
fn caller<T>(_: &tonic::Request<T>) -> Caller {
    Caller::default()
}
