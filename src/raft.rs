//! To be written.

pub mod frame;
pub mod message;
pub mod network;
pub mod peers;
