//! Faults of the network that stop packets altogether.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use rand::{Rng, seq::SliceRandom};
use tokio::time::sleep;

use super::{Breaker, Broken, Nemesis, START_DEADLINE};
use crate::{
    admin,
    history::MemberIndex,
    world::{Network, Side, Weather},
};

/// Times that a flapping network is cut.
const FLAPS: u32 = 6;

impl Breaker {
    pub(super) fn cut(&mut self, nemesis: Nemesis, led: Option<MemberIndex>) -> Result<Broken> {
        let mut members = self.cluster.all();
        members.shuffle(&mut self.random);
        let broken = match nemesis {
            Nemesis::PartitionLeader => {
                let one = led.unwrap_or(members[0]);
                self.apart(&[one], "the leader from the others")?
            }
            Nemesis::PartitionFollower | Nemesis::Lag => {
                let followers: Vec<_> = members.iter().filter(|at| Some(**at) != led).collect();
                let one = followers.first().map_or(members[0], |at| **at);
                self.apart(&[one], "a follower from the others")?
            }
            Nemesis::PartitionHalves => {
                let half = members[..self.cluster.size() / 2].to_vec();
                self.apart(&half, "two halves from each other")?
            }
            Nemesis::PartitionRing => self.ring(&members)?,
            Nemesis::PartitionBridge => self.bridge(&members)?,
            Nemesis::PartitionOneWay => self.one_way(led)?,
            Nemesis::Reset => self.reset()?,
            _ => self.cut_off_clients(led)?,
        };
        Ok(broken)
    }

    fn apart(&mut self, one: &[MemberIndex], detail: &str) -> Result<Broken> {
        let others: Vec<_> =
            self.cluster.all().into_iter().filter(|at| !one.contains(at)).collect();
        let cut = Network::between(one, &others);
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        Ok(Broken {
            members: one.to_vec(),
            detail: format!("{detail}: {one:?} | {others:?}"),
            quorum_lives: others.len() > self.cluster.size() / 2,
            evidence: None,
        })
    }

    /// Each reaches its two neighbours only: there is a majority around each member, and no two see
    /// the same one.
    fn ring(&mut self, order: &[MemberIndex]) -> Result<Broken> {
        let mut cut = BTreeSet::new();
        let size = order.len();
        for (place, at) in order.iter().enumerate() {
            for (other_place, other) in order.iter().enumerate() {
                let apart = (place + size - other_place) % size;
                // Of three, all are neighbours: then one link is cut.
                let is_cut = if size > 3 {
                    apart > 1 && apart < size - 1
                } else {
                    place.abs_diff(other_place) == size - 1
                };
                if is_cut {
                    cut.insert((Side::Member(*at), Side::Member(*other)));
                }
            }
        }
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        Ok(Broken {
            members: order.to_vec(),
            detail: format!("a ring {order:?}"),
            // Some member reaches a quorum, but nobody promises which.
            quorum_lives: false,
            evidence: None,
        })
    }

    /// Two groups that only one member in the middle connects.
    fn bridge(&mut self, order: &[MemberIndex]) -> Result<Broken> {
        let half = (order.len() - 1) / 2;
        let (left, right) = (&order[1..=half], &order[half + 1..]);
        let cut = Network::between(left, right);
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        Ok(Broken {
            members: order.to_vec(),
            detail: format!("{left:?} and {right:?} meet at {} only", order[0]),
            quorum_lives: false,
            evidence: None,
        })
    }

    /// A member that others hear, or that hears others, and not both.
    fn one_way(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let one = self.one(led);
        let deaf = self.random.random_bool(0.5);
        let others = self.cluster.all().into_iter().filter(|at| *at != one);
        let cut = others.map(|other| match deaf {
            true => (Side::Member(other), Side::Member(one)),
            false => (Side::Member(one), Side::Member(other)),
        });
        let cut = cut.collect();
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        let how = if deaf { "hears nobody" } else { "is heard by nobody" };
        Ok(Broken {
            members: vec![one],
            detail: format!("{one} {how}"),
            quorum_lives: false,
            evidence: None,
        })
    }

    /// Whoever takes over need not wait for the old leader's lease to end, and the old one does not
    /// hear of it: it must not answer reads from what it knows.
    pub(super) async fn hand_over_deaf(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let all = self.cluster.all();
        let from = match led {
            Some(led) => led,
            None => admin::some_leader(&all, START_DEADLINE).await?,
        };
        let to = (from + self.random.random_range(1..all.len())) % all.len();
        let others = all.iter().filter(|at| **at != from);
        let cut = others.map(|other| (Side::Member(*other), Side::Member(from))).collect();
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        // It may never learn that it worked.
        tokio::spawn(async move {
            let _ = admin::move_leader(from, to).await;
        });
        Ok(Broken {
            members: vec![from],
            detail: format!("{from} hears nobody, and hands over to {to}"),
            quorum_lives: false,
            evidence: None,
        })
    }

    fn cut_off_clients(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let one = self.one(led);
        let sides = (Side::Clients, Side::Member(one));
        let cut = BTreeSet::from([sides, (sides.1, sides.0)]);
        self.cluster.world.network.set(&Weather { cut, ..Weather::default() })?;
        Ok(Broken {
            members: vec![one],
            detail: format!("clients do not reach {one}"),
            quorum_lives: true,
            evidence: None,
        })
    }

    /// Every connection between members is reset, whenever it says something.
    fn reset(&mut self) -> Result<Broken> {
        let all = self.cluster.all();
        let reset = Network::between(&all, &all).into_iter().filter(|(one, other)| one != other);
        let weather = Weather { reset: reset.collect(), ..Weather::default() };
        self.cluster.world.network.set(&weather)?;
        Ok(Broken {
            members: all,
            detail: "connections between members are reset".to_owned(),
            quorum_lives: false,
            evidence: None,
        })
    }

    /// Cut, mended, cut: before anybody has made up his mind.
    pub(super) async fn flap(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let one = self.one(led);
        let mut stopped = 0;
        for _ in 0..FLAPS {
            self.apart(&[one], "")?;
            sleep(Duration::from_millis(self.random.random_range(50..600))).await;
            stopped += self.cluster.world.network.stopped()?;
            self.cluster.world.network.set(&Weather::default())?;
            sleep(Duration::from_millis(self.random.random_range(50..600))).await;
        }
        Ok(Broken {
            members: vec![one],
            detail: format!("{one} cut off {FLAPS} times"),
            quorum_lives: true,
            evidence: (stopped > 0).then(|| format!("{stopped} packets stopped")),
        })
    }

    /// Takes all rules away, and says how many packets they stopped.
    pub(super) fn clear_the_air(&mut self) -> Result<Option<String>> {
        let stopped = self.cluster.world.network.stopped()?;
        self.cluster.world.network.set(&Weather::default())?;
        Ok((stopped > 0).then(|| format!("{stopped} packets stopped")))
    }
}
