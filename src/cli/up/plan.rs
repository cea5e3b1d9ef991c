//! What is to run: a cluster's name, its regions and members.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Arguments, account::Account, log::Log, model::Model};
use crate::{
    cli::wan::{matrix::Matrix, topology::host_name},
    region,
};

/// What a cluster is when nobody says what.
const REGIONS: [&str; 3] = ["eastus", "westeurope", "japaneast"];
const DNS_PREFIX: &str = "orrery";

/// In one region, a member for each of three zones; in several, one for each region.
const MEMBERS_IN_ONE_REGION: usize = 3;

/// More members than that make writes slower and nothing safer.
const MEMBERS_MAX: usize = 15;

/// The longest label of a DNS name, less what follows the region in a member's name.
const REGION_LENGTH_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// The DNS prefix.
    pub(crate) cluster: String,
    pub(crate) account: Account,
    pub(crate) members: Vec<Seat>,
    pub(crate) api_servers: u64,
    /// Of these regions alone.
    pub(crate) matrix: Matrix,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) zone: String,
}

impl Seat {
    /// As other members call it.
    pub(crate) fn host(&self, cluster: &str) -> String {
        host_name(&self.name, &self.region, cluster)
    }
}

impl Plan {
    /// Everything that the flags and their files can have wrong is found here.
    pub(super) fn make(arguments: &Arguments, log: &Log) -> anyhow::Result<(Plan, Model)> {
        let matrix = match &arguments.matrix {
            None => Matrix::built_in(),
            Some(path) => {
                let about = || format!("--matrix {}", path.display());
                let text = std::fs::read_to_string(path).with_context(about)?;
                Matrix::parse(&text).with_context(about)?
            }
        };
        let mut model = match &arguments.api_model {
            None => Model::empty(),
            Some(path) => read(path)?,
        };
        for warning in &model.warnings {
            log.warn(warning);
        }
        for flag in arguments.meaningless() {
            log.warn(&format!("{flag} has no meaning here"));
        }
        let cluster = dns_prefix(arguments, &model, log)?;
        let account = account(arguments, &mut model, log)?;
        account.check(&matrix).with_context(|| origin(arguments))?;
        let regions = account.regions();
        let each = arguments.members_per_region.map_or_else(
            || if regions.len() == 1 { MEMBERS_IN_ONE_REGION } else { 1 },
            usize::from,
        );
        ensure!(
            regions.len() * each <= MEMBERS_MAX,
            "{each} members in each of {} regions are more than {MEMBERS_MAX}, which only makes \
             writes slower",
            regions.len()
        );
        if let Some(long) = regions.iter().find(|name| name.len() > REGION_LENGTH_MAX) {
            bail!("region {long}: at most {REGION_LENGTH_MAX} characters, so that names fit");
        }
        let seats = regions.iter().flat_map(|region| (0..each).map(move |at| seat(region, at)));
        let plan = Plan {
            members: seats.collect(),
            matrix: matrix.of(&regions),
            api_servers: model.api_servers,
            account,
            cluster,
        };
        Ok((plan, model))
    }

    pub(crate) fn regions(&self) -> Vec<String> {
        self.account.regions()
    }

    /// Heartbeat and election timeout that fit the longest round trip: etcd's advice is one and ten
    /// of them, and its defaults where that is less.
    pub(crate) fn timing(&self) -> (Duration, Duration) {
        let regions = self.regions();
        let pairs = regions.iter().flat_map(|one| regions.iter().map(move |other| (one, other)));
        let longest = pairs.filter_map(|(one, other)| self.matrix.round_trip(one, other)).max();
        let longest = longest.unwrap_or_default().as_millis() as u64;
        let heartbeat = longest.div_ceil(10) * 10;
        let election = (longest * 10).div_ceil(100) * 100;
        let at_least = |value: u64, least: u64| Duration::from_millis(value.max(least));
        (at_least(heartbeat, 100), at_least(election, 1000))
    }
}

fn seat(region: &str, at: usize) -> Seat {
    let zone = (at + 1).to_string();
    Seat { name: format!("{region}-{at}"), region: region.to_owned(), zone }
}

fn read(path: &Path) -> anyhow::Result<Model> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Model::parse(&text).with_context(|| path.display().to_string())
}

/// Where the regions come from, for messages.
fn origin(arguments: &Arguments) -> String {
    match (&arguments.api_model, arguments.regions.is_empty()) {
        (_, false) => "--regions".to_owned(),
        (Some(path), true) => path.display().to_string(),
        (None, true) => "--location".to_owned(),
    }
}

fn dns_prefix(arguments: &Arguments, model: &Model, log: &Log) -> anyhow::Result<String> {
    let given = arguments.dns_prefix.clone().filter(|prefix| !prefix.is_empty());
    let prefix = given.or_else(|| model.dns_prefix.clone()).unwrap_or(DNS_PREFIX.to_owned());
    if model.dns_prefix.is_none() && arguments.api_model.is_some() {
        log.warn(&format!("apimodel: missing masterProfile.dnsPrefix will use {prefix:?}"));
    }
    let name = prefix.to_lowercase();
    let is_label = region::is_name(&name) && !name.starts_with('-') && !name.ends_with('-');
    ensure!(is_label, "DNS prefix {prefix:?}: {}, no - at an end", region::NAME_RULE);
    Ok(name)
}

fn account(arguments: &Arguments, model: &mut Model, log: &Log) -> anyhow::Result<Account> {
    use super::account::location_name;
    let location = arguments.location.as_deref().map(location_name);
    let location = location.or_else(|| model.location.clone());
    let given = model.account.take();
    ensure!(
        given.is_none() || arguments.regions.is_empty(),
        "--regions and databaseAccount.locations both name regions: leave one of them out"
    );
    if let Some(account) = given {
        if let Some(location) = location
            && account.locations.first().is_none_or(|first| first.location_name != location)
        {
            log.warn(
                "the location is not where databaseAccount.locations has failoverPriority 0; \
                      that counts",
            );
        }
        return Ok(account);
    }
    let mut regions: Vec<String> = match arguments.regions.as_slice() {
        [] => REGIONS.map(str::to_owned).to_vec(),
        given => given.iter().map(|name| location_name(name)).collect(),
    };
    // The location writes, so it comes first; among regions that nobody has named it replaces one.
    if let Some(location) = location {
        match regions.iter().position(|region| *region == location) {
            Some(at) => regions[..=at].rotate_right(1),
            None if arguments.regions.is_empty() => {
                regions.insert(0, location);
                regions.truncate(REGIONS.len());
            }
            None => bail!("--location {location} is not in --regions {}", regions.join(",")),
        }
    }
    Ok(Account::of_regions(&regions))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(arguments: &str) -> anyhow::Result<Plan> {
        let arguments = std::iter::once("up").chain(arguments.split_whitespace());
        let arguments = Arguments::try_parse_from(arguments).unwrap();
        Plan::make(&arguments, &Log::silent()).map(|(plan, _)| plan)
    }

    #[track_caller]
    fn check(arguments: &str, regions: &[&str], members: &[&str]) {
        let plan = plan(arguments).unwrap();
        assert_eq!(plan.regions(), regions, "{arguments}");
        let names: Vec<&str> = plan.members.iter().map(|seat| seat.name.as_str()).collect();
        assert_eq!(names, members, "{arguments}");
    }

    #[test]
    fn regions_come_from_flags_or_from_nowhere() {
        check("", &REGIONS, &["eastus-0", "westeurope-0", "japaneast-0"]);
        check(
            "--location westeurope",
            &["westeurope", "eastus", "japaneast"],
            &["westeurope-0", "eastus-0", "japaneast-0"],
        );
        check(
            "--location centralus",
            &["centralus", "eastus", "westeurope"],
            &["centralus-0", "eastus-0", "westeurope-0"],
        );
        check("--regions eastus", &["eastus"], &["eastus-0", "eastus-1", "eastus-2"]);
        let regions = ["eastus", "eastus2", "centralus"];
        let members =
            ["eastus-0", "eastus-1", "eastus2-0", "eastus2-1", "centralus-0", "centralus-1"];
        check("--regions eastus,eastus2,centralus --members-per-region 2", &regions, &members);
    }

    #[test]
    fn members_have_zones_and_hosts_of_their_own() {
        let plan = plan("--regions eastus --dns-prefix Demo").unwrap();
        let zones: Vec<&str> = plan.members.iter().map(|seat| seat.zone.as_str()).collect();
        assert_eq!(zones, ["1", "2", "3"]);
        assert_eq!(plan.members[1].host(&plan.cluster), "eastus-1.eastus.demo.test");
    }

    #[test]
    fn timing_follows_the_longest_round_trip() {
        #[track_caller]
        fn check(arguments: &str, heartbeat_ms: u64, election_ms: u64) {
            let expected = [heartbeat_ms, election_ms].map(Duration::from_millis);
            assert_eq!(<[Duration; 2]>::from(plan(arguments).unwrap().timing()), expected);
        }
        check("", 230, 2300);
        check("--regions eastus,eastus2,centralus", 100, 1000);
        check("--regions eastus", 100, 1000);
    }

    #[test]
    fn what_cannot_be_planned_is_refused_in_one_line() {
        #[track_caller]
        fn check(arguments: &str, words: &str) {
            let error = format!("{:#}", plan(arguments).unwrap_err());
            assert!(error.contains(words) && !error.contains('\n'), "{arguments}: {error}");
        }
        check("--regions eastus,westeurope", "--regions: two regions (eastus and westeurope)");
        check("--regions eastus,eastus,japaneast", "--regions: region eastus stands there twice");
        check("--location atlantis", "--location: region \"atlantis\" is not known");
        check("--regions eastus,westeurope,uksouth --location japaneast", "is not in --regions");
        check("--regions eastus --members-per-region 16", "are more than 15");
        check("--dns-prefix a.b", "DNS prefix \"a.b\": expected 1 to 63 of");
        check("--dns-prefix=-a-", "DNS prefix \"-a-\"");
        check("--api-model no.json", "no.json: No such file");
        check("--matrix no.json", "--matrix no.json: No such file");
        let broken = "tests/fixtures/api-model/broken.json";
        check(&format!("--api-model {broken}"), &format!("{broken}: line 1, column 14: not valid"));
    }
}
