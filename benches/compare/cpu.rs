//! Processor time of other processes.

use std::{fs, time::Duration};

/// Ticks per second in `/proc/<pid>/stat`; Linux shows user space this number on every machine.
const CLOCK_TICKS_PER_SECOND: u64 = 100;

/// Processor time that a running process has used so far, in user space and in the kernel.
pub(crate) fn time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the name in parentheses and may hold spaces; utime is field 14.
    let (_, after_name) = stat.rsplit_once(')').expect("stat has a name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 =
        [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / CLOCK_TICKS_PER_SECOND)
}
