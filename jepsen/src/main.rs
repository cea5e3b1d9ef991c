//! The `jepsen` binary.

fn main() {}
