//! `orrery down`: ends what `orrery up` started, and removes what it made.

use std::{ffi::OsString, fs, io, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use clap::Parser;

use super::{
    output::{self, Output, Process, State, stop},
    sla::journal::JOURNAL,
    snapshot::{Parsed, parse},
    up::certificate_files,
};

/// Longer than a member takes to hand over its leadership and to flush.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stop the cluster that orrery up started, and remove all that it made.
#[derive(Debug, Parser)]
#[command(name = "orrery down")]
struct Arguments {
    /// Where orrery up put everything.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = output::DIRECTORY,
        alias = "output-directory"
    )]
    output: PathBuf,

    /// Stop the processes and remove nothing, so that orrery up goes on with what is there.
    #[arg(long)]
    keep_data: bool,
}

/// `arguments` begin with the word `down`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Arguments =
        match parse(arguments).map_err(|it| anyhow!("down: {}", it.message))? {
            Parsed::Print(text) => return super::print(&text),
            Parsed::Run(arguments) => arguments,
        };
    let output = Output::new(&arguments.output).context("down")?;
    let text = down(&output, arguments.keep_data).context("down")?;
    super::print(&text)
}

fn down(output: &Output, keep_data: bool) -> anyhow::Result<String> {
    let state = output.made()?;
    let lock = output.lock()?;
    let (network, members): (Vec<&str>, Vec<&str>) =
        state.processes().partition(|name| *name == output::NETWORK);
    let mut counts = (0, 0);
    // Members first, so that they can tell each other.
    for names in [members, network] {
        let running = names.into_iter().map(|name| output.running(name));
        let running: Vec<Option<Process>> = running.collect::<Result<_, _>>()?;
        let running: Vec<Process> = running.into_iter().flatten().collect();
        counts.0 += running.len();
        counts.1 += stop(&running, PATIENCE);
    }
    let mut text = format!("stopped {} processes", counts.0);
    if counts.1 > 0 {
        text.push_str(&format!(" ({} did not stop by themselves)", counts.1));
    }
    let dir = output.dir().display();
    if keep_data {
        text.push_str(&format!("; kept all that is in {dir}\n"));
        return Ok(text);
    }
    let left = remove(output, &state)?;
    drop(lock);
    match left.as_slice() {
        [] => text.push_str(&format!("; removed {dir}\n")),
        left => {
            text.push_str(&format!("; left in {dir} what others put there: {}\n", left.join(", ")))
        }
    }
    Ok(text)
}

/// Removes what `up` makes, and the directory unless something else is in it; returns what that is.
pub(super) fn remove(output: &Output, state: &State) -> anyhow::Result<Vec<String>> {
    let gone = |result: io::Result<()>, path: PathBuf| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        Ok(()) | Err(_) => Ok(()),
    };
    for name in [output::DATA, output::LOGS, output::RUNNING] {
        let path = output.path(name);
        gone(fs::remove_dir_all(&path), path)?;
    }
    let files = certificate_files(&state.plan);
    // The state goes last: with it the directory is still known as one that `up` made.
    let others = [
        output::TOPOLOGY,
        JOURNAL,
        output::CONTROL,
        output::ENDPOINTS,
        output::ENVIRONMENT,
        output::API_MODEL,
        output::STATE,
        output::LOCK,
    ];
    for name in files.iter().map(String::as_str).chain(others) {
        let path = output.path(name);
        gone(fs::remove_file(&path), path)?;
    }
    let left: Vec<String> = fs::read_dir(output.dir())?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if left.is_empty() {
        fs::remove_dir(output.dir()).with_context(|| output.dir().display().to_string())?;
    }
    Ok(left)
}
