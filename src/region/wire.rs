//! The account as a message, on the wire and on disk.

use std::time::Duration;

use super::{Account, Failback, Location, Rejection, in_order};
use crate::proto::region as wire;

impl Account {
    /// # Errors
    /// The message is no account.
    pub fn from_wire(message: &wire::Account) -> Result<Account, Rejection> {
        let priorities = message.locations.iter();
        let priorities = priorities.map(|location| {
            let name = location.location_name.as_str();
            (name, location.failover_priority)
        });
        let order = in_order(priorities)?;
        let offline = |name: &str| {
            message.locations.iter().any(|known| known.location_name == name && known.offline)
        };
        let locations = order.into_iter().map(|name| Location { offline: offline(&name), name });
        let locations: Vec<Location> = locations.collect();
        match locations.iter().find(|location| !location.offline) {
            Some(_) => Ok(Account {
                version: message.version,
                locations,
                automatic_failover: message.enable_automatic_failover,
                failback: message.failback.as_ref().map_or(Failback::Manual, Failback::from_wire),
            }),
            None => Err(locations.first().map_or(Rejection::NoLocations, |location| {
                Rejection::LastOnline(location.name.clone())
            })),
        }
    }

    pub fn to_wire(&self) -> wire::Account {
        let location = |(priority, location): (u32, &Location)| wire::Location {
            location_name: location.name.clone(),
            failover_priority: priority,
            offline: location.offline,
        };
        wire::Account {
            locations: (0..).zip(&self.locations).map(location).collect(),
            enable_automatic_failover: self.automatic_failover,
            failback: Some(self.failback.to_wire()),
            version: self.version,
        }
    }
}

impl Failback {
    pub fn from_wire(message: &wire::Failback) -> Failback {
        match message.automatic {
            true => Failback::After(Duration::from_millis(message.after_ms)),
            false => Failback::Manual,
        }
    }

    fn to_wire(self) -> wire::Failback {
        match self {
            Failback::Manual => wire::Failback { automatic: false, after_ms: 0 },
            Failback::After(time) => wire::Failback {
                automatic: true,
                after_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            },
        }
    }
}
