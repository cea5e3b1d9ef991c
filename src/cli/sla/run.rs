//! What a run was, and what it found, as files keep it.

use serde::{Deserialize, Serialize};

use super::probe::{Act, Probe};

/// What was probed, how, and what happened meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    /// "orrery 0.1.0", as the members say.
    pub(crate) server: String,
    /// By this machine's wall clock.
    pub(crate) began_unix_ms: u64,
    pub(crate) seconds: f64,
    pub(crate) regions: Vec<Region>,
    /// Between regions in the order of `regions`, in milliseconds; empty if nobody knows.
    pub(crate) round_trips_ms: Vec<Vec<f64>>,
    pub(crate) acts: Vec<Act>,
    /// Requests a second, of each act from each region.
    pub(crate) rate: f64,
    pub(crate) max_staleness_ms: u64,
    pub(crate) faults: Vec<Fault>,
    /// Acknowledged writes that were not there at the end.
    pub(crate) lost: u64,
    /// Keys that could not be read at the end: whether they lost writes is not known.
    pub(crate) unread: u64,
    /// How many keys were written.
    pub(crate) keys: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Region {
    pub(crate) name: String,
    /// 0 is the write region's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) failover_priority: Option<u32>,
}

/// Something was broken on purpose. Times are seconds since the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    /// "isolate region", "kill member".
    pub(crate) what: String,
    /// "eastus", "eastus-0".
    pub(crate) target: String,
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// Regions whose clients could not be served, whatever the others do.
    #[serde(default)]
    pub(crate) lost_regions: Vec<String>,
}

/// A run with all of its requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) run: Run,
    pub(crate) probes: Vec<Probe>,
}

impl History {
    /// The first line is the run, each other one a request.
    pub(crate) fn to_lines(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string(&self.run)?;
        text.push('\n');
        for probe in &self.probes {
            text.push_str(&serde_json::to_string(probe)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// # Errors
    /// A line says what it should not, or the first one is missing.
    pub(crate) fn of_lines(text: &str) -> serde_json::Result<History> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let run = serde_json::from_str(first)?;
        let probes = rest.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?;
        Ok(History { run, probes })
    }

    /// The requests of clients that were not in a region that was lost then.
    pub(crate) fn surviving(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|probe| !self.is_of_lost_region(probe))
    }

    fn is_of_lost_region(&self, probe: &Probe) -> bool {
        let Some(region) = self.run.regions.get(probe.region) else { return false };
        let due = probe.due as f64 / super::figures::NANOS as f64;
        self.run.faults.iter().any(|fault| {
            fault.lost_regions.contains(&region.name) && fault.from <= due && due <= fault.until
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::sla::probe::Outcome, types::Level};

    fn history() -> History {
        let region =
            |name: &str, failover_priority| Region { name: name.to_owned(), failover_priority };
        let fault = Fault {
            what: "isolate region".to_owned(),
            target: "westeurope".to_owned(),
            from: 1.0,
            until: 2.0,
            lost_regions: vec!["westeurope".to_owned()],
        };
        let probe = |region, due| Probe {
            region,
            act: Act::Read(Level::Session),
            key: 3,
            due,
            sent: due,
            ended: due + 5,
            outcome: Outcome::Done,
            counter: Some(1),
            revision: Some(7),
            token: Some(6),
            error: None,
        };
        let run = Run {
            server: "orrery".to_owned(),
            began_unix_ms: 1,
            seconds: 3.0,
            regions: vec![region("eastus", Some(0)), region("westeurope", None)],
            round_trips_ms: Vec::new(),
            acts: vec![Act::Write, Act::Read(Level::Session)],
            rate: 10.0,
            max_staleness_ms: 5000,
            faults: vec![fault],
            lost: 0,
            unread: 0,
            keys: 4,
        };
        let at = [500_000_000, 1_500_000_000, 2_500_000_000];
        let probes = at.iter().flat_map(|at| [probe(0, *at), probe(1, *at)]).collect();
        History { run, probes }
    }

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let lines = history().to_lines().expect("it is no map with odd keys");
        assert_eq!(lines.lines().count(), 7);
        assert_eq!(History::of_lines(&lines).expect("it was just written"), history());
    }

    #[test]
    fn clients_of_a_lost_region_are_counted_apart_while_it_is_lost() {
        let history = history();
        let surviving: Vec<(usize, u64)> =
            history.surviving().map(|probe| (probe.region, probe.due / 1_000_000)).collect();
        assert_eq!(surviving, [(0, 500), (1, 500), (0, 1500), (0, 2500), (1, 2500)]);
    }
}
