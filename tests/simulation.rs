//! Several members in one process, on a simulated network in simulated time; a seed replays it.

#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/peers.rs"]
mod peers;
