//! Several members in one process, on a simulated network in simulated time; a seed replays it.

#[path = "model/crash_image.rs"]
mod crash_image;

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/clients.rs"]
mod clients;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/coverage.rs"]
mod coverage;
#[path = "simulation/cut_off.rs"]
mod cut_off;
#[path = "simulation/door.rs"]
mod door;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/levels.rs"]
mod levels;
#[path = "simulation/lies.rs"]
mod lies;
#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/nemesis.rs"]
mod nemesis;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/panics.rs"]
mod panics;
#[path = "simulation/peers.rs"]
mod peers;
#[path = "simulation/readers.rs"]
mod readers;
#[path = "simulation/world.rs"]
mod world;
