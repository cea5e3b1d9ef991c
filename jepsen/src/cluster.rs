//! The members' processes: each in its network, on its disk, under its clock.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::time::sleep;

use crate::{
    access,
    history::MemberIndex,
    server::{Identity, Server},
    world::{World, network},
};

/// The line that a server logs when clients may come.
const READY: &str = "ready to serve client requests";

/// Longer than a member takes to stop in order, leadership handed over.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Members' monotonic clocks begin so far apart, in seconds: whoever compares two of them is found.
const CLOCK_BASES_APART: u64 = 100_000;

pub struct Cluster {
    pub world: World,
    pub server: Server,
    /// The library that shifts a member's wall clock, where it is built.
    clock_shim: Option<PathBuf>,
    members: Vec<Member>,
    /// Runs as if syncing succeeded, without doing it: a broken build.
    pub without_syncing: bool,
}

struct Member {
    log: PathBuf,
    process: Option<Child>,
    /// How often its log said that it serves, before its newest start.
    served_before: usize,
    /// Started with the flags of one that joins.
    joins: Option<String>,
    paused: bool,
}

impl Cluster {
    pub fn new(world: World, server: Server, size: usize, clock_shim: Option<PathBuf>) -> Cluster {
        let members = (0..size).map(|at| Member {
            log: world.directory.join(format!("m{at}.log")),
            process: None,
            served_before: 0,
            joins: None,
            paused: false,
        });
        let members = members.collect();
        Cluster { world, server, clock_shim, members, without_syncing: false }
    }

    /// Members from 0 on; some may be down.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn all(&self) -> Vec<MemberIndex> {
        (0..self.size()).collect()
    }

    pub fn log(&self, member: MemberIndex) -> &Path {
        &self.members[member].log
    }

    /// Starts a member's process.
    ///
    /// # Errors It can't be started.
    pub fn start(&mut self, at: MemberIndex) -> Result<()> {
        let directory = self.world.disks[at].path().join("data");
        let cluster = self.members[at].joins.clone().unwrap_or_else(|| self.founders());
        let state = if self.members[at].joins.is_some() { "existing" } else { "new" };
        let arguments = self.server.arguments(&Identity {
            name: format!("m{at}"),
            clients: access::client_url(at),
            peers: access::peer_url(at),
            data_dir: &directory,
            initial_cluster: &cluster,
            state,
        });
        let log = File::options().create(true).append(true).open(&self.members[at].log)?;
        let base = (CLOCK_BASES_APART * (at as u64 + 1)).to_string();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", network::namespace(at)))
            .args(["--", "unshare", "-T", "--monotonic", &base, "--"])
            .arg(&self.server.binary)
            .args(arguments)
            .envs(self.server.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut preloaded = Vec::new();
        if self.without_syncing {
            preloaded.push("libeatmydata.so".to_owned());
        }
        if let Some(shim) = &self.clock_shim {
            command.env("ORRERY_CLOCK_OFFSET", self.clock_file(at)?);
            preloaded.push(shim.display().to_string());
        }
        if !preloaded.is_empty() {
            command.env("LD_PRELOAD", preloaded.join(":"));
        }
        let served_before = self.times_served(at);
        let process = command.spawn().context("nsenter")?;
        let member = &mut self.members[at];
        (member.process, member.served_before, member.paused) =
            (Some(process), served_before, false);
        Ok(())
    }

    /// Waits until a member that was started says that it serves.
    ///
    /// # Errors It ended, or did not in time.
    pub async fn ready(&mut self, at: MemberIndex, deadline: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            if self.times_served(at) > self.members[at].served_before {
                return Ok(());
            }
            if let Some(code) = self.ended(at) {
                bail!("m{at} ended: {code}");
            }
            if begin.elapsed() > deadline {
                bail!("m{at} does not serve after {deadline:?}");
            }
            sleep(POLL).await;
        }
    }

    fn times_served(&self, at: MemberIndex) -> usize {
        let log = fs::read(&self.members[at].log).unwrap_or_default();
        String::from_utf8_lossy(&log).matches(READY).count()
    }

    /// What a member's process ended with, if it is not running.
    pub fn ended(&mut self, at: MemberIndex) -> Option<String> {
        match self.members[at].process.as_mut()?.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub fn is_running(&mut self, at: MemberIndex) -> bool {
        self.members[at].process.is_some() && self.ended(at).is_none()
    }

    pub fn is_paused(&self, at: MemberIndex) -> bool {
        self.members[at].paused
    }

    pub fn kill(&mut self, at: MemberIndex) {
        self.signal(at, Signal::SIGKILL);
        if let Some(mut process) = self.members[at].process.take() {
            let _ = process.wait();
        }
    }

    pub fn pause(&mut self, at: MemberIndex) {
        self.signal(at, Signal::SIGSTOP);
        self.members[at].paused = true;
    }

    pub fn resume(&mut self, at: MemberIndex) {
        self.signal(at, Signal::SIGCONT);
        self.members[at].paused = false;
    }

    /// Asks a member to stop, and waits until it has.
    ///
    /// # Errors It did not stop in time, or not in order.
    pub async fn stop(&mut self, at: MemberIndex) -> Result<()> {
        self.signal(at, Signal::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP_DEADLINE {
            let Some(process) = self.members[at].process.as_mut() else { return Ok(()) };
            if let Some(status) = process.try_wait()? {
                self.members[at].process = None;
                // etcd ends by the signal itself when it is not alone.
                let in_order = status.success() || self.server.kind == crate::server::Kind::Etcd;
                return if in_order { Ok(()) } else { bail!("m{at} stopped with {status}") };
            }
            sleep(POLL).await;
        }
        self.kill(at);
        bail!("m{at} did not stop within {STOP_DEADLINE:?}")
    }

    /// The powers of some hosts fail at once: what was not synced is gone.
    ///
    /// # Errors The machine can't do it.
    pub fn lose_power(&mut self, members: &[MemberIndex]) -> Result<()> {
        // Frozen first, so that none can see its disk die and say so.
        members.iter().for_each(|at| self.signal(*at, Signal::SIGSTOP));
        for at in members {
            self.world.disks[*at].cut_power()?;
        }
        members.iter().for_each(|at| self.kill(*at));
        for at in members {
            self.world.disks[*at].restore_power()?;
        }
        Ok(())
    }

    /// Forgets what a member had on disk, and lets it join under these founders when it starts.
    pub fn wipe(&mut self, at: MemberIndex, initial_cluster: String) -> Result<()> {
        let directory = self.world.disks[at].path().join("data");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        self.members[at].joins = Some(initial_cluster);
        Ok(())
    }

    /// Shifts a member's wall clock by so many nanoseconds from the true one.
    ///
    /// # Errors The library for it is not there.
    pub fn shift_clock(&self, at: MemberIndex, nanos: i64) -> Result<()> {
        if self.clock_shim.is_none() {
            bail!("the library that shifts clocks is not built");
        }
        write_offset(&self.clock_file(at)?, nanos)
    }

    fn clock_file(&self, at: MemberIndex) -> Result<PathBuf> {
        let path = self.world.directory.join(format!("m{at}.clock"));
        if !path.exists() {
            fs::write(&path, [0; 4096])?;
        }
        Ok(path)
    }

    fn founders(&self) -> String {
        let founders = (0..self.size()).filter(|at| self.members[*at].joins.is_none());
        let named = founders.map(|at| format!("m{at}={}", access::peer_url(at)));
        named.collect::<Vec<_>>().join(",")
    }

    fn signal(&self, at: MemberIndex, signal: Signal) {
        let Some(process) = &self.members[at].process else { return };
        let Ok(id) = i32::try_from(process.id()) else { return };
        // One that has ended by itself needs no signal.
        let _ = signal::kill(Pid::from_raw(id), signal);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in self.all() {
            self.kill(at);
        }
    }
}

/// The member has the file mapped and reads the first eight bytes at each look at its clock.
fn write_offset(path: &Path, nanos: i64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&nanos.to_le_bytes(), 0)?;
    Ok(())
}
