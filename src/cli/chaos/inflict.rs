//! Breaking and mending.

use std::{
    fs::OpenOptions,
    io::Write,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::Signal as Signals,
    time::{sleep, timeout},
};

use super::fault::{Broken, Target};
use crate::{
    cli::{
        output::{CONTROL, Output, Process, State},
        sla::journal::{Entry, JOURNAL},
        up::launch::Started,
        wan::{
            control::{self, Answer, Request},
            fault::Standing,
        },
    },
    proto::{
        etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient},
        region::{RegionsFailoverRequest, regions_client::RegionsClient},
    },
};

/// The network mends itself so long after it should have been mended.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// How long a member may take to say who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to look for a leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(100);

/// Breaks a cluster, and mends it.
pub(super) struct Surgeon<'a> {
    pub(super) output: &'a Output,
    pub(super) state: &'a State,
    pub(super) lasting: Duration,
    pub(super) without_majority: bool,
}

/// How it went on until the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    InTime,
    /// Somebody wants this process to stop.
    Told,
}

impl Surgeon<'_> {
    /// What exactly a fault breaks now.
    ///
    /// # Errors
    /// A name is not known, nobody leads, or no majority would be left.
    pub(super) async fn plan(&self, target: Target) -> anyhow::Result<Broken> {
        let leader = self.leader().await?;
        let broken = Broken::of(&target, &self.state.plan, &leader)?;
        let members = self.state.plan.members.len();
        let left = members - broken.unable.len();
        ensure!(
            self.without_majority || left > members / 2,
            "{} {}: {left} of {members} members would be left, no majority; --without-majority \
             does it all the same",
            broken.what,
            broken.target
        );
        Ok(broken)
    }

    /// Breaks it, waits, and mends it; whatever fails on the way, it is mended.
    pub(super) async fn do_and_undo(
        &self,
        broken: Broken,
        stop: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let (began, unix) = (Instant::now(), unix_ms());
        let done = self.break_it(&broken).await;
        say(&format!(
            "{} {}: in force after {} ms, for {:?}",
            broken.what,
            broken.target,
            began.elapsed().as_millis(),
            self.lasting
        ));
        let mut ended = Ended::InTime;
        if done.is_ok() {
            tokio::select! {
                () = sleep(self.lasting) => {}
                _ = stop.recv() => ended = Ended::Told,
            }
        }
        let mended = self.mend(&broken, done.as_deref().unwrap_or_default()).await;
        say(&format!("{} {}: undone", broken.what, broken.target));
        self.write_down(&broken, unix)?;
        done?;
        mended?;
        Ok(ended)
    }

    /// The numbers of the network's faults.
    async fn break_it(&self, broken: &Broken) -> anyhow::Result<Vec<u64>> {
        let mut faults = Vec::new();
        for fault in &broken.network {
            let lease_ms = Some((self.lasting + LEASE_MARGIN).as_millis() as u64);
            let request = Request::Set { fault: fault.clone(), lease_ms };
            let set = self.ask(&request).await?;
            faults.extend(set.into_iter().map(|standing| standing.id));
        }
        if let Some(region) = &broken.switched_to {
            self.switch(region).await?;
        }
        for (members, with) in
            [(&broken.killed, Signal::SIGKILL), (&broken.paused, Signal::SIGSTOP)]
        {
            for process in self.running(members)? {
                process.signal(with);
            }
        }
        Ok(faults)
    }

    /// Asks a member of the region itself, which has the shortest way to whoever takes over.
    async fn switch(&self, region: &str) -> anyhow::Result<()> {
        let endpoints = self.state.endpoints(region);
        let endpoint = endpoints.first().context("the region has no member")?;
        let channel = self.output.connect(&endpoint.url).await?;
        let request = RegionsFailoverRequest { location_name: region.to_owned(), force: false };
        RegionsClient::new(channel).failover(request).await?;
        Ok(())
    }

    async fn mend(&self, broken: &Broken, faults: &[u64]) -> anyhow::Result<()> {
        for process in self.running(&broken.paused)? {
            process.signal(Signal::SIGCONT);
        }
        for id in faults {
            self.ask(&Request::Clear { id: Some(*id) }).await?;
        }
        if !broken.killed.is_empty() {
            start_missing(self.output, self.state)?;
        }
        Ok(())
    }

    fn running(&self, members: &[String]) -> anyhow::Result<Vec<Process>> {
        let running = members.iter().map(|member| self.output.running(member));
        let running: Vec<Option<Process>> = running.collect::<Result<_, _>>()?;
        Ok(running.into_iter().flatten().collect())
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<Vec<Standing>> {
        let socket = self.output.path(CONTROL);
        let about = || format!("{}: the network does not answer", socket.display());
        match control::ask(&socket, request).await.with_context(about)? {
            Answer::Done { faults } => Ok(faults),
            Answer::Refused { error } => bail!("the network refuses: {error}"),
        }
    }

    /// The member that leads, as the first one says that can.
    pub(super) async fn leader(&self) -> anyhow::Result<String> {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        while Instant::now() < deadline {
            // Each by an endpoint of its own region: no network in between.
            for seat in &self.state.plan.members {
                if let Ok(Some(leader)) = timeout(STATUS_TIMEOUT, self.leads(&seat.name)).await {
                    return Ok(leader);
                }
            }
            sleep(PAUSE).await;
        }
        bail!("nobody has led for {LEADER_TIMEOUT:?}")
    }

    /// The member itself if it leads.
    async fn leads(&self, name: &str) -> Option<String> {
        let seat = self.state.plan.members.iter().find(|seat| seat.name == name)?;
        let endpoints = self.state.endpoints(&seat.region);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.member == name)?;
        let channel = self.output.connect(&endpoint.url).await.ok()?;
        let status = MaintenanceClient::new(channel).status(StatusRequest {}).await.ok()?;
        let status = status.into_inner();
        let is_leader = status.header.is_some_and(|header| header.member_id == status.leader);
        is_leader.then(|| name.to_owned())
    }

    fn write_down(&self, broken: &Broken, from_unix_ms: u64) -> anyhow::Result<()> {
        let entry = Entry {
            what: broken.what.to_owned(),
            target: broken.target.clone(),
            from_unix_ms,
            until_unix_ms: unix_ms(),
            lost_regions: broken.lost_regions.clone(),
        };
        let path = self.output.path(JOURNAL);
        let about = || path.display().to_string();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let line = serde_json::to_string(&entry)? + "\n";
        file.and_then(|mut file| file.write_all(line.as_bytes())).with_context(about)
    }
}

/// Whatever anybody has broken: the network is whole, all members run.
pub(super) async fn mend_everything(output: &Output, state: &State) -> anyhow::Result<()> {
    control::ask(&output.path(CONTROL), &Request::Clear { id: None }).await?;
    for name in state.processes() {
        if let Some(process) = output.running(name)? {
            process.signal(Signal::SIGCONT);
        }
    }
    start_missing(output, state)
}

fn start_missing(output: &Output, state: &State) -> anyhow::Result<()> {
    let _lock = output.lock()?;
    let mut started = Started::default();
    started.find(output, state)?;
    started.start(output, state)
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

pub(super) fn say(text: &str) {
    // Nobody has to listen.
    let _ = writeln!(std::io::stdout(), "{text}");
}
