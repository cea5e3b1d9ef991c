//! Consensus: openraft with our log, our state machine and our connections.

mod applied;
mod apply;
mod config;
mod log_store;
mod type_config;
