//! A process of ours that outlives the one that starts it.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};

use super::output::Process;

/// What `orrery` is called with to become such a process. Not for people, so no help has it.
pub(super) const WORD: &str = "detached";

/// A command that, once spawned, runs the program with these arguments in a session of its own, and
/// has said in the file `record` who it is before it does anything else.
pub(super) fn command(
    record: &Path,
    arguments: impl IntoIterator<Item = OsString>,
) -> io::Result<Command> {
    let mut command = Command::new(program()?);
    // Variables that are meant for others, such as ETCD_*, would be flags.
    command.env_clear().stdin(Stdio::null()).arg(WORD).arg(record).args(arguments);
    Ok(command)
}

/// This program's file.
fn program() -> io::Result<PathBuf> {
    std::fs::read_link("/proc/self/exe")
}

/// `arguments` are the word, the file and what to become.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let [_, record, rest @ ..] = arguments.as_slice() else { bail!("{WORD}: expected a file") };
    nix::unistd::setsid().with_context(|| format!("{WORD}: cannot begin a session"))?;
    let record = Path::new(record);
    let written = Process::of_this().and_then(|process| process.write(record));
    written.with_context(|| record.display().to_string())?;
    // It goes on as the same process, so what was written stays true.
    let error = Command::new(program()?).arg0("orrery").args(rest).exec();
    Err(error).context("cannot run this program again")
}
