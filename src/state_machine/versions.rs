//! The version that the cluster speaks, and the one that it is to go back to.

use super::{Failure, Rejection, apply::Effects};
use crate::{
    cluster::{Members, table},
    proto::command::{ClusterVersionSet, DowngradeSet},
    storage::Batch,
    types::Version,
};

pub(super) fn set(batch: &mut Batch<'_>, request: &ClusterVersionSet) -> Result<Effects, Failure> {
    let from = if request.from.is_empty() { None } else { Some(parse(&request.from)?) };
    let to = parse(&request.to)?;
    Members::read(batch)?.versions.check_set(from)?;
    table::put_version(batch, to);
    Ok(Effects { members_changed: true, ..Effects::done() })
}

pub(super) fn set_downgrade(
    batch: &mut Batch<'_>,
    request: &DowngradeSet,
) -> Result<Effects, Failure> {
    let versions = Members::read(batch)?.versions;
    let target = if request.target.is_empty() {
        versions.check_cancel()?;
        None
    } else {
        let target = parse(&request.target)?;
        versions.check_downgrade(target)?;
        Some(target)
    };
    table::put_downgrade(batch, target);
    Ok(Effects { members_changed: true, ..Effects::done() })
}

fn parse(text: &str) -> Result<Version, Failure> {
    Version::parse(text).ok_or_else(|| Rejection::Malformed("a version").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{self, Versions},
        proto::{
            command::{Bootstrap, Command, ForceNewCluster, command::Operation},
            etcdserverpb::{Member, MemberRemoveRequest},
        },
        state_machine::{Applied, Entry, Payload, StateMachine},
        storage::{Place, Storage},
        types::{ClusterId, LogId, MemberId},
    };

    struct Machine {
        storage: Storage,
        machine: StateMachine,
        index: u64,
    }

    impl Machine {
        fn new() -> Machine {
            let storage = Storage::open(Place::Memory).unwrap();
            let machine = StateMachine::open(storage.clone()).unwrap();
            Machine { storage, machine, index: 0 }
        }

        fn apply(&mut self, operation: Operation) -> Applied {
            self.index += 1;
            let id = LogId { term: 1, node: 1, index: self.index };
            let command = Command { operation: Some(operation), ..Command::default() };
            let entry = Entry { id, payload: Payload::Command(command) };
            self.machine.apply(vec![entry]).unwrap().remove(0)
        }

        fn members(&self) -> Members {
            Members::read(&self.storage.snapshot()).unwrap()
        }

        /// Applied, and the versions are these then; `-` is none.
        #[track_caller]
        fn changes(&mut self, operation: Operation, cluster: &str, downgrade: &str) {
            let applied = self.apply(operation);
            assert!(applied.reply.is_ok() && applied.members_changed, "{applied:?}");
            let version = |text| (text != "-").then(|| Version::parse(text).unwrap());
            let expected = Versions { cluster: version(cluster), downgrade: version(downgrade) };
            assert_eq!(self.members().versions, expected);
        }

        #[track_caller]
        fn refuses(&mut self, operation: Operation, rejection: cluster::Rejection) {
            let before = self.members();
            let applied = self.apply(operation);
            assert_eq!(applied.reply, Err(Rejection::Cluster(rejection)));
            assert!(!applied.members_changed);
            assert_eq!(self.members(), before);
        }
    }

    fn set(from: &str, to: &str) -> Operation {
        Operation::ClusterVersionSet(ClusterVersionSet { from: from.into(), to: to.into() })
    }

    fn downgrade(target: &str) -> Operation {
        Operation::DowngradeSet(DowngradeSet { target: target.into() })
    }

    #[test]
    fn a_cluster_goes_up_back_and_up_again() {
        let mut machine = Machine::new();
        let target = Version::parse("3.6").unwrap();
        machine.refuses(downgrade("3.6.0"), cluster::Rejection::VersionUnknown);
        machine.refuses(downgrade(""), cluster::Rejection::NoDowngrade);
        machine.changes(set("", "3.0.0"), "3.0", "-");
        machine.changes(set("3.0.0", "3.7.0"), "3.7", "-");
        machine.refuses(set("3.0.0", "3.6.0"), cluster::Rejection::VersionChanged);
        machine.changes(downgrade("3.6.0"), "3.7", "3.6");
        machine.refuses(downgrade("3.6.0"), cluster::Rejection::DowngradeInProgress);
        machine.changes(set("3.7.0", "3.6.0"), "3.6", "3.6");
        machine.refuses(downgrade("3.6.0"), cluster::Rejection::InvalidDowngradeTarget(target));
        machine.changes(downgrade(""), "3.6", "-");
        machine.changes(set("3.6.0", "3.7.0"), "3.7", "-");
    }

    fn member(id: u64) -> Member {
        Member { id, name: format!("m{id}"), ..Member::default() }
    }

    fn force(id: u64) -> Operation {
        let member = Some(Member { id, ..Member::default() });
        Operation::ForceNewCluster(ForceNewCluster { member, cluster_id: 6 })
    }

    #[test]
    fn a_forced_cluster_is_one_voter_and_the_others_never_come_back() {
        let mut machine = Machine::new();
        let mut learner = member(2);
        learner.is_learner = true;
        let members = vec![member(1), learner, member(3)];
        machine.apply(Operation::Bootstrap(Bootstrap { cluster_id: 5, members }));
        for _ in 0..2 {
            assert!(machine.apply(force(2)).reply.is_ok());
            let now = machine.members();
            assert_eq!((now.cluster, now.list()), (Some(ClusterId(5)), vec![member(2)]));
            assert!(now.is_removed(MemberId(1)) && now.is_removed(MemberId(3)));
        }
    }

    #[test]
    fn a_removed_member_or_one_that_never_founded_its_cluster_can_be_forced_too() {
        let mut machine = Machine::new();
        let members = vec![member(1), member(2)];
        machine.apply(Operation::Bootstrap(Bootstrap { cluster_id: 5, members }));
        machine.apply(Operation::MemberRemove(MemberRemoveRequest { id: 2 }));
        assert!(machine.apply(force(2)).reply.is_ok());
        let now = machine.members();
        assert_eq!(now.list(), [member(2)]);
        assert!(now.is_removed(MemberId(1)) && !now.is_removed(MemberId(2)));

        let mut machine = Machine::new();
        assert!(machine.apply(force(4)).reply.is_ok());
        let now = machine.members();
        assert_eq!(now.cluster, Some(ClusterId(6)));
        assert_eq!(now.list(), [Member { id: 4, ..Member::default() }]);
    }
}
