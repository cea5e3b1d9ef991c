//! The machine that tests and benchmarks run on: one heavy thing at a time, and what processes use.

use std::{
    fs::{self, File},
    io::{self, Write as _},
};

/// Waits until nothing else on this machine loads or measures, and keeps it so until dropped.
///
/// The lock is the file's, so a process that dies gives it back.
pub(crate) fn exclusive() -> File {
    let path = std::env::temp_dir().join("orrery-heavy.lock");
    let file = File::create(&path).expect("the temporary directory takes files");
    file.lock().expect("a lock file can be locked");
    file
}

/// How often a fault is repeated: few in CI, more by command.
pub(crate) fn fault_rounds() -> u32 {
    let rounds = std::env::var("ORRERY_FAULT_ROUNDS").ok();
    rounds.map_or(3, |text| text.parse().expect("ORRERY_FAULT_ROUNDS is a number"))
}

/// Says something that must be seen although the test passes, which captures what it prints.
pub(crate) fn announce(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The most memory in bytes that a running process has ever held.
pub(crate) fn peak_resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|rest| rest.split_whitespace().next()).expect("status has the peak");
    kib.parse::<u64>().expect("it is a number") * 1024
}
