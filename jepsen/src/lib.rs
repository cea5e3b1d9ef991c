//! Runs real members in networks, on disks and under clocks of their own while everything breaks,
//! and checks what their clients saw. `README.md` beside this crate is the manual.

pub mod access;
pub mod admin;
pub mod check;
pub mod client;
pub mod cluster;
pub mod figures;
pub mod history;
pub mod matrix;
pub mod nemesis;
pub mod observer;
pub mod recorder;
pub mod report;
pub mod run;
pub mod server;
pub mod smoke;
pub mod suite;
pub mod tool;
pub mod workload;
pub mod world;
