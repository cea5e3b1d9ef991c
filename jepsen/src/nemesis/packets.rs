//! Faults of the network that let packets through, some time.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;

use super::{Breaker, Broken, Nemesis};
use crate::{
    history::MemberIndex,
    world::{
        Side, Weather,
        packets::{Packets, Treatment},
    },
};

impl Breaker {
    pub(super) fn break_packets(
        &mut self,
        nemesis: Nemesis,
        led: Option<MemberIndex>,
    ) -> Result<Broken> {
        let all = self.cluster.all();
        let (members, detail) = match nemesis {
            Nemesis::Loss => self.lose()?,
            Nemesis::Bandwidth => {
                let one = self.one(led);
                let kilobits = self.random.random_range(200..2000);
                self.cluster.world.network.limit(one, Some(kilobits))?;
                (vec![one], format!("{one} sends at most {kilobits} kbit/s"))
            }
            Nemesis::Delay => {
                let delay = Duration::from_millis(self.random.random_range(20..300));
                self.queue(Treatment { delay, jitter: delay / 10, twice_percent: 0 })?;
                (all, format!("{delay:?} each way between members"))
            }
            Nemesis::Reorder => {
                let jitter = Duration::from_millis(self.random.random_range(10..100));
                self.queue(Treatment { jitter, ..Treatment::default() })?;
                (all, format!("up to {jitter:?} of delay, each packet its own"))
            }
            _ => {
                let twice_percent = self.random.random_range(5..50);
                self.queue(Treatment { twice_percent, ..Treatment::default() })?;
                (all, format!("{twice_percent} % of packets between members twice"))
            }
        };
        let shaped = nemesis == Nemesis::Bandwidth;
        let evidence = shaped.then(|| "the queueing discipline is in place".to_owned());
        Ok(Broken { members, detail, quorum_lives: false, evidence })
    }

    fn lose(&mut self) -> Result<(Vec<MemberIndex>, String)> {
        let all = self.cluster.all();
        let percent = self.random.random_range(2..40);
        let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other)));
        let between = pairs.filter(|(one, other)| one != other);
        let lossy = between.map(|(one, other)| (Side::Member(one), Side::Member(other), percent));
        let weather = Weather { lossy: lossy.collect(), ..Weather::default() };
        self.cluster.world.network.set(&weather)?;
        Ok((all, format!("{percent} % of packets between members lost")))
    }

    fn queue(&mut self, treatment: Treatment) -> Result<()> {
        let packets = Packets::start(self.random.random())?;
        packets.treat(treatment);
        self.packets = Some(packets);
        self.cluster.world.network.set(&Weather { queued: true, ..Weather::default() })
    }

    pub(super) fn mend_packets(&mut self, broken: &Broken) -> Result<Option<String>> {
        self.cluster.world.network.set(&Weather::default())?;
        for at in &broken.members {
            self.cluster.world.network.limit(*at, None)?;
        }
        let handled = self.packets.take().map_or(0, |packets| packets.handled());
        Ok((handled > 0).then(|| format!("{handled} packets came by")))
    }
}
