//! What each word means for members and the network.

use super::*;
use crate::cli::{
    up::{account::Account, plan::Seat},
    wan::matrix::Matrix,
};

/// Two members in eastus, in zones of their own, and one in each of two other regions; the leader
/// is westeurope's.
fn plan() -> Plan {
    let regions = ["eastus", "westeurope", "japaneast"].map(str::to_owned);
    let seat = |name: &str, region: &str, zone: &str| Seat {
        name: name.to_owned(),
        region: region.to_owned(),
        zone: zone.to_owned(),
    };
    Plan {
        cluster: "orrery".to_owned(),
        account: Account::of_regions(&regions),
        members: vec![
            seat("eastus-0", "eastus", "1"),
            seat("eastus-1", "eastus", "2"),
            seat("westeurope-0", "westeurope", "1"),
            seat("japaneast-0", "japaneast", "1"),
        ],
        api_servers: 1,
        matrix: Matrix::built_in().of(&regions),
    }
}

fn broken(target: Target) -> Result<Broken, String> {
    Broken::of(&target, &plan(), "westeurope-0").map_err(|error| error.to_string())
}

#[track_caller]
fn check(target: Target, name: &str, killed: &[&str], unable: &[&str], lost_regions: &[&str]) {
    let broken = broken(target).unwrap();
    assert_eq!(broken.target, name);
    assert_eq!(broken.killed, killed);
    assert_eq!(broken.unable, unable);
    assert_eq!(broken.lost_regions, lost_regions);
}

#[test]
fn the_leader_is_whoever_leads() {
    let leader = || LEADER.to_owned();
    let west = &["westeurope-0"][..];
    check(Target::Kill(leader()), "westeurope-0", west, west, &[]);
    check(Target::Isolate(leader()), "westeurope", &[], west, &["westeurope"]);
    check(Target::LoseZone(leader()), "westeurope/1", west, west, &["westeurope"]);
}

#[test]
fn a_region_is_lost_with_all_its_members_and_a_zone_with_some() {
    let east = &["eastus-0", "eastus-1"][..];
    check(Target::LoseRegion("eastus".to_owned()), "eastus", east, east, &["eastus"]);
    check(Target::LoseZone("eastus/2".to_owned()), "eastus/2", &east[1..], &east[1..], &[]);
    check(Target::IsolateMember("eastus-0".to_owned()), "eastus-0", &[], &east[..1], &[]);
}

#[test]
fn who_is_slow_or_cut_one_way_still_takes_part() {
    let slow = Target::Slow("eastus".to_owned(), Duration::from_millis(200));
    check(slow, "eastus", &[], &[], &[]);
    let cut = Target::Cut("eastus".to_owned(), "japaneast".to_owned());
    let broken = broken(cut).unwrap();
    let (from, to) = (Part::Region("eastus".to_owned()), Part::Region("japaneast".to_owned()));
    let fault = Fault { from, to, ways: Ways::One, effect: Effect::Cut };
    assert_eq!(broken.network, [fault]);
}

#[test]
fn names_that_are_not_there_are_refused_with_those_that_are() {
    let name = || "atlantis".to_owned();
    for (target, words) in [
        (
            Target::Kill(name()),
            "no member \"atlantis\": there are eastus-0, eastus-1, westeurope-0, japaneast-0",
        ),
        (
            Target::Isolate(name()),
            "no region \"atlantis\": there are eastus, westeurope, japaneast",
        ),
        (
            Target::LoseZone(name()),
            "no zone \"atlantis\": expected REGION/ZONE, one of eastus/1, eastus/2, westeurope/1, \
             japaneast/1",
        ),
        (
            Target::Cut("eastus".to_owned(), "eastus".to_owned()),
            "from eastus to itself nothing can be cut",
        ),
    ] {
        assert_eq!(broken(target), Err(words.to_owned()));
    }
}
