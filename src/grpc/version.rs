//! The versions of etcd that this server stands in for.
//!
//! Clients switch features on by them: kube-apiserver asks for watch progress only from a server
//! whose `Status.version` is new enough.

/// What the server understands: etcd 3.7's protocol.
pub const SERVER: &str = "3.7.0";

/// The oldest protocol that every member of the cluster understands.
pub const CLUSTER: &str = "3.7.0";

/// The oldest etcd that can read a snapshot of the store.
pub const STORAGE: &str = "3.7.0";
