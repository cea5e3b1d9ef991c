//! What alarms forbid, command by command.

use super::*;
use crate::{
    proto::{
        command::{Command, MemberPublish},
        etcdserverpb::{
            AlarmMember, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
            LeaseRevokeRequest, RangeRequest, compare::TargetUnion,
        },
    },
    state_machine::{Applied, Entry, Payload, StateMachine, View},
    storage::{Place, Storage},
    types::LogId,
};

struct Machine {
    storage: Storage,
    machine: StateMachine,
    index: u64,
}

impl Machine {
    fn new() -> Machine {
        let storage = Storage::open(Place::Memory).unwrap();
        Machine { machine: StateMachine::open(storage.clone()).unwrap(), storage, index: 0 }
    }

    fn apply(&mut self, operation: Operation) -> Applied {
        self.index += 1;
        let id = LogId { term: 1, node: 1, index: self.index };
        let command = Command { operation: Some(operation), ..Command::default() };
        let entry = Entry { id, payload: Payload::Command(command) };
        self.machine.apply(vec![entry]).unwrap().remove(0)
    }

    fn alarm(&mut self, action: AlarmAction, member_id: u64, alarm: i32) -> Vec<(u64, i32)> {
        let request = AlarmRequest { action: action as i32, member_id, alarm };
        match self.apply(Operation::Alarm(request)).reply {
            Ok(Reply::Alarm(response)) => pairs(&response.alarms),
            other => panic!("{other:?}"),
        }
    }

    /// Whether each operation is refused, and with what.
    #[track_caller]
    fn check(&mut self, operations: &[Operation], expected: Option<Rejection>) {
        for operation in operations {
            let refused = match self.apply(operation.clone()).reply {
                Err(refused @ (Rejection::NoSpace | Rejection::Corrupt)) => Some(refused),
                Ok(_) | Err(_) => None,
            };
            assert_eq!(refused, expected, "{operation:?}");
        }
    }
}

fn pairs(alarms: &[AlarmMember]) -> Vec<(u64, i32)> {
    alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn get(key: &'static str) -> Request {
    Request::RequestRange(RangeRequest { key: key.into(), ..RangeRequest::default() })
}

fn operations(requests: Vec<Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn txn(success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
    let (success, failure) = (operations(success), operations(failure));
    TxnRequest { compare: Vec::new(), success, failure }
}

fn delete(key: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() }
}

/// As an API server sends it.
fn kubernetes_compaction() -> TxnRequest {
    let compare = Compare {
        key: COMPACTION_KEY.into(),
        target: CompareTarget::Version as i32,
        result: CompareResult::Equal as i32,
        target_union: Some(TargetUnion::Version(3)),
        ..Compare::default()
    };
    let put = Request::RequestPut(put("compact_rev_key", "1234"));
    TxnRequest { compare: vec![compare], ..txn(vec![put], vec![get("compact_rev_key")]) }
}

fn grows() -> Vec<Operation> {
    let put_a = || Request::RequestPut(put("a", "1"));
    let nested = Request::RequestTxn(txn(vec![put_a()], Vec::new()));
    vec![
        Operation::Put(put("a", "1")),
        Operation::Txn(txn(vec![put_a()], Vec::new())),
        Operation::Txn(txn(Vec::new(), vec![put_a()])),
        Operation::Txn(txn(vec![get("a"), nested], Vec::new())),
        Operation::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }),
    ]
}

fn shrinks() -> Vec<Operation> {
    vec![
        Operation::DeleteRange(delete("a")),
        Operation::Txn(txn(vec![Request::RequestDeleteRange(delete("a"))], vec![get("a")])),
        Operation::Compact(CompactionRequest { revision: 1, physical: false }),
        Operation::LeaseRevoke(LeaseRevokeRequest { id: 9 }),
        Operation::Txn(kubernetes_compaction()),
    ]
}

const NO_SPACE: i32 = AlarmType::Nospace as i32;
const CORRUPT: i32 = AlarmType::Corrupt as i32;

#[test]
fn without_space_what_grows_is_refused_and_what_shrinks_is_not() {
    let mut machine = Machine::new();
    machine.check(&grows(), None);
    machine.alarm(AlarmAction::Activate, 3, NO_SPACE);
    machine.check(&grows(), Some(Rejection::NoSpace));
    machine.check(&shrinks(), None);
    machine.alarm(AlarmAction::Deactivate, 3, NO_SPACE);
    machine.check(&grows(), None);
}

#[test]
fn a_corrupt_store_is_not_changed_any_more_but_its_members_may_be() {
    let mut machine = Machine::new();
    machine.alarm(AlarmAction::Activate, 3, NO_SPACE);
    machine.alarm(AlarmAction::Activate, 0, CORRUPT);
    machine.check(&grows(), Some(Rejection::Corrupt));
    machine.check(&shrinks(), Some(Rejection::Corrupt));
    machine.check(&[Operation::MemberPublish(MemberPublish::default())], None);
    machine.alarm(AlarmAction::Deactivate, 0, CORRUPT);
    machine.check(&grows(), Some(Rejection::NoSpace));
}

#[test]
fn only_the_very_compaction_of_kubernetes_passes_without_space() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut TxnRequest), takes_space: bool) {
        let mut txn = kubernetes_compaction();
        change(&mut txn);
        assert_eq!(txn_takes_space(&txn), takes_space);
    }
    let put =
        |value: &'static str| operations(vec![Request::RequestPut(put("compact_rev_key", value))]);
    check(|_| (), false);
    check(|txn| txn.success = put("9223372036854775807"), false);
    check(|txn| txn.success = put("92233720368547758070"), true);
    check(|txn| txn.success = put("12a"), true);
    check(|txn| txn.compare.clear(), true);
    check(|txn| txn.compare[0].target = CompareTarget::Mod as i32, true);
    check(|txn| txn.compare[0].result = CompareResult::Greater as i32, true);
    check(|txn| txn.compare[0].key = "a".into(), true);
    check(|txn| txn.success.extend(put("1")), true);
    check(|txn| txn.failure = put("1"), true);
    check(|txn| txn.failure.clear(), true);
    let leased = |txn: &mut TxnRequest| {
        let Some(Request::RequestPut(put)) = &mut txn.success[0].request else { panic!() };
        put.lease = 7;
    };
    check(leased, true);
}

#[test]
fn alarms_are_listed_by_kind_and_answered_as_etcd_answers_them() {
    use AlarmAction::{Activate, Deactivate, Get};
    let mut machine = Machine::new();
    assert_eq!(machine.alarm(Activate, 5, NO_SPACE), [(5, NO_SPACE)]);
    assert_eq!(machine.alarm(Activate, 5, NO_SPACE), [(5, NO_SPACE)]);
    assert_eq!(machine.alarm(Activate, 2, CORRUPT), [(2, CORRUPT)]);
    assert_eq!(machine.alarm(Activate, 2, 0), []);
    assert_eq!(machine.alarm(Get, 0, 0), [(5, NO_SPACE), (2, CORRUPT)]);
    assert_eq!(machine.alarm(Get, 5, CORRUPT), [(2, CORRUPT)]);
    assert_eq!(machine.alarm(Deactivate, 2, 0), []);
    assert_eq!(machine.alarm(Deactivate, 2, NO_SPACE), []);
    assert_eq!(machine.alarm(Deactivate, 5, NO_SPACE), [(5, NO_SPACE)]);
    assert_eq!(machine.alarm(Deactivate, 5, NO_SPACE), []);
    assert_eq!(machine.alarm(Activate, 1, 9), [(1, 9)]);
    let listed = View::new(machine.storage.snapshot()).unwrap().alarms().unwrap().list(None);
    assert_eq!(pairs(&listed), [(2, CORRUPT), (1, 9)]);
}

#[test]
fn alarms_are_told_when_they_change_and_are_still_there_after_a_restart() {
    let mut machine = Machine::new();
    let activate = || {
        let action = AlarmAction::Activate as i32;
        Operation::Alarm(AlarmRequest { action, member_id: 5, alarm: NO_SPACE })
    };
    assert!(machine.apply(activate()).alarms_changed);
    assert!(!machine.apply(activate()).alarms_changed);
    machine.machine = StateMachine::open(machine.storage.clone()).unwrap();
    machine.check(&grows(), Some(Rejection::NoSpace));
}
