//! Running in namespaces of its own, so that whatever a run makes ends with the harness, however
//! that ends: processes, mounts, networks.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use nix::sys::{prctl, signal::Signal};

/// Set where the machine's lock is held by whoever started this.
pub const LOCKED: &str = "ORRERY_JEPSEN_LOCKED";

/// Set for the harness's second self.
const INSIDE: &str = "ORRERY_JEPSEN_INSIDE";

/// Below it each run has a directory; on a disk, so that syncing means something.
const HOME: &str = "/var/tmp/orrery-jepsen";

pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program once more, with the same arguments, in namespaces of its own.
///
/// # Errors It can't: the harness needs root.
pub fn run_inside() -> Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the harness needs root: it makes networks and mounts"
    );
    let program = env::current_exe()?;
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if env::var_os(LOCKED).is_some() {
        // A set of runs that is killed takes its run along.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(namespaces)
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("setpriv")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(3)))
}

/// A directory of a run, removed at its end.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Makes one, and removes those whose runs were killed.
    ///
    /// # Errors The disk says no.
    pub fn make() -> Result<Workplace> {
        fs::create_dir_all(HOME).with_context(|| HOME.to_owned())?;
        for entry in fs::read_dir(HOME)?.flatten() {
            let is_abandoned =
                File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
            if is_abandoned {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = tempfile::Builder::new().prefix("run-").tempdir_in(HOME)?.keep();
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Workplace { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Held while something runs that must have the machine for itself; benches and fault tests take
/// the same.
///
/// # Errors The lock's file can't be made.
pub fn machine() -> Result<Option<File>> {
    if env::var_os(LOCKED).is_some() {
        return Ok(None);
    }
    let path = env::temp_dir().join("orrery-heavy.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock()?;
    Ok(Some(file))
}
