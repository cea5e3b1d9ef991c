//! The account: where the data is and which region writes, in Azure Resource Manager's words.

use serde::{Deserialize, Serialize};

use crate::{cli::wan::matrix::Matrix, region};

/// ARM's bounds of bounded staleness.
const STALENESS_PREFIX_MAX: u64 = 2_147_483_647;
const STALENESS_SECONDS_MAX: u64 = 86_400;

/// As ARM describes a database account, and the replicated policy that a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// By their priority, which is their place here.
    pub(crate) locations: Vec<Location>,
    pub(crate) consistency_policy: ConsistencyPolicy,
    pub(crate) enable_automatic_failover: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Location {
    pub(crate) location_name: String,
    /// 0 is the write region.
    pub(crate) failover_priority: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConsistencyPolicy {
    pub(crate) default_consistency_level: Level,
    /// Writes that a read may be behind, where the level is bounded staleness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_staleness_prefix: Option<u64>,
    /// Seconds that a read may be behind, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_interval_in_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    Strong,
    BoundedStaleness,
    Session,
    ConsistentPrefix,
    Eventual,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("no region is named")]
    None,
    #[error("region {0} stands there twice")]
    Region(String),
    #[error("region {0:?}: {rule}", rule = region::NAME_RULE)]
    Name(String),
    #[error("failoverPriority {priority} is given twice: to {one} and to {other}")]
    Twice { priority: u64, one: String, other: String },
    #[error("failoverPriority {missing} is missing: {count} regions have 0 to {}, each once", count - 1)]
    Missing { missing: u64, count: usize },
    #[error(
        "two regions ({0} and {1}) cannot outlive the loss of one: what is left is no majority, and \
         writes stop; name a third region, where a witness is enough, which votes and serves nobody"
    )]
    Two(String, String),
    #[error("region {name:?} is not known: {known}; or give a --matrix that has it")]
    Unknown { name: String, known: String },
    #[error("the round trip between {0} and {1} is not known: give a --matrix that has it")]
    RoundTrip(String, String),
    #[error(
        "BoundedStaleness needs maxStalenessPrefix (1 to {STALENESS_PREFIX_MAX}) and \
         maxIntervalInSeconds (1 to {STALENESS_SECONDS_MAX})"
    )]
    Staleness,
}

impl Level {
    /// `None` for a word that is none.
    pub(crate) fn parse(word: &str) -> Option<Level> {
        match word.to_ascii_lowercase().as_str() {
            "strong" => Some(Level::Strong),
            "boundedstaleness" => Some(Level::BoundedStaleness),
            "session" => Some(Level::Session),
            "consistentprefix" => Some(Level::ConsistentPrefix),
            "eventual" => Some(Level::Eventual),
            _ => None,
        }
    }
}

impl ConsistencyPolicy {
    pub(crate) const STRONG: ConsistencyPolicy = ConsistencyPolicy {
        default_consistency_level: Level::Strong,
        max_staleness_prefix: None,
        max_interval_in_seconds: None,
    };
}

/// `East US` and `eastus` are one location.
pub(crate) fn location_name(text: &str) -> String {
    text.split_whitespace().collect::<String>().to_lowercase()
}

impl Account {
    /// The regions in the order of their priorities.
    pub(crate) fn of_regions(names: &[String]) -> Account {
        let location = |(priority, name): (usize, &String)| Location {
            location_name: name.clone(),
            failover_priority: priority as u64,
        };
        Account {
            locations: names.iter().enumerate().map(location).collect(),
            consistency_policy: ConsistencyPolicy::STRONG,
            enable_automatic_failover: true,
        }
    }

    pub(crate) fn regions(&self) -> Vec<String> {
        self.locations.iter().map(|location| location.location_name.clone()).collect()
    }

    /// All that can be wrong with it, where these round trips are known.
    pub(crate) fn check(&self, matrix: &Matrix) -> Result<(), Error> {
        let names = self.regions();
        for (at, name) in names.iter().enumerate() {
            if !region::is_name(name) {
                return Err(Error::Name(name.clone()));
            }
            if names[..at].contains(name) {
                return Err(Error::Region(name.clone()));
            }
        }
        self.check_priorities()?;
        for name in &names {
            if !matrix.names().contains(name) {
                let known = matrix.names().join(", ");
                return Err(Error::Unknown { name: name.clone(), known });
            }
        }
        for (at, one) in names.iter().enumerate() {
            let unknown = |other: &&String| matrix.round_trip(one, other).is_none();
            if let Some(other) = names[..at].iter().find(unknown) {
                return Err(Error::RoundTrip(other.clone(), one.clone()));
            }
        }
        if let [one, other] = names.as_slice() {
            return Err(Error::Two(one.clone(), other.clone()));
        }
        self.consistency_policy.check()
    }

    fn check_priorities(&self) -> Result<(), Error> {
        let count = self.locations.len();
        if count == 0 {
            return Err(Error::None);
        }
        for (at, location) in self.locations.iter().enumerate() {
            let priority = location.failover_priority;
            let before = self.locations[..at].iter().find(|it| it.failover_priority == priority);
            if let Some(before) = before {
                let (one, other) = (before.location_name.clone(), location.location_name.clone());
                return Err(Error::Twice { priority, one, other });
            }
        }
        let has = |wanted: &u64| self.locations.iter().any(|it| it.failover_priority == *wanted);
        match (0..count as u64).find(|wanted| !has(wanted)) {
            Some(missing) => Err(Error::Missing { missing, count }),
            None => Ok(()),
        }
    }
}

impl ConsistencyPolicy {
    /// The flag of a member whose reads have this for their default; `None` where that is etcd's.
    pub(crate) fn flag(&self) -> Option<String> {
        let level = match self.default_consistency_level {
            Level::Strong => return None,
            Level::Session => "session".to_owned(),
            Level::ConsistentPrefix => "prefix".to_owned(),
            Level::Eventual => "eventual".to_owned(),
            Level::BoundedStaleness => {
                let milliseconds = self.max_interval_in_seconds.unwrap_or_default() * 1000;
                let revisions = self.max_staleness_prefix.unwrap_or_default();
                format!(
                    "bounded,max-staleness-ms={milliseconds},max-staleness-revisions={revisions}"
                )
            }
        };
        Some(format!("--default-consistency={level}"))
    }

    fn check(&self) -> Result<(), Error> {
        if self.default_consistency_level != Level::BoundedStaleness {
            return Ok(());
        }
        let fits = |value: Option<u64>, most| value.is_some_and(|it| (1..=most).contains(&it));
        match fits(self.max_staleness_prefix, STALENESS_PREFIX_MAX)
            && fits(self.max_interval_in_seconds, STALENESS_SECONDS_MAX)
        {
            true => Ok(()),
            false => Err(Error::Staleness),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(locations: &[(&str, u64)]) -> Account {
        let locations = locations.iter().map(|(name, priority)| Location {
            location_name: (*name).to_owned(),
            failover_priority: *priority,
        });
        Account { locations: locations.collect(), ..Account::of_regions(&[]) }
    }

    #[test]
    fn regions_and_priorities_must_make_sense() {
        #[track_caller]
        fn check(locations: &[(&str, u64)], words: &str) {
            let found = account(locations).check(&Matrix::built_in());
            let found = found.err().map(|it| it.to_string()).unwrap_or_default();
            assert!(found.contains(words) && found.is_empty() == words.is_empty(), "{found}");
        }
        let (east, west, japan) = ("eastus", "westeurope", "japaneast");
        check(&[(east, 0), (west, 1), (japan, 2)], "");
        check(&[(east, 0)], "");
        check(&[], "no region");
        check(&[(east, 0), (west, 1), (east, 2)], "region eastus stands there twice");
        let twice = "failoverPriority 1 is given twice: to westeurope and to japaneast";
        check(&[(east, 0), (west, 1), (japan, 1)], twice);
        let missing = "failoverPriority 1 is missing: 3 regions have 0 to 2, each once";
        check(&[(east, 0), (west, 2), (japan, 3)], missing);
        check(&[(east, 1), (west, 2), (japan, 3)], "failoverPriority 0 is missing");
        check(
            &[(east, 0), (west, 1), ("atlantis", 2)],
            "region \"atlantis\" is not known: centralus, ",
        );
        check(&[(east, 0), (west, 1), ("East US", 2)], "expected 1 to 63 of");
        check(
            &[("westus2", 0), (east, 1), ("southeastasia", 2)],
            "between westus2 and southeastasia",
        );
        check(&[(east, 0), (west, 1)], "a witness is enough");
    }

    #[test]
    fn staleness_is_bounded_only_by_bounds() {
        #[track_caller]
        fn check(prefix: Option<u64>, seconds: Option<u64>, is_fine: bool) {
            let mut account = account(&[("eastus", 0)]);
            account.consistency_policy = ConsistencyPolicy {
                default_consistency_level: Level::BoundedStaleness,
                max_staleness_prefix: prefix,
                max_interval_in_seconds: seconds,
            };
            assert_eq!(account.check(&Matrix::built_in()).is_ok(), is_fine);
        }
        check(Some(100), Some(5), true);
        check(None, Some(5), false);
        check(Some(100), Some(0), false);
        check(Some(1 << 40), Some(5), false);
    }

    #[test]
    fn locations_are_known_by_either_name() {
        assert_eq!(location_name("East US 2"), "eastus2");
        assert_eq!(location_name("westeurope"), "westeurope");
    }
}
