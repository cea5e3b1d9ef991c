//! What breaks the cluster. A nemesis is one way to break it; a run breaks and mends again and
//! again, and notes what it did and what shows that it took effect.

mod disks;
mod membership;
mod packets;
mod partition;
mod process;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    cluster::Cluster,
    history::{Fault, MemberIndex},
    recorder::Recorder,
    workload::Shared,
    world::{Weather, packets::Packets},
};

/// A member that was started again serves by then, or something is wrong.
pub const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long a fault lasts, in milliseconds: below, around and above an election timeout.
const LASTS_MS: std::ops::Range<u64> = 500..5_000;

/// How long a member lags, in milliseconds: the others go on until they have purged from their logs
/// what it lacks.
const LAG_MS: std::ops::Range<u64> = 8_000..12_000;

/// Between two faults, in milliseconds: the cluster is to recover.
const CALM_MS: std::ops::Range<u64> = 2_000..4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Nemesis {
    None,
    Kill,
    KillAll,
    Stop,
    Pause,
    Power,
    PowerAll,
    PartitionLeader,
    PartitionFollower,
    PartitionHalves,
    PartitionRing,
    PartitionBridge,
    PartitionOneWay,
    PartitionClients,
    PartitionFlapping,
    Loss,
    Delay,
    Duplicate,
    Reorder,
    Bandwidth,
    Reset,
    DiskFull,
    DiskSlow,
    DiskDead,
    Corrupt,
    Clock,
    Membership,
    Transfer,
    /// The leader hands over and does not hear that somebody else leads.
    TransferDeaf,
    Maintenance,
    Lag,
    Rolling,
    /// Any of the others, one after the other.
    All,
}

impl Nemesis {
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether a cluster of so many members can be broken so.
    pub fn is_for(self, members: usize) -> bool {
        members >= 3
            || matches!(
                self,
                Nemesis::None
                    | Nemesis::Kill
                    | Nemesis::KillAll
                    | Nemesis::Stop
                    | Nemesis::Pause
                    | Nemesis::Power
                    | Nemesis::PowerAll
                    | Nemesis::DiskSlow
                    | Nemesis::Clock
                    | Nemesis::Rolling
                    | Nemesis::Maintenance
            )
    }

    pub fn every() -> &'static [Nemesis] {
        clap::ValueEnum::value_variants()
    }
}

/// What was done, before it is undone.
#[derive(Default)]
struct Broken {
    members: Vec<MemberIndex>,
    detail: String,
    quorum_lives: bool,
    /// What shows that it took effect, where the doing itself does.
    evidence: Option<String>,
}

/// The one that breaks, with everything it needs for it.
pub struct Breaker {
    pub cluster: Cluster,
    pub recorder: Recorder,
    pub shared: Arc<Shared>,
    random: StdRng,
    packets: Option<Packets>,
}

impl Breaker {
    pub fn new(cluster: Cluster, recorder: Recorder, shared: Arc<Shared>, seed: u64) -> Breaker {
        let random = StdRng::seed_from_u64(seed);
        Breaker { cluster, recorder, shared, random, packets: None }
    }

    /// Breaks and mends until the time is over, and leaves everything mended.
    ///
    /// # Errors The harness can't go on: what it wanted to break or mend would not.
    pub async fn run(&mut self, nemesis: Nemesis, stop: &CancellationToken) -> Result<()> {
        if nemesis == Nemesis::None {
            stop.cancelled().await;
            return Ok(());
        }
        loop {
            let calm = Duration::from_millis(self.random.random_range(CALM_MS));
            if stop.run_until_cancelled(sleep(calm)).await.is_none() {
                return Ok(());
            }
            let one = match nemesis {
                Nemesis::All => self.any(),
                one => one,
            };
            self.once(one, stop).await.with_context(|| one.name())?;
        }
    }

    fn any(&mut self) -> Nemesis {
        let all: Vec<Nemesis> = Nemesis::every()
            .iter()
            .copied()
            .filter(|one| !matches!(one, Nemesis::None | Nemesis::All))
            .collect();
        all.choose(&mut self.random).copied().unwrap_or(Nemesis::Kill)
    }

    async fn once(&mut self, nemesis: Nemesis, stop: &CancellationToken) -> Result<()> {
        let led = admin::leader(&self.cluster.all()).await;
        let began = self.recorder.now();
        let broken = self.break_it(nemesis, led).await?;
        let lasts = if nemesis == Nemesis::Lag { LAG_MS } else { LASTS_MS };
        let lasts = Duration::from_millis(self.random.random_range(lasts));
        stop.run_until_cancelled(sleep(lasts)).await;
        let seen = self.mend_it(nemesis, &broken).await?;
        let ended = self.recorder.now();
        let hit_leader = led.is_some_and(|led| broken.members.contains(&led));
        self.recorder.history().faults.push(Fault {
            name: nemesis.name(),
            members: broken.members,
            detail: broken.detail,
            began,
            ended,
            recovered: None,
            outage: 0,
            evidence: broken.evidence.or(seen),
            quorum_lives: broken.quorum_lives,
            hit_leader,
        });
        Ok(())
    }

    async fn break_it(&mut self, nemesis: Nemesis, led: Option<MemberIndex>) -> Result<Broken> {
        match nemesis {
            Nemesis::None | Nemesis::All => Ok(Broken::default()),
            Nemesis::Kill
            | Nemesis::KillAll
            | Nemesis::Stop
            | Nemesis::Pause
            | Nemesis::Clock
            | Nemesis::Rolling
            | Nemesis::Transfer
            | Nemesis::Maintenance => self.break_process(nemesis, led).await,
            Nemesis::Power
            | Nemesis::PowerAll
            | Nemesis::DiskFull
            | Nemesis::DiskSlow
            | Nemesis::DiskDead
            | Nemesis::Corrupt => self.break_disk(nemesis, led),
            Nemesis::PartitionLeader
            | Nemesis::PartitionFollower
            | Nemesis::PartitionHalves
            | Nemesis::PartitionRing
            | Nemesis::PartitionBridge
            | Nemesis::PartitionOneWay
            | Nemesis::PartitionClients
            | Nemesis::Lag
            | Nemesis::Reset => self.cut(nemesis, led),
            Nemesis::PartitionFlapping => self.flap(led).await,
            Nemesis::TransferDeaf => self.hand_over_deaf(led).await,
            Nemesis::Loss
            | Nemesis::Delay
            | Nemesis::Duplicate
            | Nemesis::Reorder
            | Nemesis::Bandwidth => self.break_packets(nemesis, led),
            Nemesis::Membership => self.replace_a_member(led).await,
        }
    }

    /// Undoes it; gives what shows that it had an effect.
    async fn mend_it(&mut self, nemesis: Nemesis, broken: &Broken) -> Result<Option<String>> {
        match nemesis {
            Nemesis::None
            | Nemesis::All
            | Nemesis::Membership
            | Nemesis::Rolling
            | Nemesis::Transfer
            | Nemesis::Maintenance => Ok(None),
            Nemesis::Kill | Nemesis::KillAll | Nemesis::Stop => self.restart(&broken.members).await,
            Nemesis::Pause => {
                broken.members.iter().for_each(|at| self.cluster.resume(*at));
                Ok(None)
            }
            Nemesis::Clock => {
                for at in &broken.members {
                    self.cluster.shift_clock(*at, 0)?;
                }
                Ok(None)
            }
            Nemesis::Power | Nemesis::PowerAll => self.restart(&broken.members).await,
            Nemesis::Corrupt => self.start_corrupted(broken.members[0]).await,
            Nemesis::DiskFull | Nemesis::DiskSlow | Nemesis::DiskDead => {
                self.mend_disk(nemesis, broken).await
            }
            Nemesis::PartitionLeader
            | Nemesis::PartitionFollower
            | Nemesis::PartitionHalves
            | Nemesis::PartitionRing
            | Nemesis::PartitionBridge
            | Nemesis::PartitionOneWay
            | Nemesis::PartitionClients
            | Nemesis::PartitionFlapping
            | Nemesis::TransferDeaf
            | Nemesis::Lag
            | Nemesis::Reset
            | Nemesis::Loss => self.clear_the_air(),
            Nemesis::Delay | Nemesis::Duplicate | Nemesis::Reorder | Nemesis::Bandwidth => {
                self.mend_packets(broken)
            }
        }
    }

    /// Everything runs and nothing is broken any more.
    ///
    /// # Errors A member does not come back.
    pub async fn heal(&mut self) -> Result<()> {
        self.cluster.world.network.set(&Weather::default())?;
        self.packets = None;
        for at in self.cluster.all() {
            self.cluster.world.network.limit(at, None)?;
            if self.cluster.is_paused(at) {
                self.cluster.resume(at);
            }
        }
        let down: Vec<MemberIndex> = (0..self.cluster.size()).collect();
        self.restart(&down).await.map(drop)
    }

    /// Starts those of them that do not run, and waits until they serve.
    async fn restart(&mut self, members: &[MemberIndex]) -> Result<Option<String>> {
        let mut started = Vec::new();
        for at in members {
            if !self.cluster.is_running(*at) {
                self.cluster.start(*at)?;
                started.push(*at);
            }
        }
        for at in started {
            let served = self.cluster.ready(at, START_DEADLINE).await;
            // One that ended is the server's fault and told by the checkers.
            match (served, self.cluster.ended(at)) {
                (Ok(()), _) => {}
                (Err(error), None) => return Err(error),
                (Err(_), Some(code)) => {
                    self.recorder.history().ending.ended_alone.push((at, code));
                }
            }
        }
        Ok(None)
    }

    /// One of all, the leader in half of the cases: what hits it matters most.
    fn one(&mut self, led: Option<MemberIndex>) -> MemberIndex {
        match led {
            Some(led) if self.random.random_bool(0.5) => led,
            _ => self.random.random_range(0..self.cluster.size()),
        }
    }

    /// So many that the others are still a quorum.
    fn minority(&mut self, led: Option<MemberIndex>) -> Vec<MemberIndex> {
        let first = self.one(led);
        let most = (self.cluster.size() - 1) / 2;
        let mut others: Vec<_> = self.cluster.all().into_iter().filter(|at| *at != first).collect();
        others.shuffle(&mut self.random);
        let more = self.random.random_range(0..most.max(1));
        let mut members = vec![first];
        members.extend(others.into_iter().take(more.min(most.saturating_sub(1))));
        members
    }
}

/// Waits a bounded time for something that may never come.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, work).await.with_context(|| format!("not within {limit:?}"))?
}
