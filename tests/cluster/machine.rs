//! The machine that tests and benchmarks run on: one heavy thing at a time, and what processes use.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    time::Duration,
};

/// Ticks per second in `/proc/<pid>/stat`; Linux shows user space this number on every machine.
const CLOCK_TICKS_PER_SECOND: u64 = 100;

/// Waits until nothing else on this machine loads or measures, and keeps it so until dropped.
///
/// The lock is the file's, so a process that dies gives it back.
pub fn exclusive() -> File {
    let path = std::env::temp_dir().join("orrery-heavy.lock");
    let file = File::create(&path).expect("the temporary directory takes files");
    file.lock().expect("a lock file can be locked");
    file
}

/// How often a fault is repeated: few in CI, more by command.
pub fn fault_rounds() -> u32 {
    let rounds = std::env::var("ORRERY_FAULT_ROUNDS").ok();
    rounds.map_or(3, |text| text.parse().expect("ORRERY_FAULT_ROUNDS is a number"))
}

/// Says something that must be seen although the test passes, which captures what it prints.
pub fn announce(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Processor time that a running process has used so far, in user space and in the kernel.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the name in parentheses and may hold spaces; utime is field 14.
    let (_, after_name) = stat.rsplit_once(')').expect("stat has a name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 =
        [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / CLOCK_TICKS_PER_SECOND)
}

/// Memory of a running process in bytes: what it holds now and the most that it ever held.
pub fn resident_bytes(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect("status has it");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
}
