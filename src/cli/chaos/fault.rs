//! What can be broken, and what that means for processes and the network.

use std::time::Duration;

use crate::cli::{
    up::plan::Plan,
    wan::fault::{Effect, Fault, Part, Ways},
};

/// What is asked for; names are resolved by [`Broken::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Kill(String),
    Pause(String),
    /// `REGION/ZONE`.
    LoseZone(String),
    LoseRegion(String),
    Isolate(String),
    IsolateMember(String),
    Slow(String, Duration),
    /// From one region to another.
    Cut(String, String),
    /// The write region becomes another one, on purpose.
    Switch(String),
}

/// The kinds that a drill can choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    Kill,
    Pause,
    LoseZone,
    LoseRegion,
    Isolate,
    IsolateMember,
    Slow,
    Cut,
    /// Breaks nothing, so that drills have it only where it is named.
    Switch,
}

impl Kind {
    pub(super) const ALL: [Kind; 8] = [
        Kind::Kill,
        Kind::Pause,
        Kind::LoseZone,
        Kind::LoseRegion,
        Kind::Isolate,
        Kind::IsolateMember,
        Kind::Slow,
        Kind::Cut,
    ];
}

/// A word for whoever leads, or for its region.
pub(super) const LEADER: &str = "leader";

/// A fault with all names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// For people and the journal: "kill member".
    pub(super) what: &'static str,
    pub(super) target: String,
    /// Members whose processes are killed, and started again.
    pub(super) killed: Vec<String>,
    /// Members whose processes are stopped, and continued.
    pub(super) paused: Vec<String>,
    pub(super) network: Vec<Fault>,
    /// Becomes the write region, and stays it.
    pub(super) switched_to: Option<String>,
    /// Members that cannot take part meanwhile.
    pub(super) unable: Vec<String>,
    /// Regions whose own clients cannot expect strong reads and writes meanwhile.
    pub(super) lost_regions: Vec<String>,
}

/// A name that the cluster does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("no member {name:?}: there are {all}")]
    Member { name: String, all: String },
    #[error("no region {name:?}: there are {all}")]
    Region { name: String, all: String },
    #[error("no zone {name:?}: expected REGION/ZONE, one of {all}")]
    Zone { name: String, all: String },
    #[error("from {0} to itself nothing can be cut")]
    Itself(String),
}

impl Broken {
    /// `leader` is the member that leads.
    pub(super) fn of(target: &Target, plan: &Plan, leader: &str) -> Result<Broken, Unknown> {
        let cluster = Cluster { plan, leader };
        Ok(match target {
            Target::Kill(name) => {
                let member = cluster.member(name)?;
                let killed = vec![member.clone()];
                Broken { killed: killed.clone(), unable: killed, ..named("kill member", member) }
            }
            Target::Pause(name) => {
                let member = cluster.member(name)?;
                let paused = vec![member.clone()];
                Broken { paused: paused.clone(), unable: paused, ..named("pause member", member) }
            }
            Target::LoseZone(name) => {
                let (zone, members) = cluster.zone(name)?;
                let network = vec![cut_off(Part::Zone(zone.clone()))];
                let (killed, unable) = (members.clone(), members);
                let lost_regions = cluster.wholly(&unable);
                Broken { killed, network, unable, lost_regions, ..named("lose zone", zone) }
            }
            Target::LoseRegion(name) => {
                let region = cluster.region(name)?;
                let members = cluster.members_in(&region);
                let network = vec![cut_off(Part::Region(region.clone()))];
                let (killed, unable) = (members.clone(), members);
                let lost_regions = vec![region.clone()];
                Broken { killed, network, unable, lost_regions, ..named("lose region", region) }
            }
            Target::Isolate(name) => {
                let region = cluster.region(name)?;
                let unable = cluster.members_in(&region);
                let network = vec![cut_off(Part::Region(region.clone()))];
                let lost_regions = vec![region.clone()];
                Broken { network, unable, lost_regions, ..named("isolate region", region) }
            }
            Target::IsolateMember(name) => {
                let member = cluster.member(name)?;
                let unable = vec![member.clone()];
                let network = vec![cut_off(Part::Member(member.clone()))];
                let lost_regions = cluster.wholly(&unable);
                Broken { network, unable, lost_regions, ..named("isolate member", member) }
            }
            Target::Slow(name, by) => {
                let region = cluster.region(name)?;
                let effect = Effect::Slow { added_ms: by.as_millis() as u64 };
                let from = Part::Region(region.clone());
                let fault = Fault { from, to: Part::Elsewhere, ways: Ways::Both, effect };
                Broken { network: vec![fault], ..named("slow region", region) }
            }
            Target::Cut(from, to) => {
                let (from, to) = (cluster.region(from)?, cluster.region(to)?);
                if from == to {
                    return Err(Unknown::Itself(from));
                }
                let (target, ways) = (format!("{from} to {to}"), Ways::One);
                let (from, to) = (Part::Region(from), Part::Region(to));
                let fault = Fault { from, to, ways, effect: Effect::Cut };
                Broken { network: vec![fault], ..named("cut one way", target) }
            }
            Target::Switch(name) => {
                let region = cluster.region(name)?;
                let switched_to = Some(region.clone());
                Broken { switched_to, ..named("planned switch", region) }
            }
        })
    }
}

fn named(what: &'static str, target: String) -> Broken {
    Broken {
        what,
        target,
        killed: Vec::new(),
        paused: Vec::new(),
        network: Vec::new(),
        switched_to: None,
        unable: Vec::new(),
        lost_regions: Vec::new(),
    }
}

fn cut_off(part: Part) -> Fault {
    Fault { from: part, to: Part::Elsewhere, ways: Ways::Both, effect: Effect::Cut }
}

struct Cluster<'a> {
    plan: &'a Plan,
    leader: &'a str,
}

impl Cluster<'_> {
    fn member(&self, name: &str) -> Result<String, Unknown> {
        let wanted = if name == LEADER { self.leader } else { name };
        let names = || self.plan.members.iter().map(|seat| seat.name.clone());
        names()
            .find(|member| member == wanted)
            .ok_or_else(|| Unknown::Member { name: name.to_owned(), all: listed(names()) })
    }

    fn region(&self, name: &str) -> Result<String, Unknown> {
        let seats = &self.plan.members;
        let leaders = seats.iter().find(|seat| seat.name == self.leader);
        let wanted = match (name, leaders) {
            (LEADER, Some(seat)) => seat.region.as_str(),
            (name, _) => name,
        };
        let regions = self.plan.regions();
        let all = listed(regions.iter().cloned());
        let found = regions.into_iter().find(|region| region == wanted);
        found.ok_or_else(|| Unknown::Region { name: name.to_owned(), all })
    }

    fn zone(&self, name: &str) -> Result<(String, Vec<String>), Unknown> {
        let zone = |seat: &crate::cli::up::plan::Seat| format!("{}/{}", seat.region, seat.zone);
        let seats = &self.plan.members;
        let leaders = seats.iter().find(|seat| seat.name == self.leader);
        let wanted = match (name, leaders) {
            (LEADER, Some(seat)) => zone(seat),
            (name, _) => name.to_owned(),
        };
        let inside = seats.iter().filter(|seat| zone(seat) == wanted);
        let members: Vec<String> = inside.map(|seat| seat.name.clone()).collect();
        match members.is_empty() {
            true => {
                Err(Unknown::Zone { name: name.to_owned(), all: listed(seats.iter().map(zone)) })
            }
            false => Ok((wanted, members)),
        }
    }

    fn members_in(&self, region: &str) -> Vec<String> {
        let seats = self.plan.members.iter().filter(|seat| seat.region == region);
        seats.map(|seat| seat.name.clone()).collect()
    }

    /// The regions all of whose members are among these.
    fn wholly(&self, members: &[String]) -> Vec<String> {
        let is_lost =
            |region: &String| self.members_in(region).iter().all(|it| members.contains(it));
        self.plan.regions().into_iter().filter(is_lost).collect()
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
