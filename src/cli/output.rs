//! The directory that `orrery up` fills: what is where in it, and who is behind it.

mod connect;
mod process;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use connect::Endpoint;
pub(crate) use process::{Process, stop};

use super::up::{plan::Plan, ports::Ports};

/// Where it is unless `--output` says otherwise; as aks-engine has it.
pub(crate) const DIRECTORY: &str = "_output";

/// What is in the directory, from its own folder on.
pub(crate) const STATE: &str = "orrery.json";
pub(crate) const LOCK: &str = "orrery.lock";
pub(crate) const TOPOLOGY: &str = "topology.json";
pub(crate) const CONTROL: &str = "wan.sock";
pub(crate) const ENDPOINTS: &str = "endpoints.json";
pub(crate) const ENVIRONMENT: &str = "env";
pub(crate) const API_MODEL: &str = "apimodel.json";
pub(crate) const DATA: &str = "data";
pub(crate) const LOGS: &str = "log";
pub(crate) const RUNNING: &str = "run";
pub(crate) const KUBECONFIG: &str = "kubeconfig";

/// The process that plays the network, beside the members.
pub(crate) const NETWORK: &str = "wan";

const FORMAT: u32 = 1;

/// Names of sockets are short: the kernel's bound, less the zero at the end.
const SOCKET_PATH_MAX: usize = 107;

/// A directory, by a path that holds wherever a process stands.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    dir: PathBuf,
}

/// What a directory was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    format: u32,
    /// A name with a number, different each time; the members' token.
    pub(crate) deployment: String,
    pub(crate) plan: Plan,
    pub(crate) ports: Ports,
}

impl State {
    pub(crate) fn new(deployment: String, plan: Plan, ports: Ports) -> State {
        State { format: FORMAT, deployment, plan, ports }
    }

    /// Names of all processes, the network's first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(NETWORK).chain(self.plan.members.iter().map(|seat| seat.name.as_str()))
    }
}

impl Output {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Output> {
        let dir = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
        let output = Output { dir };
        let socket = output.path(CONTROL);
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_MAX,
            "{}: too long for a socket; choose a shorter --output",
            socket.display()
        );
        Ok(output)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path(LOGS).join(format!("{process}.log"))
    }

    pub(crate) fn record(&self, process: &str) -> PathBuf {
        self.path(RUNNING).join(format!("{process}.json"))
    }

    /// The process of that name, if it runs.
    pub(crate) fn running(&self, process: &str) -> anyhow::Result<Option<Process>> {
        let path = self.record(process);
        let process: Option<Process> = read(&path)?;
        Ok(process.filter(Process::is_running))
    }

    /// What the directory was made for; `None` when there is nothing in it.
    ///
    /// # Errors
    /// It was not made by `orrery up`, or by a later one.
    pub(crate) fn state(&self) -> anyhow::Result<Option<State>> {
        let state: Option<State> = read(&self.path(STATE))?;
        if let Some(state) = &state {
            ensure!(
                state.format == FORMAT,
                "{}: format {} is not known to this version",
                self.path(STATE).display(),
                state.format
            );
            return Ok(Some(state.clone()));
        }
        match fs::read_dir(&self.dir) {
            // A lock is all that is left of one who was refused.
            Ok(mut entries) => match entries.find(|it| !it.as_ref().is_ok_and(is_lock)) {
                Some(_) => bail!(
                    "{} was not made by orrery up: it has no {STATE}; choose another --output",
                    self.dir.display()
                ),
                None => Ok(None),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| self.dir.display().to_string()),
        }
    }

    /// The same where there must be something.
    pub(crate) fn made(&self) -> anyhow::Result<State> {
        let nothing = || format!("{}: there is nothing; orrery up makes it", self.dir.display());
        self.state()?.with_context(nothing)
    }

    /// Keeps others out who start or stop something here.
    pub(crate) fn lock(&self) -> anyhow::Result<Flock<File>> {
        let path = self.path(LOCK);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => anyhow::anyhow!(
                "{}: another orrery up or down is at work there",
                self.dir.display()
            ),
            error => anyhow::Error::new(error).context(path.display().to_string()),
        })
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        write(&path, text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write(name, &text)
    }
}

fn is_lock(entry: &fs::DirEntry) -> bool {
    entry.file_name() == LOCK
}

/// Writes beside and renames, so that nobody reads half a file.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

/// `None` for a file that is not there.
fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let about = || path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(about).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(about),
    }
}
