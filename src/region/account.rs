//! The account: the policy that all members share.

use std::time::Duration;

use super::Rejection;

/// Which regions there are, in which order they lead, and what happens when one is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Counts the changes, from 1.
    pub version: u64,
    /// By failover priority; never empty, each name once, one at least that is not offline.
    pub locations: Vec<Location>,
    /// Members of other regions than the write region may stand for election.
    pub automatic_failover: bool,
    pub failback: Failback,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub name: String,
    /// Nobody there leads.
    pub offline: bool,
}

/// What happens once a write region that was lost is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// The region that has led since is the write region for good, as in Cosmos DB.
    Manual,
    /// It leads again when it has been healthy for so long: priorities never change by themselves.
    After(Duration),
}

impl Account {
    /// The first account of a cluster, with these regions by priority.
    ///
    /// # Errors
    /// There are no regions.
    pub fn new(order: Vec<String>) -> Result<Account, Rejection> {
        if order.is_empty() {
            return Err(Rejection::NoLocations);
        }
        let online = |name| Location { name, offline: false };
        Ok(Account {
            version: 1,
            locations: order.into_iter().map(online).collect(),
            automatic_failover: true,
            failback: Failback::Manual,
        })
    }

    /// Where the leader should be: the first region that is not offline.
    pub fn write_region(&self) -> &str {
        let online = self.locations.iter().find(|location| !location.offline);
        // There is always one that is online; an account that has none is not made.
        online.or(self.locations.first()).map_or("", |location| &location.name)
    }

    pub fn location(&self, name: &str) -> Option<&Location> {
        self.locations.iter().find(|location| location.name == name)
    }

    /// Position among those that may lead; `None` for a region that may not, or is not known.
    pub fn rank(&self, name: &str) -> Option<usize> {
        let mut online = self.locations.iter().filter(|location| !location.offline);
        online.position(|location| location.name == name)
    }

    /// With these regions by priority. Those that stay are as offline as they were.
    ///
    /// # Errors
    /// All regions would be offline, or there are none.
    pub fn with_locations(&self, order: Vec<String>) -> Result<Account, Rejection> {
        let offline = |name: &str| self.location(name).is_some_and(|location| location.offline);
        let locations = order.into_iter().map(|name| Location { offline: offline(&name), name });
        let locations: Vec<Location> = locations.collect();
        match locations.first() {
            None => Err(Rejection::NoLocations),
            Some(first) if first.offline => Err(Rejection::Offline(first.name.clone())),
            Some(_) => Ok(self.next(locations)),
        }
    }

    /// With another order of the same regions.
    ///
    /// # Errors
    /// They are not the same, or the first one is offline.
    pub fn with_priorities(&self, order: Vec<String>) -> Result<Account, Rejection> {
        if let Some(other) = order.iter().find(|name| self.location(name).is_none()) {
            return Err(Rejection::NotInAccount(other.clone()));
        }
        if let Some(left) = self.locations.iter().find(|location| !order.contains(&location.name)) {
            return Err(Rejection::NotNamed(left.name.clone()));
        }
        self.with_locations(order)
    }

    /// With this region as the write region, and the others behind it as they were.
    ///
    /// # Errors
    /// It is not in the account, or offline.
    pub fn with_write_region(&self, name: &str) -> Result<Account, Rejection> {
        let (mut locations, others) = self.split(name)?;
        if locations.iter().any(|location| location.offline) {
            return Err(Rejection::Offline(name.to_owned()));
        }
        locations.extend(others);
        Ok(self.next(locations))
    }

    /// With this region offline and behind all others.
    ///
    /// # Errors
    /// It is not in the account, or no other one is online.
    pub fn with_offline(&self, name: &str) -> Result<Account, Rejection> {
        let (_, mut locations) = self.split(name)?;
        if locations.iter().all(|location| location.offline) {
            return Err(Rejection::LastOnline(name.to_owned()));
        }
        locations.push(Location { name: name.to_owned(), offline: true });
        Ok(self.next(locations))
    }

    /// With this region online again, behind all others that are: it does not lead again by itself.
    ///
    /// # Errors
    /// It is not in the account.
    pub fn with_online(&self, name: &str) -> Result<Account, Rejection> {
        let (mut own, mut locations) = self.split(name)?;
        if own.iter().any(|location| !location.offline) {
            return Ok(self.clone());
        }
        own.iter_mut().for_each(|location| location.offline = false);
        let behind = locations.iter().take_while(|location| !location.offline).count();
        locations.splice(behind..behind, own);
        Ok(self.next(locations))
    }

    /// With other rules, where there are any.
    pub fn with_rules(&self, automatic: Option<bool>, failback: Option<Failback>) -> Account {
        Account {
            automatic_failover: automatic.unwrap_or(self.automatic_failover),
            failback: failback.unwrap_or(self.failback),
            ..self.next(self.locations.clone())
        }
    }

    /// Whether the other one says the same, whatever its version.
    pub fn says_the_same(&self, other: &Account) -> bool {
        Account { version: other.version, ..self.clone() } == *other
    }

    /// The region by itself, and the others.
    fn split(&self, name: &str) -> Result<(Vec<Location>, Vec<Location>), Rejection> {
        let all = self.locations.iter().cloned();
        let (own, others): (Vec<_>, _) = all.partition(|location| location.name == name);
        match own.is_empty() {
            true => Err(Rejection::NotInAccount(name.to_owned())),
            false => Ok((own, others)),
        }
    }

    fn next(&self, locations: Vec<Location>) -> Account {
        Account { version: self.version + 1, locations, ..self.clone() }
    }
}
