//! Accounts and who leads by them, example by example, and what holds for all of them.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::MemberId;

const EAST: &str = "eastus";
const WEST: &str = "westeurope";
const JAPAN: &str = "japaneast";

fn account(order: &[&str]) -> Account {
    Account::new(order.iter().map(|name| (*name).to_owned()).collect()).unwrap()
}

/// Names by priority, with a `-` before those that are offline.
fn shown(account: &Account) -> String {
    let show = |location: &Location| {
        format!("{}{}", if location.offline { "-" } else { "" }, location.name)
    };
    account.locations.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn names_of_regions_are_short_and_plain() {
    for name in ["eastus", "westus2", "us-east-1", "1", &"a".repeat(63)] {
        assert!(is_name(name), "{name:?}");
    }
    for name in ["", "East US", "eastUS", "ost.us", "öst", &"a".repeat(64)] {
        assert!(!is_name(name), "{name:?}");
    }
}

#[test]
fn wrong_priorities_are_refused_in_one_sentence() {
    #[track_caller]
    fn check(priorities: &[(&str, u32)], words: &str) {
        let refused = in_order(priorities.iter().copied()).unwrap_err();
        assert_eq!(refused.to_string(), words);
    }
    check(
        &[(EAST, 0), (WEST, 1), (JAPAN, 1)],
        "failover priority 1 is given to both westeurope and japaneast: each region needs one of its \
         own, from 0 to 2",
    );
    check(
        &[(EAST, 0), (WEST, 2)],
        "no region has failover priority 1: they must go from 0 to 1 without a gap",
    );
    check(
        &[(EAST, 1), (WEST, u32::MAX)],
        "no region has failover priority 0: they must go from 0 to 1 without a gap",
    );
    check(&[(EAST, 0), (EAST, 1)], "region eastus is named twice");
    check(
        &[("East US", 0)],
        "\"East US\" is no name of a region: expected 1 to 63 of a-z, 0-9 and -",
    );
    assert_eq!(in_order([(WEST, 1), (EAST, 0)]).unwrap(), [EAST, WEST]);
}

#[test]
fn regions_must_be_where_members_stand_and_survive_the_loss_of_one() {
    /// `l` before a region is a learner's; `?` says nothing.
    #[track_caller]
    fn check(locations: &[&str], stands: &[&str], words: Option<&str>) {
        let stands = stands.iter().enumerate().map(|(at, word)| Stand {
            member: ["m0", "m1", "m2", "m3", "m4"][at],
            region: word.trim_start_matches("l:").trim_start_matches('?'),
            votes: !word.starts_with("l:"),
        });
        let (account, stands) = (account(locations), stands.collect::<Vec<_>>());
        let found = check_locations(&account.locations, &stands)
            .and_then(|()| check_write_region(account.write_region(), &stands));
        assert_eq!(found.map_err(|refused| refused.to_string()).err().as_deref(), words);
    }
    check(&[EAST, WEST, JAPAN], &[EAST, WEST, JAPAN], None);
    check(&[EAST], &[EAST, EAST, EAST], None);
    check(&[EAST, WEST], &[EAST, WEST, JAPAN], None);
    check(&[EAST, JAPAN], &[EAST, "l:japaneast"], None);
    check(
        &[EAST, "mars"],
        &[WEST, EAST, EAST],
        Some("no member stands in region mars; members stand in: eastus, westeurope"),
    );
    check(
        &[EAST],
        &["?", "?"],
        Some("no member stands in region eastus; members stand in: none, --region says where"),
    );
    check(
        &[EAST, WEST],
        &[EAST, EAST, WEST],
        Some(
            "voters stand in two regions only, eastus and westeurope: if the one with more of them \
             is lost, so is the majority, and the other can neither lead nor write; start a voter, \
             or a witness, in a third region",
        ),
    );
    check(
        &[EAST, WEST, JAPAN],
        &[EAST, WEST, JAPAN, "?"],
        Some("member m3 votes and does not say where it stands: start it with --region"),
    );
    check(
        &[JAPAN, EAST],
        &[EAST, "l:japaneast"],
        Some("region japaneast can't be the write region: no voter stands there"),
    );
}

#[test]
fn an_account_changes_as_cosmos_changes_it() {
    let first = account(&[EAST, WEST, JAPAN]);
    assert_eq!(first.write_region(), EAST);
    let switched = first.with_write_region(JAPAN).unwrap();
    assert_eq!(shown(&switched), "japaneast eastus westeurope");
    let lost = first.with_offline(EAST).unwrap();
    assert_eq!(
        (shown(&lost).as_str(), lost.write_region()),
        ("westeurope japaneast -eastus", WEST)
    );
    let back = lost.with_online(EAST).unwrap();
    assert_eq!(shown(&back), "westeurope japaneast eastus");
    assert_eq!((first.version, switched.version, back.version), (1, 2, 3));
    let two_lost = lost.with_offline(WEST).unwrap();
    assert_eq!(shown(&two_lost), "japaneast -eastus -westeurope");
    let one_back = two_lost.with_online(WEST).unwrap();
    assert_eq!(shown(&one_back), "japaneast westeurope -eastus");

    let refused = |changed: Result<Account, Rejection>| changed.unwrap_err();
    assert_eq!(refused(lost.with_write_region(EAST)), Rejection::Offline(EAST.into()));
    assert_eq!(refused(two_lost.with_offline(JAPAN)), Rejection::LastOnline(JAPAN.into()));
    assert_eq!(refused(first.with_offline("mars")), Rejection::NotInAccount("mars".into()));
    let two = vec![EAST.to_owned(), WEST.to_owned()];
    assert_eq!(refused(first.with_priorities(two.clone())), Rejection::NotNamed(JAPAN.into()));
    assert_eq!(shown(&first.with_locations(two).unwrap()), "eastus westeurope");
    assert_eq!(refused(first.with_locations(Vec::new())), Rejection::NoLocations);
}

/// A word for each member: id, `l` for a learner, its region, and for how many seconds it has been
/// fit (`+`) or not (`-`).
fn seen(words: &str) -> Vec<Seen<'_>> {
    let member = |word| {
        let mut parts = str::split(word, ':');
        let (id, region, time) = (parts.next(), parts.next(), parts.next());
        let (id, region, time) = (id.unwrap(), region.unwrap(), time.unwrap());
        let secs = Duration::from_secs(time[1..].parse().unwrap());
        Seen {
            id: MemberId(id[..1].parse().unwrap()),
            region,
            votes: !id.ends_with('l'),
            fitness: if time.starts_with('+') { Fitness::Fit(secs) } else { Fitness::Unfit(secs) },
        }
    };
    words.split(' ').map(member).collect()
}

#[test]
fn the_leader_goes_where_the_account_wants_it() {
    #[track_caller]
    fn check(account: &Account, members: &str, expected: Step) {
        assert_eq!(decide(account, &seen(members), MemberId(1)), expected, "{members}");
    }
    let to = |id| Step::Transfer(MemberId(id));
    let manual = account(&[EAST, WEST, JAPAN]);
    check(&manual, "1:eastus:+9 2:westeurope:+9 3:japaneast:+9", Step::Stay);
    check(&manual, "1:westeurope:+9 2:eastus:+9 3:japaneast:+9", to(2));
    // Not before it has been healthy for a while, and of two to the steadier one.
    check(&manual, "1:westeurope:+9 2:eastus:+2 3:japaneast:+9", Step::Stay);
    check(&manual, "1:westeurope:+9 2:eastus:+5 3:eastus:+7 4:eastus:-9", to(3));
    // The write region is away: the next one leads, and is the write region once it is lost.
    check(&manual, "1:japaneast:+99 2:eastus:-5 3:westeurope:+9", to(3));
    check(&manual, "1:westeurope:+9 2:eastus:-9 3:japaneast:+9", Step::Stay);
    check(&manual, "1:westeurope:+9 2:eastus:-10 3:japaneast:+9", Step::BecomeWriteRegion);
    check(&manual, "1:westeurope:+99 2:eastus:-99 3:eastus:-2", Step::Stay);
    check(&manual, "1:japaneast:+99 2:eastus:-99 3:westeurope:-99", Step::BecomeWriteRegion);
    // Learners never lead, and a region of learners has not failed.
    check(&manual, "1:westeurope:+99 2l:eastus:+99", Step::Stay);
    check(&manual, "1:westeurope:+99 2l:eastus:-99", Step::Stay);
    // Who stands nowhere that counts hands over to the first that can.
    check(&manual, "1:mars:+99 2:eastus:-99 3:westeurope:+99", to(3));
    check(&manual, "1:mars:+99 2:eastus:-99 3:westeurope:-99", Step::Stay);

    let automatic = manual.with_rules(None, Some(Failback::After(Duration::from_secs(60))));
    check(&automatic, "1:westeurope:+99 2:eastus:-99 3:japaneast:+99", Step::Stay);
    check(&automatic, "1:westeurope:+99 2:eastus:+59 3:japaneast:+99", Step::Stay);
    check(&automatic, "1:westeurope:+99 2:eastus:+60 3:japaneast:+99", to(2));
    check(&automatic, "1:japaneast:+99 2:eastus:-99 3:westeurope:+3", to(3));
    let by_hand = manual.with_rules(Some(false), None);
    check(&by_hand, "1:westeurope:+99 2:eastus:-99 3:japaneast:+99", Step::Stay);
    check(&by_hand, "1:westeurope:+99 2:eastus:+3 3:japaneast:+99", to(2));
    let offline = manual.with_offline(EAST).unwrap();
    check(&offline, "1:eastus:+99 2:westeurope:+3 3:japaneast:+99", to(2));
    check(&offline, "1:westeurope:+99 2:eastus:+99 3:japaneast:+99", Step::Stay);
}

#[test]
fn who_may_not_lead_does_not_stand_for_election() {
    #[track_caller]
    fn check(account: &Account, voters: &[&str], expected: &[bool]) {
        let may = |region: &&str| may_campaign(account, region, voters.iter().copied());
        assert_eq!(voters.iter().map(may).collect::<Vec<_>>(), expected);
    }
    let all = account(&[EAST, WEST, JAPAN]);
    check(&all, &[EAST, WEST, JAPAN, ""], &[true; 4]);
    check(&all.with_offline(EAST).unwrap(), &[EAST, WEST, JAPAN], &[false, true, true]);
    let by_hand = all.with_rules(Some(false), None);
    check(&by_hand, &[EAST, WEST, JAPAN, ""], &[true, false, false, false]);
    check(&by_hand.with_offline(EAST).unwrap(), &[EAST, WEST, JAPAN], &[false, true, false]);
    // Nobody stands in the write region any more.
    check(&by_hand, &[WEST, JAPAN], &[true, true]);
}

#[test]
fn a_leader_that_stops_hands_over_to_the_first_region_that_can() {
    let all = account(&[EAST, WEST, JAPAN]);
    let next = |account: &Account, members| successor(account, &seen(members), MemberId(1));
    let members = "1:eastus:+9 2:eastus:+1 3:westeurope:+9 4:japaneast:+9";
    assert_eq!(next(&all, members), Some(MemberId(2)));
    assert_eq!(next(&all.with_offline(EAST).unwrap(), members), Some(MemberId(3)));
    assert_eq!(next(&all, "1:eastus:+9 2:eastus:-1 3:westeurope:-1"), None);
}

/// A change of an account, by names that may not be in it.
#[derive(Clone, Debug)]
enum Change {
    WriteRegion(String),
    Offline(String),
    Online(String),
    Priorities(Vec<String>),
    Rules(Option<bool>, Option<Failback>),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just(EAST), Just(WEST), Just(JAPAN), Just("mars")].prop_map(str::to_owned)
}

fn change() -> impl Strategy<Value = Change> {
    let failback = prop_oneof![
        Just(Failback::Manual),
        (0..9u64).prop_map(|secs| Failback::After(Duration::from_secs(secs))),
    ];
    prop_oneof![
        name().prop_map(Change::WriteRegion),
        name().prop_map(Change::Offline),
        name().prop_map(Change::Online),
        prop::sample::subsequence(vec![JAPAN, EAST, WEST], 2..=3)
            .prop_map(|names| Change::Priorities(names.into_iter().map(str::to_owned).collect())),
        (prop::option::of(any::<bool>()), prop::option::of(failback))
            .prop_map(|(automatic, failback)| Change::Rules(automatic, failback)),
    ]
}

fn changed(mut account: Account, changes: Vec<Change>) -> Account {
    for change in changes {
        let after = match change {
            Change::WriteRegion(name) => account.with_write_region(&name),
            Change::Offline(name) => account.with_offline(&name),
            Change::Online(name) => account.with_online(&name),
            Change::Priorities(order) => account.with_priorities(order),
            Change::Rules(automatic, failback) => Ok(account.with_rules(automatic, failback)),
        };
        account = after.unwrap_or(account);
    }
    account
}

fn members() -> impl Strategy<Value = Vec<(String, bool, bool, u64)>> {
    prop::collection::vec((name(), any::<bool>(), any::<bool>(), 0..20u64), 1..6)
}

fn as_seen(members: &[(String, bool, bool, u64)]) -> Vec<Seen<'_>> {
    let mut all = Vec::new();
    for (id, (region, votes, fit, secs)) in (1..).zip(members) {
        let time = Duration::from_secs(*secs);
        let fitness = if *fit { Fitness::Fit(time) } else { Fitness::Unfit(time) };
        all.push(Seen { id: MemberId(id), region, votes: *votes, fitness });
    }
    all
}

proptest! {
    #[test]
    fn an_account_always_has_a_write_region_and_comes_back_from_the_wire(
        changes in prop::collection::vec(change(), 0..12),
    ) {
        let account = changed(account(&[EAST, WEST, JAPAN]), changes);
        let mut names: Vec<&str> =
            account.locations.iter().map(|location| location.name.as_str()).collect();
        names.sort_unstable();
        prop_assert_eq!(names, [EAST, JAPAN, WEST]);
        prop_assert_eq!(account.rank(account.write_region()), Some(0));
        prop_assert_eq!(Account::from_wire(&account.to_wire()), Ok(account));
    }

    #[test]
    fn leadership_only_goes_to_a_better_place_and_to_who_can_take_it(
        changes in prop::collection::vec(change(), 0..6),
        members in members(),
    ) {
        let account = changed(account(&[EAST, WEST, JAPAN]), changes);
        let seen = as_seen(&members);
        let leader = seen[0];
        let rank = |region: &str| account.rank(region).unwrap_or(usize::MAX);
        match decide(&account, &seen, leader.id) {
            Step::Stay => {}
            Step::Transfer(to) => {
                let to = seen.iter().find(|member| member.id == to).unwrap();
                prop_assert!(to.votes && matches!(to.fitness, Fitness::Fit(_)));
                prop_assert!(rank(to.region) < rank(leader.region));
                // There it stays, if nothing else happens.
                prop_assert!(!matches!(decide(&account, &seen, to.id), Step::Transfer(_)));
            }
            Step::BecomeWriteRegion => {
                prop_assert!(account.automatic_failover && account.failback == Failback::Manual);
                let after = account.with_write_region(leader.region).unwrap();
                prop_assert_eq!(decide(&after, &seen, leader.id), Step::Stay);
            }
        }
    }

    #[test]
    fn somebody_may_always_stand_for_election(
        changes in prop::collection::vec(change(), 0..6),
        members in members(),
    ) {
        let account = changed(account(&[EAST, WEST, JAPAN]), changes);
        let regions = || members.iter().map(|(region, ..)| region.as_str());
        prop_assert!(regions().any(|region| may_campaign(&account, region, regions())));
    }
}
