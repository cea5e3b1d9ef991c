//! Faults of processes: killed, stopped, frozen, with a wrong clock; and what operators do to them.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use super::{Breaker, Broken, Nemesis, START_DEADLINE, within};
use crate::{admin, history::MemberIndex};

/// How far a wall clock is set wrong, in seconds, either way.
const CLOCK_SHIFT_SECS: i64 = 3_600;

const TRANSFERS: usize = 5;

const OPERATORS_PATIENCE: Duration = Duration::from_secs(15);

impl Breaker {
    pub(super) async fn break_process(
        &mut self,
        nemesis: Nemesis,
        led: Option<MemberIndex>,
    ) -> Result<Broken> {
        match nemesis {
            Nemesis::Stop => self.stop_one(led).await,
            Nemesis::Pause => Ok(self.pause(led)),
            Nemesis::Clock => self.shift_clocks(),
            Nemesis::Rolling => self.restart_one_by_one().await,
            Nemesis::Transfer => Ok(self.move_leadership(led).await),
            Nemesis::Maintenance => Ok(self.maintain().await),
            Nemesis::KillAll => Ok(self.kill(self.cluster.all())),
            _ => {
                let members = self.minority(led);
                Ok(self.kill(members))
            }
        }
    }

    fn kill(&mut self, members: Vec<MemberIndex>) -> Broken {
        members.iter().for_each(|at| self.cluster.kill(*at));
        Broken {
            quorum_lives: members.len() < self.cluster.size().div_ceil(2),
            detail: format!("SIGKILL to {members:?}"),
            evidence: Some(format!("{} processes ended", members.len())),
            members,
        }
    }

    async fn stop_one(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let at = self.one(led);
        self.cluster.stop(at).await?;
        Ok(Broken {
            members: vec![at],
            detail: format!("SIGTERM to {at}"),
            quorum_lives: self.cluster.size() > 2,
            evidence: Some("the process ended in order".to_owned()),
        })
    }

    fn pause(&mut self, led: Option<MemberIndex>) -> Broken {
        let members = self.minority(led);
        members.iter().for_each(|at| self.cluster.pause(*at));
        Broken {
            detail: format!("SIGSTOP to {members:?}"),
            quorum_lives: true,
            evidence: Some(format!("{} processes frozen", members.len())),
            members,
        }
    }

    /// Each member's clock is wrong in its own way.
    fn shift_clocks(&mut self) -> Result<Broken> {
        let mut shifts = Vec::new();
        for at in self.cluster.all() {
            let seconds = self.random.random_range(-CLOCK_SHIFT_SECS..=CLOCK_SHIFT_SECS);
            self.cluster.shift_clock(at, seconds * 1_000_000_000)?;
            shifts.push(seconds);
        }
        Ok(Broken {
            members: self.cluster.all(),
            detail: format!("wall clocks off by {shifts:?} s"),
            quorum_lives: true,
            evidence: Some("the members' log lines are dated so".to_owned()),
        })
    }

    async fn restart_one_by_one(&mut self) -> Result<Broken> {
        for at in self.cluster.all() {
            self.cluster.stop(at).await?;
            self.cluster.start(at)?;
            self.cluster.ready(at, START_DEADLINE).await?;
        }
        Ok(Broken {
            members: self.cluster.all(),
            detail: "each stopped and started in turn".to_owned(),
            quorum_lives: self.cluster.size() > 2,
            evidence: Some("each process ended in order".to_owned()),
        })
    }

    async fn move_leadership(&mut self, led: Option<MemberIndex>) -> Broken {
        let mut path = Vec::from_iter(led);
        for _ in 0..TRANSFERS {
            let all = self.cluster.all();
            let Some(from) = admin::leader(&all).await else { continue };
            let to = (from + self.random.random_range(1..all.len())) % all.len();
            if within(OPERATORS_PATIENCE, admin::move_leader(from, to)).await.is_ok() {
                path.push(to);
            }
            sleep(Duration::from_millis(self.random.random_range(0..500))).await;
        }
        Broken {
            members: self.cluster.all(),
            detail: format!("leadership moved along {path:?}"),
            quorum_lives: true,
            evidence: (path.len() > 1).then(|| format!("{} transfers", path.len() - 1)),
        }
    }

    /// What an operator's scripts do, while everybody works.
    async fn maintain(&mut self) -> Broken {
        let at = self.random.random_range(0..self.cluster.size());
        let mut done = Vec::new();
        let defragmented = within(OPERATORS_PATIENCE, admin::defragment(at)).await;
        done.push(match &defragmented {
            Ok(()) => "defragmented".to_owned(),
            Err(error) => format!("defragment: {error:#}"),
        });
        let read = within(OPERATORS_PATIENCE, admin::snapshot(at)).await;
        done.push(match &read {
            Ok(bytes) => format!("a snapshot of {bytes} bytes read"),
            Err(error) => format!("snapshot: {error:#}"),
        });
        Broken {
            members: vec![at],
            detail: done.join("; "),
            quorum_lives: true,
            evidence: (defragmented.is_ok() || read.is_ok()).then(|| "it was carried out".into()),
        }
    }
}
