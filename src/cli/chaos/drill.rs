//! One fault after another.

use std::time::Duration;

use anyhow::ensure;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{signal::unix::Signal as Signals, time::sleep};

use super::{
    fault::{Kind, LEADER, Target},
    inflict::{Ended, Surgeon, say},
};
use crate::cli::{sla::duration, up::plan::Plan};

/// What a slow region is slower by, each way.
const SLOWER: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Drill {
    /// How many.
    #[arg(long, default_value = "20")]
    faults: u32,

    /// Time between two of them.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
    settle: Duration,

    /// The same number gives the same faults.
    #[arg(long, default_value = "1")]
    seed: u64,

    /// Only these kinds.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,

    /// Always hit the leader, or its region.
    #[arg(long)]
    leader: bool,
}

impl Drill {
    /// Kinds take turns; half of the faults hit the leader, or all of them. What would leave no
    /// majority is left out.
    pub(super) async fn run(
        &self,
        surgeon: &Surgeon<'_>,
        stop: &mut Signals,
    ) -> anyhow::Result<()> {
        let kinds = if self.kinds.is_empty() { &Kind::ALL[..] } else { &self.kinds[..] };
        let mut random = StdRng::seed_from_u64(self.seed);
        let (mut done, mut refused) = (0, 0);
        for kind in kinds.iter().copied().cycle() {
            if done == self.faults {
                break;
            }
            let leader = surgeon.leader().await?;
            let target = self.choose(kind, &surgeon.state.plan, &leader, &mut random);
            let fault = match surgeon.plan(target).await {
                Ok(fault) => fault,
                Err(error) => {
                    say(&format!("left out: {error:#}"));
                    refused += 1;
                    ensure!(refused < 10 * kinds.len(), "nothing can be broken here");
                    continue;
                }
            };
            done += 1;
            say(&format!("fault {done} of {}", self.faults));
            if surgeon.do_and_undo(fault, stop).await? == Ended::Told {
                break;
            }
            tokio::select! {
                () = sleep(self.settle) => {}
                _ = stop.recv() => break,
            }
        }
        Ok(())
    }

    fn choose(&self, kind: Kind, plan: &Plan, leader: &str, random: &mut StdRng) -> Target {
        let hits_leader = self.leader || random.random_bool(0.5);
        let of = |name: Option<&String>| match name {
            Some(name) if !hits_leader => name.clone(),
            Some(_) | None => LEADER.to_owned(),
        };
        let members: Vec<String> = plan.members.iter().map(|seat| seat.name.clone()).collect();
        let zones: Vec<String> =
            plan.members.iter().map(|seat| format!("{}/{}", seat.region, seat.zone)).collect();
        let regions = plan.regions();
        match kind {
            Kind::Kill => Target::Kill(of(members.choose(random))),
            Kind::Pause => Target::Pause(of(members.choose(random))),
            Kind::LoseZone => Target::LoseZone(of(zones.choose(random))),
            Kind::LoseRegion => Target::LoseRegion(of(regions.choose(random))),
            Kind::Isolate => Target::Isolate(of(regions.choose(random))),
            Kind::IsolateMember => Target::IsolateMember(of(members.choose(random))),
            Kind::Slow => Target::Slow(of(regions.choose(random)), SLOWER),
            Kind::Cut => {
                let mut two = regions.choose_multiple(random, 2).cloned();
                let (from, to) = (two.next().unwrap_or_default(), two.next().unwrap_or_default());
                Target::Cut(from, to)
            }
            Kind::Switch => {
                let seats = plan.members.iter();
                let others: Vec<String> = seats
                    .filter(|seat| !stands_with(plan, &seat.region, leader))
                    .map(|seat| seat.region.clone())
                    .collect();
                Target::Switch(others.choose(random).cloned().unwrap_or(LEADER.to_owned()))
            }
        }
    }
}

/// Whether the leader stands in the region.
fn stands_with(plan: &Plan, region: &str, leader: &str) -> bool {
    plan.members.iter().any(|seat| seat.name == leader && seat.region == region)
}
