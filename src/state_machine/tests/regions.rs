//! Where members stand, and the account of regions.

use super::Machine;
use crate::{
    cluster::Labels,
    proto::{
        command::{AccountSet, Bootstrap, MemberPublish, command::Operation},
        etcdserverpb::{Member, MemberRemoveRequest},
    },
    region::{self, Account},
    state_machine::Rejection,
    types::MemberId,
};

fn labels(region: &str, zone: &str) -> Labels {
    Labels { region: region.to_owned(), zone: zone.to_owned() }
}

fn bootstrap(ids: std::ops::RangeInclusive<u64>) -> Operation {
    let members = ids.map(|id| Member { id, ..Member::default() }).collect();
    Operation::Bootstrap(Bootstrap { cluster_id: 7, members })
}

fn publish(id: u64, labels: Option<Labels>) -> Operation {
    let (name, client_urls) = (format!("m{id}"), Vec::new());
    Operation::MemberPublish(MemberPublish { id, name, client_urls, incarnation: id, labels })
}

#[test]
fn a_member_says_where_it_stands_until_it_says_otherwise_or_is_removed() {
    #[track_caller]
    fn check(machine: &mut Machine, said: Option<Labels>, changed: bool, known: &Labels) {
        let applied = machine.apply(publish(1, said));
        assert_eq!((applied.members_changed, applied.reply.is_ok()), (changed, true));
        let members = machine.view().members().unwrap();
        assert_eq!(members.labels(MemberId(1)), known);
        assert_eq!(members.labels(MemberId(2)), &Labels::default());
    }
    let mut machine = Machine::new();
    machine.apply(bootstrap(1..=2));
    let (none, east, west) = (Labels::default(), labels("eastus", "1"), labels("westus", ""));
    check(&mut machine, None, true, &none);
    check(&mut machine, Some(east.clone()), true, &east);
    check(&mut machine, Some(east.clone()), false, &east);
    check(&mut machine, Some(west.clone()), true, &west);
    check(&mut machine, Some(none.clone()), true, &none);
    check(&mut machine, Some(east.clone()), true, &east);
    check(&mut machine, None, true, &none);

    machine.apply(publish(1, Some(east)));
    machine.apply(Operation::MemberRemove(MemberRemoveRequest { id: 1 }));
    assert!(machine.view().members().unwrap().labels.is_empty());
}

/// With members in these regions.
fn founded(regions: &[&str]) -> Machine {
    let mut machine = Machine::new();
    machine.apply(bootstrap(1..=regions.len() as u64));
    for (id, region) in (1..).zip(regions) {
        machine.apply(publish(id, Some(labels(region, ""))));
    }
    machine
}

fn set(account: &Account) -> Operation {
    Operation::AccountSet(AccountSet { account: Some(account.to_wire()) })
}

fn account(order: &[&str]) -> Account {
    Account::new(order.iter().map(|name| (*name).to_owned()).collect()).unwrap()
}

#[track_caller]
fn takes(machine: &mut Machine, account: &Account) {
    let applied = machine.apply(set(account));
    assert!(applied.reply.is_ok() && applied.members_changed, "{applied:?}");
    assert_eq!(machine.view().account().unwrap().as_ref(), Some(account));
}

#[track_caller]
fn refuses(machine: &mut Machine, account: &Account, rejection: region::Rejection) {
    let before = machine.view().account().unwrap();
    machine.refused(set(account), Rejection::Region(rejection));
    assert_eq!(machine.view().account().unwrap(), before);
}

#[test]
fn of_two_changes_of_an_account_one_counts() {
    let mut machine = founded(&["eastus", "westus", "japaneast"]);
    let first = account(&["eastus", "westus", "japaneast"]);
    takes(&mut machine, &first);
    refuses(&mut machine, &first, region::Rejection::Changed);
    let (one, other) = (first.with_offline("eastus"), first.with_write_region("japaneast"));
    takes(&mut machine, &one.unwrap());
    refuses(&mut machine, &other.unwrap(), region::Rejection::Changed);
}

#[test]
fn an_account_has_regions_where_members_stand_as_long_as_it_names_new_ones() {
    let mut machine = founded(&["eastus", "westus", "japaneast"]);
    let known = "eastus, japaneast, westus".to_owned();
    let mars = region::Rejection::UnknownRegion { name: "mars".into(), known };
    refuses(&mut machine, &account(&["eastus", "mars"]), mars);
    let first = account(&["eastus", "westus", "japaneast"]);
    takes(&mut machine, &first);
    // A region that has lost its member: what was said before may be said again.
    machine.apply(Operation::MemberRemove(MemberRemoveRequest { id: 1 }));
    let moved = first.with_write_region("westus").unwrap();
    takes(&mut machine, &moved);
    let back = moved.with_write_region("eastus").unwrap();
    refuses(&mut machine, &back, region::Rejection::NoVoter("eastus".into()));
    let fewer = moved.with_locations(vec!["westus".into(), "japaneast".into()]).unwrap();
    let two = region::Rejection::TwoRegions { first: "japaneast".into(), second: "westus".into() };
    refuses(&mut machine, &fewer, two);
}

#[test]
fn an_account_that_makes_no_sense_is_refused() {
    let mut machine = founded(&["eastus", "westus", "japaneast"]);
    let none = Operation::AccountSet(AccountSet { account: None });
    machine.refused(none, Rejection::Malformed("an account that is none"));
    let mut twice = account(&["eastus", "westus"]).to_wire();
    twice.locations[1].failover_priority = 0;
    let twice = Operation::AccountSet(AccountSet { account: Some(twice) });
    assert!(matches!(machine.apply(twice).reply, Err(Rejection::Region(_))));
    let mut offline = account(&["eastus"]).to_wire();
    offline.locations[0].offline = true;
    let offline = Operation::AccountSet(AccountSet { account: Some(offline) });
    assert!(matches!(machine.apply(offline).reply, Err(Rejection::Region(_))));
    assert_eq!(machine.view().account().unwrap(), None);
}
