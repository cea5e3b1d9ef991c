//! The version of etcd that this server stands in for.
//!
//! Clients switch features on by it: kube-apiserver asks for watch progress only from a server
//! whose `Status.version` is new enough.

/// What the server understands: etcd 3.7's protocol.
pub const SERVER: &str = "3.7.0";
