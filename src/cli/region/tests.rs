//! The command line's words and formats.

use super::*;
use crate::proto::region::{RegionMember, RegionsShowResponse};

fn asks(words: &str) -> Result<Ask, Failure> {
    let arguments = ["region"].into_iter().chain(words.split(' ')).map(OsString::from).collect();
    match parse::<Arguments>(arguments)? {
        Parsed::Run(arguments) => arguments.command.ask(),
        Parsed::Print(text) => panic!("{text}"),
    }
}

fn location(name: &str, priority: u32) -> Location {
    let location_name = name.to_owned();
    Location { location_name, failover_priority: priority, offline: false }
}

#[test]
fn a_command_line_becomes_a_request() {
    let both = vec![location("eastus", 0), location("westus", 1)];
    let set =
        |locations, force| Ok(Ask::SetPriorities(RegionsSetPrioritiesRequest { locations, force }));
    assert_eq!(asks("list -w json"), Ok(Ask::List));
    assert_eq!(asks("set-priorities eastus=0,westus=1"), set(both.clone(), false));
    assert_eq!(asks("set-priorities eastus=0 westus=1 --force"), set(both.clone(), true));
    let failover = RegionsFailoverRequest { location_name: "westus".into(), force: false };
    assert_eq!(asks("failover --to westus --endpoints a:1,b:2"), Ok(Ask::Failover(failover)));
    let configure = RegionsConfigureRequest {
        locations: both,
        enable_automatic_failover: Some(false),
        failback: Some(Failback { automatic: true, after_ms: 30_000 }),
    };
    let words = "configure --locations eastus=0,westus=1 --enable-automatic-failover=false \
                 --failback automatic --failback-after 30s";
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(asks(&words), Ok(Ask::Configure(configure)));
}

#[test]
fn a_wrong_command_line_is_refused_in_one_line() {
    #[track_caller]
    fn check(words: &str, message: &str) {
        let refused = asks(words).unwrap_err().message;
        assert_eq!(refused, message, "{words}");
        assert_eq!(refused.lines().count(), 1);
    }
    check("set-priorities eastus", "\"eastus\" is no REGION=PRIORITY, such as eastus=0");
    check("set-priorities eastus=x", "\"eastus=x\" is no REGION=PRIORITY, such as eastus=0");
    check("configure", "configure needs --locations, --enable-automatic-failover or --failback");
    check("list --no", "unknown flag: --no");
    check("lose eastus", "unknown command \"lose\"");
}

fn member(id: u64, region: &str, connected: bool, lag: u64) -> RegionMember {
    RegionMember {
        id,
        name: format!("m{id}"),
        region: region.to_owned(),
        connected,
        lag,
        ..RegionMember::default()
    }
}

#[test]
fn regions_are_listed_by_priority_with_who_leads_and_who_is_behind() {
    let mut shown = RegionsShowResponse {
        account: Some(Account {
            locations: vec![location("westus", 0), location("eastus", 1), location("japan", 2)],
            enable_automatic_failover: true,
            failback: Some(Failback { automatic: true, after_ms: 60_000 }),
            version: 3,
        }),
        members: vec![
            member(1, "eastus", true, 0),
            member(2, "westus", true, 7),
            member(3, "mars", false, 99),
        ],
        leader: 1,
        leader_region: "eastus".to_owned(),
        leader_answered: true,
        ..RegionsShowResponse::default()
    };
    shown.account.as_mut().unwrap().locations[2].offline = true;
    let table = "\
┌────────┬──────────┬─────────┬────────┬──────┬────────┬──────────────┐
│ REGION │ PRIORITY │  STATE  │ MEMBER │ ZONE │  ROLE  │     LAG      │
├────────┼──────────┼─────────┼────────┼──────┼────────┼──────────────┤
│ westus │ 0        │ write   │ m2     │ -    │ voter  │ 7            │
│ eastus │ 1        │ read    │ m1     │ -    │ leader │ 0            │
│ japan  │ 2        │ offline │ -      │ -    │ -      │ -            │
│ mars   │ -        │ -       │ m3     │ -    │ voter  │ disconnected │
└────────┴──────────┴─────────┴────────┴──────┴────────┴──────────────┘
leader region eastus; automatic failover on, failback automatic after 60 s
";
    assert_eq!(Format::Table.list(&shown).unwrap(), table);
    let json = Format::Json.list(&shown).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["locations"][1]["locationName"], "eastus");
    assert_eq!(json["locations"][1]["failoverPriority"], 1);
    assert_eq!(json["locations"][1]["members"][0]["isLeader"], true);
    assert_eq!(json["locations"][2]["offline"], true);
    assert_eq!(json["locations"][3]["failoverPriority"], serde_json::Value::Null);
    assert_eq!(
        (&json["writeRegion"], &json["failbackAfterMs"]),
        (&"westus".into(), &60_000.into())
    );
    assert_eq!(json["leader"]["region"], "eastus");
}

#[test]
fn a_change_says_what_it_made() {
    let account = Account {
        locations: vec![location("westus", 0), location("eastus", 1)],
        ..Account::default()
    };
    let said = Format::Table.account(&account, Duration::from_millis(312)).unwrap();
    assert_eq!(said, "write region westus; westus=0, eastus=1 (312 ms)\n");
}

#[test]
fn a_region_is_added_behind_all_others_and_taken_out_from_anywhere() {
    let account = || {
        let locations = vec![location("westus", 0), location("eastus", 1)];
        Some(Account { locations, ..Account::default() })
    };
    let with = |ask: Ask, account| ask.with_other_regions(account).map(|asked| asked.locations);
    let three = vec![location("westus", 0), location("eastus", 1), location("japan", 2)];
    assert_eq!(with(Ask::Add("japan".into()), account()), Ok(three));
    let one = vec![location("eastus", 0)];
    assert_eq!(with(Ask::Remove("westus".into()), account()), Ok(one));
    let refused = |asked: Result<Vec<Location>, Failure>| asked.unwrap_err().message;
    let unknown = refused(with(Ask::Remove("mars".into()), account()));
    assert_eq!(unknown, "region mars is not in the account");
    let none = refused(with(Ask::Add("japan".into()), None));
    assert_eq!(none, "there is no account of regions yet; `orrery region configure` makes one");
}
