//! Processes known by more than their number, which may be another's by now.

use std::{
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Between two looks whether processes have ended.
const LOOK: Duration = Duration::from_millis(20);

/// The number, and when the process began: together they are nobody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since the machine's start, at the process's.
    start_ticks: u64,
    /// Which of the machine's starts that was.
    boot_id: String,
}

impl Process {
    pub(crate) fn of_this() -> io::Result<Process> {
        let pid = std::process::id() as i32;
        let (_, start_ticks) = stat(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Process { pid, start_ticks, boot_id: boot_id()? })
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        super::write(path, &serde_json::to_string(self)?)
    }

    /// A process that has ended and that nobody has asked about counts as one that is gone.
    pub(crate) fn is_running(&self) -> bool {
        let is_same_boot = boot_id().is_ok_and(|boot_id| boot_id == self.boot_id);
        is_same_boot
            && stat(self.pid).is_some_and(|(state, start)| {
                start == self.start_ticks && !matches!(state, 'Z' | 'X')
            })
    }

    /// Nothing happens to a process that is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_running() {
            // It may have ended since.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// State and start of a process, if there is one of that number.
fn stat(pid: i32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(char, u64)> {
    // The name is in parentheses and may have any character; the state follows it.
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut fields = behind.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Asks all to stop, and ends those that have not after so long. Returns how many had to be ended.
pub(crate) fn stop(processes: &[Process], patience: Duration) -> usize {
    for process in processes {
        process.signal(Signal::SIGTERM);
    }
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && processes.iter().any(Process::is_running) {
        sleep(LOOK);
    }
    let stubborn: Vec<&Process> = processes.iter().filter(|it| it.is_running()).collect();
    for process in &stubborn {
        process.signal(Signal::SIGKILL);
    }
    while stubborn.iter().any(|process| process.is_running()) {
        sleep(LOOK);
    }
    stubborn.len()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    use super::*;

    /// A process that has begun to wait.
    fn waiter(before: &str) -> (std::process::Child, Process) {
        let script = format!("{before} echo ready; read forever");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let pid = child.id() as i32;
        let (_, start_ticks) = stat(pid).unwrap();
        let process = Process { pid, start_ticks, boot_id: boot_id().unwrap() };
        (child, process)
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = Process::of_this().unwrap();
        assert!(own.is_running());
        assert!(!Process { start_ticks: own.start_ticks + 1, ..own.clone() }.is_running());
        assert!(!Process { boot_id: "another".to_owned(), ..own }.is_running());
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n";
        assert_eq!(parse(stat), Some(('S', 12345)));
        assert_eq!(parse("7 (a)"), None);
    }

    #[test]
    fn only_the_process_that_was_meant_is_stopped() {
        let (mut child, process) = waiter("");
        let another = Process { start_ticks: process.start_ticks + 1, ..process.clone() };
        assert_eq!(stop(&[another], Duration::ZERO), 0);
        assert!(process.is_running());
        assert_eq!(stop(std::slice::from_ref(&process), Duration::from_secs(60)), 0);
        assert!(!process.is_running());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_does_not_stop_is_ended() {
        let (mut child, process) = waiter("trap '' TERM;");
        assert_eq!(stop(std::slice::from_ref(&process), Duration::from_millis(50)), 1);
        child.wait().unwrap();
    }
}
