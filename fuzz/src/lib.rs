//! What the fuzz targets share: the decoders of the server, compiled from its own files, and what
//! is expected of them.

#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "only the decoding is used here")]
#[allow(unfulfilled_lint_expectations, reason = "the server has lints that are not on here")]
mod source {
    pub(crate) mod log;
    pub(crate) mod proto;
    pub(crate) mod types;

    pub(crate) mod raft {
        pub(crate) mod frame;
        pub(crate) mod message;
        pub(crate) mod network;
        pub(crate) mod peers {
            pub(crate) mod handshake;
        }
    }

    pub(crate) mod grpc {
        pub(crate) mod gate;
        pub(crate) mod limits;
        pub(crate) mod method;
        pub(crate) mod require_leader;
        pub(crate) mod validate;
        pub(crate) mod who;

        pub(crate) use crate::stand_in::{aside, metrics::Metrics, stats, status};
        pub(crate) use limits::Limits;
    }

    pub(crate) use crate::stand_in::{lease, node};
}

mod memory;
pub mod seeds;
mod stand_in;
pub mod targets;

// Under the names by which the server's files know each other.
use source::{grpc, lease, log, node, proto, raft, types};
