//! Where members stand.

use super::Machine;
use crate::{
    cluster::Labels,
    proto::{
        command::{Bootstrap, MemberPublish, command::Operation},
        etcdserverpb::{Member, MemberRemoveRequest},
    },
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
