//! The protocol's messages, generated from `proto/`, and the one of them that is written by hand.

mod shared_event;

pub use shared_event::SharedEvent;

/// The descriptors of the client API: an encoded `google.protobuf.FileDescriptorSet`.
pub const CLIENT_API: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/client_api.bin"));

#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod authpb {
    tonic::include_proto!("authpb");
}

#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

#[expect(missing_docs, reason = "generated")]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

#[expect(missing_docs, reason = "generated")]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// What etcd keeps in its data directory.
#[expect(missing_docs, reason = "generated")]
pub mod etcddisk {
    tonic::include_proto!("etcddisk");
}

/// The entries of the Raft log.
#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod command {
    tonic::include_proto!("orrery");
}

/// What members ask of each other above Raft.
#[expect(missing_docs, reason = "generated")]
pub mod peer {
    tonic::include_proto!("orrery.peer");
}

/// The service of regions, which is of the same package as the log's entries.
pub mod region {
    pub use super::command::{
        Account, Failback, Location, RegionMember, RegionsChangeResponse, RegionsConfigureRequest,
        RegionsFailoverRequest, RegionsOfflineRequest, RegionsOnlineRequest,
        RegionsSetPrioritiesRequest, RegionsShowRequest, RegionsShowResponse, regions_client,
        regions_server,
    };
}
