//! etcd's gRPC services over the handles of a node.
//!
//! Each handler says who asks, checks the request, does it, and fills the header in. What holds for
//! all calls stands in [`gate`]; [`status`] alone knows how an error looks on the wire.

mod aside;
mod auth;
mod client;
mod cluster;
mod consistency;
mod downgrade;
mod election;
mod gate;
mod header;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod method;
mod metrics;
mod queue;
mod regions;
mod require_leader;
mod saved;
mod stats;
mod status;
mod trace;
mod validate;
pub mod version;
mod watch;
mod who;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(crate) use self::gate::is_grpc;
use self::{
    auth::Auth,
    client::Services,
    cluster::Cluster,
    consistency::Levels,
    election::Election,
    gate::{Admission, Gate, LetIn},
    header::Header,
    kv::Kv,
    lease::Lease,
    lock::Lock,
    maintenance::Maintenance,
    metrics::Proposals,
    require_leader::Leadership,
};
pub use self::{
    consistency::{Defaults, ListenerDefault},
    limits::Limits,
    metrics::{Extent, Metrics},
    trace::traced,
    who::CommonName,
};
use crate::{
    node::{Credentials, Node},
    proto::{
        etcdserverpb::{
            auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
            lease_server::LeaseServer, maintenance_server::MaintenanceServer,
        },
        v3electionpb::election_server::ElectionServer,
        v3lockpb::lock_server::LockServer,
    },
};

/// All services, behind the gate. Cancel `stopping` to end the streams.
pub fn router(
    node: &Node,
    limits: Limits,
    defaults: Defaults,
    metrics: &Metrics,
    stopping: CancellationToken,
) -> axum::Router {
    let (admission, header) = (admission(node, limits), Header::new(node));
    let proposals = Proposals::new(node, metrics.clone());
    let kv = Kv {
        proposals: proposals.clone(),
        reader: node.reader.clone(),
        credentials: node.credentials.clone(),
        admission: admission.clone(),
        header: header.clone(),
        levels: Levels::new(node, defaults),
        limits,
    };
    let auth = Auth {
        proposals: proposals.clone(),
        reader: node.reader.clone(),
        credentials: node.credentials.clone(),
        header: header.clone(),
    };
    let lease = Lease {
        proposals,
        leases: node.leases.clone(),
        reader: node.reader.clone(),
        credentials: node.credentials.clone(),
        header: header.clone(),
    };
    let within = Kv { levels: Levels::always_strong(node), ..kv.clone() };
    let services = Services::new(within, lease.clone(), node.watch.clone());
    let lock = Lock { services: services.clone() };
    let cluster = Cluster {
        membership: node.membership.clone(),
        credentials: node.credentials.clone(),
        header: header.clone(),
    };
    let watching = watch::service(node, (&header, &kv.levels), limits, limits.progress_interval);
    let maintenance = Maintenance {
        status: node.status.clone(),
        reader: node.reader.clone(),
        membership: node.membership.clone(),
        downgrades: node.downgrades.clone(),
        proposals: kv.proposals.clone(),
        space: node.space.clone(),
        saver: node.saver.clone(),
        credentials: node.credentials.clone(),
        header: header.clone(),
    };
    let largest = limits.message_bytes_max();
    let kv = stats::Told { kv, limits };
    let routes = Routes::new(KvServer::new(kv).max_decoding_message_size(largest))
        .add_service(watching)
        .add_service(LeaseServer::new(lease).max_decoding_message_size(largest))
        .add_service(AuthServer::new(auth).max_decoding_message_size(largest))
        .add_service(ClusterServer::new(cluster).max_decoding_message_size(largest))
        .add_service(MaintenanceServer::new(maintenance).max_decoding_message_size(largest))
        .add_service(regions::service(node, &header, largest))
        .add_service(LockServer::new(lock).max_decoding_message_size(largest))
        .add_service(ElectionServer::new(Election { services }).max_decoding_message_size(largest))
        .add_service(tonic_health::server::health_reporter().1);
    let (metrics, let_in) = (metrics.clone(), let_in(&node.credentials));
    gated(routes, Gate { admission, limits, metrics, let_in, stopping })
}

fn admission(node: &Node, limits: Limits) -> Admission {
    let status = node.status.clone();
    Admission {
        leadership: Leadership::new(node.status.leader(), limits.election_timeout),
        is_learner: Arc::new(move || status.is_learner()),
    }
}

fn let_in(credentials: &Credentials) -> LetIn {
    let credentials = credentials.clone();
    Arc::new(move |who, standing| {
        let credentials = credentials.clone();
        Box::pin(async move { credentials.require(&who, standing).await })
    })
}

fn gated(routes: Routes, gate: Gate) -> axum::Router {
    // Each call has it twice, by clones of one pointer.
    let gate = Arc::new(gate);
    routes.into_axum_router().layer(axum::middleware::from_fn_with_state(gate, gate::pass))
}
