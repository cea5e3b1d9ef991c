//! Regions as tables and as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::{
    cli::failure::{Exit, Failure, failed},
    proto::region::{Account, Location, RegionMember, RegionsShowResponse},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Table,
}

/// With Azure's words, where it has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountJson<'a> {
    locations: Vec<LocationJson<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    rules: Option<RulesJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<LeaderJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulesJson<'a> {
    write_region: &'a str,
    enable_automatic_failover: bool,
    failback: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failback_after_ms: Option<u64>,
    version: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LocationJson<'a> {
    location_name: &'a str,
    /// None for a region where members stand that is not in the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_priority: Option<u32>,
    offline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberJson>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson {
    id: u64,
    name: String,
    zone: String,
    is_learner: bool,
    is_leader: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaderJson<'a> {
    id: u64,
    region: &'a str,
}

const HEADINGS: [&str; 7] = ["REGION", "PRIORITY", "STATE", "MEMBER", "ZONE", "ROLE", "LAG"];

/// What there is nothing to say of.
const NONE: &str = "-";

impl Format {
    pub(super) fn parse(name: &str) -> Result<Format, Failure> {
        match name {
            "json" => Ok(Format::Json),
            "table" | "simple" => Ok(Format::Table),
            _ => Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        }
    }

    pub(super) fn list(self, shown: &RegionsShowResponse) -> Result<String, Failure> {
        match self {
            Format::Json => json(&listed(shown)),
            Format::Table => {
                let rows: Vec<[String; 7]> =
                    regions(shown).iter().flat_map(|region| region.rows(shown)).collect();
                Ok(format!("{}{}", table(HEADINGS, &rows), summary(shown)))
            }
        }
    }

    /// An account after a change that took so long.
    pub(super) fn account(self, account: &Account, took: Duration) -> Result<String, Failure> {
        match self {
            Format::Json => json(&AccountJson {
                locations: account.locations.iter().map(location).collect(),
                rules: Some(rules(account)),
                leader: None,
            }),
            Format::Table => Ok(format!(
                "write region {}; {} ({} ms)\n",
                write_region(account),
                priorities(account),
                took.as_millis()
            )),
        }
    }
}

fn location(location: &Location) -> LocationJson<'_> {
    LocationJson {
        location_name: &location.location_name,
        failover_priority: Some(location.failover_priority),
        offline: location.offline,
        members: None,
    }
}

/// A region of the account, or one where members stand.
struct Region<'a> {
    name: &'a str,
    location: Option<&'a Location>,
    members: Vec<&'a RegionMember>,
}

/// By priority, those that are not in the account last.
fn regions(shown: &RegionsShowResponse) -> Vec<Region<'_>> {
    let locations = shown.account.iter().flat_map(|account| &account.locations);
    let mut regions: Vec<Region<'_>> = Vec::new();
    for location in locations {
        let name = location.location_name.as_str();
        regions.push(Region { name, location: Some(location), members: Vec::new() });
    }
    let listed = regions.len();
    for member in &shown.members {
        match regions.iter_mut().find(|region| region.name == member.region) {
            Some(region) => region.members.push(member),
            None => {
                let members = vec![member];
                regions.push(Region { name: &member.region, location: None, members });
            }
        }
    }
    regions[listed..].sort_by_key(|region| region.name);
    for region in &mut regions {
        region.members.sort_by_key(|member| (member.name.as_str(), member.id));
    }
    regions
}

impl Region<'_> {
    fn rows(&self, shown: &RegionsShowResponse) -> Vec<[String; 7]> {
        let text = |text: &str| if text.is_empty() { NONE.to_owned() } else { text.to_owned() };
        let priority = self.location.map(|location| location.failover_priority.to_string());
        let priority = priority.unwrap_or_else(|| NONE.to_owned());
        let first = [text(self.name), priority, self.state(shown).to_owned()];
        let row = |member: [String; 4]| {
            let [region, priority, state] = first.clone();
            let [name, zone, role, lag] = member;
            [region, priority, state, name, zone, role, lag]
        };
        if self.members.is_empty() {
            return vec![row([NONE; 4].map(str::to_owned))];
        }
        let member = |member: &&RegionMember| {
            let leads = member.id == shown.leader;
            let role = match member.is_learner {
                _ if leads => "leader",
                true => "learner",
                false => "voter",
            };
            let lag = match shown.leader_answered {
                false => NONE.to_owned(),
                true if !leads && !member.connected => "disconnected".to_owned(),
                true => member.lag.to_string(),
            };
            row([text(&member.name), text(&member.zone), role.to_owned(), lag])
        };
        self.members.iter().map(member).collect()
    }

    fn state(&self, shown: &RegionsShowResponse) -> &'static str {
        let is_write = shown.account.as_ref().is_some_and(|it| write_region(it) == self.name);
        match self.location {
            Some(location) if location.offline => "offline",
            Some(_) if is_write => "write",
            Some(_) => "read",
            None => NONE,
        }
    }
}

fn summary(shown: &RegionsShowResponse) -> String {
    let leader = match (shown.leader, shown.leader_region.as_str()) {
        (0, _) => "nobody leads".to_owned(),
        (_, "") => "the leader does not say where it stands".to_owned(),
        (_, region) => format!("leader region {region}"),
    };
    let rules = shown.account.as_ref().map(|account| {
        let rules = rules(account);
        let after = rules.failback_after_ms.map(|after| format!(" after {} s", after / 1000));
        format!(
            "automatic failover {}, failback {}{}",
            if rules.enable_automatic_failover { "on" } else { "off" },
            rules.failback,
            after.unwrap_or_default()
        )
    });
    let none = "no account: `orrery region configure` makes one".to_owned();
    format!("{leader}; {}\n", rules.unwrap_or(none))
}

fn listed(shown: &RegionsShowResponse) -> AccountJson<'_> {
    let member = |member: &RegionMember| {
        let (id, is_learner, is_leader) = (member.id, member.is_learner, member.id == shown.leader);
        let connected = shown.leader_answered.then_some(member.connected || is_leader);
        let lag = connected.filter(|connected| *connected).map(|_| member.lag);
        let (name, zone) = (member.name.clone(), member.zone.clone());
        MemberJson { id, name, zone, is_learner, is_leader, connected, lag }
    };
    let locations = regions(shown).into_iter().map(|region| LocationJson {
        location_name: region.name,
        failover_priority: region.location.map(|location| location.failover_priority),
        offline: region.location.is_some_and(|location| location.offline),
        members: Some(region.members.into_iter().map(member).collect()),
    });
    AccountJson {
        locations: locations.collect(),
        rules: shown.account.as_ref().map(rules),
        leader: (shown.leader != 0)
            .then_some(LeaderJson { id: shown.leader, region: &shown.leader_region }),
    }
}

fn rules(account: &Account) -> RulesJson<'_> {
    let failback = account.failback.filter(|failback| failback.automatic);
    RulesJson {
        write_region: write_region(account),
        enable_automatic_failover: account.enable_automatic_failover,
        failback: if failback.is_some() { "automatic" } else { "manual" },
        failback_after_ms: failback.map(|failback| failback.after_ms),
        version: account.version,
    }
}

fn write_region(account: &Account) -> &str {
    let online = account.locations.iter().find(|location| !location.offline);
    online.map_or(NONE, |location| &location.location_name)
}

/// As they are given: `eastus=0, westeurope=1`.
fn priorities(account: &Account) -> String {
    let priority = |it: &Location| {
        let offline = if it.offline { " (offline)" } else { "" };
        format!("{}={}{offline}", it.location_name, it.failover_priority)
    };
    account.locations.iter().map(priority).collect::<Vec<_>>().join(", ")
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(failed)
}

/// Headings in the middle of their columns, values at the left.
fn table<const COLUMNS: usize>(headings: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let centred = |(heading, width): (&&str, &usize)| format!("{heading:^width$}");
    let left = |(value, width): (&String, &usize)| format!("{value:<width$}");
    let heading = line(headings.iter().zip(&widths).map(centred).collect());
    let mut text = rule("┌", "┬", "┐") + &heading + &rule("├", "┼", "┤");
    for row in rows {
        text += &line(row.iter().zip(&widths).map(left).collect());
    }
    text + &rule("└", "┴", "┘")
}
