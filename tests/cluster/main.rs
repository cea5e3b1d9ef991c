//! Real processes on loopback: members killed, stopped and cut off from power while clients write.
//!
//! `ORRERY_BIN` names the server under test; a real etcd passes the same tests, which is how they
//! prove themselves. `ORRERY_FAULT_ROUNDS` says how often each fault is repeated.

mod big_restart;
mod check;
mod corruption;
mod discovery;
mod disk;
mod force_new_cluster;
mod fragments;
mod kills;
mod leases;
mod limits;
mod machine;
#[expect(dead_code, reason = "the conformance tests use the rest")]
mod members;
mod membership;
mod no_leader;
mod power_loss;
mod space;
mod traffic;
mod watchers;
mod wrong_requests;
