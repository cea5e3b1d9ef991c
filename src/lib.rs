//! Orrery: a Raft-replicated key-value server that speaks the etcd v3 protocol.
//!
//! ARCHITECTURE.md draws the parts and says which may import which; `tests/tidy.rs` checks it.

pub mod proto;
pub mod types;

pub mod bbolt;
pub mod log;
pub mod storage;

pub mod alarm;
pub mod auth;
pub mod cluster;
pub mod lease;
pub mod mvcc;
pub mod region;

pub mod exchange;
pub mod state_machine;
pub mod watch;

pub mod telemetry;
pub mod tls;

pub mod raft;

pub mod node;

pub mod grpc;
pub mod http;

pub mod cli;
pub mod config;
