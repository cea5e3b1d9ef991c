//! Many runs: workloads by nemeses, and what came of them.

pub mod summary;
