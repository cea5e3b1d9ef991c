//! Reads, by how fresh they had to be.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Labels;
use crate::types::Level;

/// Reads of clients, and the rounds that ask the leader how far a read must see.
#[derive(Default)]
pub struct Reads {
    pub slow_rounds: Counter,
    pub failed_rounds: Counter,
    /// Those that no read waits for: they keep bounded reads from waiting.
    pub beacon_rounds: Counter,
    served: ByLevel,
    failed: ByLevel,
}

impl Reads {
    /// A read at that level has been answered, or refused with an error.
    pub fn done(&self, level: Level, succeeded: bool) {
        let by_level = if succeeded { &self.served } else { &self.failed };
        by_level.counters[level as usize].inc();
    }

    #[rustfmt::skip] // a table
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("etcd_server_slow_read_indexes",
            "Read indexes that did not come in time", self.slow_rounds.clone());
        registry.register("etcd_server_read_indexes_failed",
            "Read indexes that could not be asked for", self.failed_rounds.clone());
        registry.register("orrery_freshness_rounds",
            "Read indexes asked for to keep bounded reads from waiting", self.beacon_rounds.clone());
        registry.register("orrery_reads",
            "Reads answered, by their level of consistency", self.served.family.clone());
        registry.register("orrery_reads_failed",
            "Reads answered with an error, by their level of consistency", self.failed.family.clone());
    }
}

/// A counter for each level, all of them there from the start.
struct ByLevel {
    family: Family<Labels, Counter>,
    counters: [Counter; Level::ALL.len()],
}

impl Default for ByLevel {
    fn default() -> ByLevel {
        let family = Family::<Labels, Counter>::default();
        let counter =
            |level: Level| family.get_or_create_owned(&vec![("level", level.name().to_owned())]);
        ByLevel { counters: Level::ALL.map(counter), family }
    }
}
