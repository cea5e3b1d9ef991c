//! The state machine as its users see it, command by command. Properties over whole logs stand in
//! `tests/state_properties.rs`.

mod auth;
mod regions;

use bytes::Bytes;

use super::{Applied, Compacted, Entry, Payload, Rejection, Reply, StateMachine, View};
use crate::{
    cluster,
    lease::{Change, Lease},
    proto::{
        command::{Bootstrap, Command, MemberAdd, MemberPublish, command::Operation},
        etcdserverpb::{
            CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint,
            LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, Member,
            MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, PutRequest,
            RangeRequest, RequestOp, TxnRequest, TxnResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::{KeyValue, event::EventType},
    },
    storage::{Place, Storage},
    types::{ClusterId, LeaseId, LogId, MemberId, Revision},
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

    fn entry(&mut self, payload: Payload) -> Applied {
        self.index += 1;
        let id = LogId { term: 1, node: 1, index: self.index };
        self.machine.apply(vec![Entry { id, payload }]).unwrap().remove(0)
    }

    fn apply(&mut self, operation: Operation) -> Applied {
        let command = Command { operation: Some(operation), ..Command::default() };
        self.entry(Payload::Command(command))
    }

    #[track_caller]
    fn refused(&mut self, operation: Operation, expected: Rejection) {
        assert_eq!(self.apply(operation).reply, Err(expected));
    }

    fn put(&mut self, key: &'static str, value: &'static str, lease: i64) -> Applied {
        self.apply(Operation::Put(put(key, value, lease)))
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Applied {
        self.apply(Operation::LeaseGrant(LeaseGrantRequest { id, ttl }))
    }

    fn txn(&mut self, request: TxnRequest) -> TxnResponse {
        match self.apply(Operation::Txn(request)).reply {
            Ok(Reply::Txn(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn view(&self) -> View {
        View::new(self.storage.snapshot()).unwrap()
    }

    fn get(&self, key: &'static str) -> Option<KeyValue> {
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        self.view().keys().range(&request).unwrap().kvs.pop()
    }

    fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.view().lease_keys(lease_id(id)).unwrap()
    }
}

fn put(key: &'static str, value: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, ..PutRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

fn lease_id(id: i64) -> LeaseId {
    LeaseId::from_wire(id).unwrap()
}

fn revision(raw: i64) -> Revision {
    Revision::from_wire(raw).unwrap()
}

fn operations(requests: impl IntoIterator<Item = Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn version_is(key: &'static str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key.into(),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

#[test]
fn a_put_answers_with_its_revision_and_the_previous_version() {
    let mut machine = Machine::new();
    let applied = machine.put("a", "1", 0);
    assert_eq!(applied.revision, revision(2));
    assert_eq!(applied.events.len(), 1);
    let request = PutRequest { prev_kv: true, ..put("a", "2", 0) };
    let Ok(Reply::Put(response)) = machine.apply(Operation::Put(request)).reply else { panic!() };
    assert_eq!(response.header.unwrap().revision, 3);
    let previous = response.prev_kv.unwrap();
    assert_eq!((previous.value.as_ref(), previous.version), (&b"1"[..], 1));
    assert_eq!(machine.get("a").unwrap().version, 2);
}

#[test]
fn a_put_can_leave_value_or_lease_as_they_are() {
    let mut machine = Machine::new();
    machine.grant(7, 60);
    let keep_value = |lease| PutRequest { ignore_value: true, ..put("a", "", lease) };
    let keep_lease = |value| PutRequest { ignore_lease: true, ..put("a", value, 0) };
    machine.refused(Operation::Put(keep_value(0)), Rejection::KeyNotFound);
    machine.refused(Operation::Put(keep_lease("x")), Rejection::KeyNotFound);
    machine.put("a", "1", 0);
    machine.apply(Operation::Put(keep_value(7)));
    let kv = machine.get("a").unwrap();
    assert_eq!((kv.value.as_ref(), kv.lease), (&b"1"[..], 7));
    machine.apply(Operation::Put(keep_lease("2")));
    let kv = machine.get("a").unwrap();
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"2"[..], 7, 3));
}

#[test]
fn a_delete_of_nothing_makes_no_revision() {
    let mut machine = Machine::new();
    machine.put("a", "1", 0);
    machine.put("b", "2", 0);
    let applied = machine.apply(Operation::DeleteRange(delete("x", "")));
    assert_eq!((applied.revision, applied.events.len()), (revision(3), 0));
    let applied = machine.apply(Operation::DeleteRange(delete("a", "c")));
    assert_eq!(applied.revision, revision(4));
    let Ok(Reply::DeleteRange(response)) = applied.reply else { panic!() };
    assert_eq!((response.deleted, response.prev_kvs.len()), (2, 2));
    assert_eq!(response.header.unwrap().revision, 4);
    for (event, key) in applied.events.iter().zip(["a", "b"]) {
        let expected = KeyValue { key: key.into(), mod_revision: 4, ..KeyValue::default() };
        assert_eq!(event.r#type, EventType::Delete as i32);
        assert_eq!(event.kv, Some(expected));
    }
}

#[test]
fn a_transaction_sees_its_own_changes_but_compares_with_the_state_before_it() {
    let mut machine = Machine::new();
    let nested = TxnRequest {
        compare: vec![version_is("a", 0)],
        success: operations([Request::RequestPut(put("c", "before", 0))]),
        failure: operations([Request::RequestPut(put("c", "after", 0))]),
    };
    let response = machine.txn(TxnRequest {
        compare: vec![version_is("a", 0)],
        success: operations([
            Request::RequestRange(range("a")),
            Request::RequestPut(put("a", "1", 0)),
            Request::RequestRange(range("a")),
            Request::RequestTxn(nested),
            Request::RequestDeleteRange(delete("b", "")),
        ]),
        failure: Vec::new(),
    });
    assert!(response.succeeded);
    assert_eq!(response.header.unwrap().revision, 2);
    let answers: Vec<_> = response.responses.into_iter().map(|op| op.response.unwrap()).collect();
    let seen: Vec<_> = answers
        .iter()
        .map(|response| match response {
            Response::ResponseRange(range) => {
                (range.header.unwrap().revision, range.kvs.len() as i64)
            }
            Response::ResponsePut(put) => (put.header.unwrap().revision, 0),
            Response::ResponseDeleteRange(delete) => {
                (delete.header.unwrap().revision, delete.deleted)
            }
            Response::ResponseTxn(txn) => (txn.header.unwrap().revision, txn.succeeded.into()),
        })
        .collect();
    assert_eq!(seen, [(1, 0), (2, 0), (2, 1), (0, 1), (2, 0)]);
    assert_eq!(machine.get("c").unwrap().value, "before");
}

#[test]
fn a_transaction_that_cannot_be_finished_changes_nothing() {
    let mut machine = Machine::new();
    machine.put("a", "1", 0);
    let check = |machine: &mut Machine, last: Request, expected| {
        let success = operations([Request::RequestPut(put("b", "1", 0)), last]);
        let request = TxnRequest { success, ..TxnRequest::default() };
        machine.refused(Operation::Txn(request.clone()), expected);
        assert_eq!(machine.get("b"), None);
        // The branch that is not taken is not judged.
        let (success, failure) = (Vec::new(), request.success);
        assert!(machine.txn(TxnRequest { success, failure, ..TxnRequest::default() }).succeeded);
    };
    let at = |revision| Request::RequestRange(RangeRequest { revision, ..range("a") });
    machine.apply(Operation::Compact(CompactionRequest { revision: 2, physical: false }));
    let compacted = Rejection::Compacted(revision(2));
    check(&mut machine, at(3), Rejection::FutureRevision(revision(2)));
    check(&mut machine, at(1), compacted.clone());
    check(&mut machine, at(-1), compacted);
    check(
        &mut machine,
        Request::RequestPut(put("c", "", 5)),
        Rejection::LeaseNotFound(lease_id(5)),
    );
    let twice = Rejection::Malformed("a key is put twice");
    check(&mut machine, Request::RequestPut(put("b", "2", 0)), twice);
    let both = Rejection::Malformed("a key is put and deleted");
    check(&mut machine, Request::RequestDeleteRange(delete("a", "c")), both);
    let ignoring = PutRequest { ignore_lease: true, ..put("c", "", 0) };
    check(&mut machine, Request::RequestPut(ignoring), Rejection::KeyNotFound);
}

#[test]
fn comparisons_are_etcds() {
    let mut machine = Machine::new();
    machine.grant(9, 60);
    machine.put("a", "5", 9);
    machine.put("b", "6", 0);
    let check = |key: &'static str, end: &'static str, target, result, union, expected| {
        let compare = Compare {
            result: CompareResult::into(result),
            target: CompareTarget::into(target),
            key: key.into(),
            range_end: end.into(),
            target_union: union,
        };
        let request = TxnRequest { compare: vec![compare.clone()], ..TxnRequest::default() };
        let response = machine.view().keys().txn(&request).unwrap();
        assert_eq!(response.succeeded, expected, "{compare:?}");
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let value = |text: &'static str| Some(TargetUnion::Value(text.into()));
    check("a", "", CompareTarget::Value, Equal, value("5"), true);
    check("a", "", CompareTarget::Value, Greater, value("4"), true);
    check("a", "", CompareTarget::Value, Less, value("5"), false);
    check("x", "", CompareTarget::Value, NotEqual, value("5"), false);
    check("x", "", CompareTarget::Value, Equal, None, false);
    check("x", "", CompareTarget::Create, Equal, Some(TargetUnion::CreateRevision(0)), true);
    check("a", "", CompareTarget::Create, Equal, Some(TargetUnion::CreateRevision(2)), true);
    check("b", "", CompareTarget::Mod, Equal, Some(TargetUnion::ModRevision(3)), true);
    check("a", "", CompareTarget::Lease, Equal, Some(TargetUnion::Lease(9)), true);
    check("a", "", CompareTarget::Version, Greater, None, true);
    check("a", "c", CompareTarget::Value, Greater, value("4"), true);
    check("a", "c", CompareTarget::Value, Equal, value("5"), false);
    check("x", "z", CompareTarget::Version, Equal, Some(TargetUnion::Version(0)), true);
    check("x", "z", CompareTarget::Value, NotEqual, value("5"), false);
}

#[test]
fn compaction_is_judged_like_etcd_judges_it() {
    let mut machine = Machine::new();
    let compact = |revision| Operation::Compact(CompactionRequest { revision, physical: false });
    let compacted = |from, to| Ok(Reply::Compact(Compacted { from, to }));
    machine.refused(compact(-1), Rejection::Compacted(revision(1)));
    let zero = Revision::BEFORE_ALL;
    assert_eq!(machine.apply(compact(0)).reply, compacted(None, zero));
    machine.refused(compact(0), Rejection::Compacted(zero));
    machine.refused(compact(-1), Rejection::Compacted(zero));
    machine.refused(compact(2), Rejection::FutureRevision(revision(1)));
    machine.put("a", "1", 0);
    machine.put("a", "2", 0);
    assert_eq!(machine.apply(compact(2)).reply, compacted(Some(zero), revision(2)));
    machine.refused(compact(2), Rejection::Compacted(revision(2)));
    machine.refused(compact(0), Rejection::Compacted(revision(2)));
    assert_eq!(machine.view().keys().floor(), Some(revision(2)));
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let mut machine = Machine::new();
    machine.grant(7, 60);
    machine.grant(8, 60);
    for key in ["c", "a", "b", "d"] {
        machine.put(key, "x", 7);
    }
    machine.put("b", "moved", 8);
    machine.put("d", "free", 0);
    machine.apply(Operation::DeleteRange(delete("x", "")));
    assert_eq!(machine.lease_keys(7), ["a", "c"]);
    assert_eq!(machine.lease_keys(8), ["b"]);

    let applied = machine.apply(Operation::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    assert_eq!(applied.reply, Ok(Reply::Done));
    assert_eq!(applied.revision, revision(8));
    assert_eq!(applied.leases, [Change::Revoked(lease_id(7))]);
    let keys: Vec<_> = applied.events.iter().map(|event| &event.kv.as_ref().unwrap().key).collect();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(machine.view().lease(lease_id(7)).unwrap(), None);
    assert_eq!(machine.lease_keys(7), [""; 0]);
    assert_eq!(machine.get("b").unwrap().lease, 8);

    machine.apply(Operation::DeleteRange(delete("b", "")));
    assert_eq!(machine.lease_keys(8), [""; 0]);
    let applied = machine.apply(Operation::LeaseRevoke(LeaseRevokeRequest { id: 8 }));
    assert_eq!((applied.revision, applied.events.len()), (revision(9), 0));
    assert_eq!(machine.view().leases().unwrap(), []);
}

#[test]
fn leases_are_granted_once_and_for_a_time_that_makes_sense() {
    let mut machine = Machine::new();
    let applied = machine.grant(-7, 60);
    let granted = Lease { id: lease_id(-7), ttl_secs: 60, remaining_secs: None };
    assert_eq!(applied.leases, [Change::Granted(granted)]);
    let Ok(Reply::LeaseGrant(response)) = applied.reply else { panic!() };
    assert_eq!((response.id, response.ttl, response.header.unwrap().revision), (-7, 60, 1));
    let grant = |id, ttl| Operation::LeaseGrant(LeaseGrantRequest { id, ttl });
    machine.refused(grant(-7, 60), Rejection::LeaseExists(lease_id(-7)));
    machine.refused(grant(1, 9_000_000_001), Rejection::LeaseTtlTooLarge(9_000_000_001));
    assert!(machine.apply(grant(1, 9_000_000_000)).reply.is_ok());
    for senseless in [grant(0, 60), grant(2, 0), grant(2, -1)] {
        assert!(matches!(machine.apply(senseless).reply, Err(Rejection::Malformed(_))));
    }
    let revoke = |id| Operation::LeaseRevoke(LeaseRevokeRequest { id });
    machine.refused(revoke(99), Rejection::LeaseNotFound(lease_id(99)));
    assert!(matches!(machine.apply(revoke(0)).reply, Err(Rejection::Malformed(_))));
}

#[test]
fn a_checkpoint_notes_what_is_left_and_zero_takes_it_back() {
    let mut machine = Machine::new();
    machine.grant(7, 60);
    let checkpoint = |remaining_ttl| {
        let of = |id| LeaseCheckpoint { id, remaining_ttl };
        let checkpoints = vec![of(99), of(7), of(0)];
        Operation::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
    };
    for (given, noted) in [(40, Some(40)), (0, None), (99, Some(60)), (-5, None)] {
        let applied = machine.apply(checkpoint(given));
        let lease = Lease { id: lease_id(7), ttl_secs: 60, remaining_secs: noted };
        assert_eq!(applied.leases, [Change::Checkpointed(lease)]);
        assert_eq!(machine.view().leases().unwrap(), [lease]);
    }
}

#[test]
fn the_first_bootstrap_founds_the_cluster() {
    let mut machine = Machine::new();
    let member = |id| Member { id, name: format!("m{id}"), ..Member::default() };
    let bootstrap = |cluster_id, ids: &[u64]| {
        let members = ids.iter().map(|id| member(*id)).collect();
        Operation::Bootstrap(Bootstrap { cluster_id, members })
    };
    let remove = Operation::MemberRemove(MemberRemoveRequest { id: 1 });
    assert!(matches!(machine.apply(remove).reply, Err(Rejection::Malformed(_))));
    for senseless in [bootstrap(5, &[]), bootstrap(5, &[0]), bootstrap(5, &[1, 1])] {
        assert!(matches!(machine.apply(senseless).reply, Err(Rejection::Malformed(_))));
    }
    let applied = machine.apply(bootstrap(5, &[2, 1]));
    assert_eq!((applied.reply, applied.members_changed), (Ok(Reply::Done), true));
    let applied = machine.apply(bootstrap(6, &[3]));
    assert_eq!((applied.reply, applied.members_changed), (Ok(Reply::Done), false));
    let members = machine.view().members().unwrap();
    assert_eq!(members.cluster, Some(ClusterId(5)));
    assert_eq!(members.list(), [member(1), member(2)]);
}

#[test]
fn members_come_start_vote_move_and_go() {
    let mut machine = Machine::new();
    let founder = Member { id: 1, name: "one".into(), ..Member::default() };
    let bootstrap = Bootstrap { cluster_id: 5, members: vec![founder.clone()] };
    machine.apply(Operation::Bootstrap(bootstrap));

    let mut second =
        Member { id: 2, peer_ur_ls: vec!["http://2".into()], is_learner: true, ..founder.clone() };
    second.name.clear();
    let add = |member: &Member| {
        let member = Some(member.clone());
        Operation::MemberAdd(MemberAdd { member, max_learners: 1, strict: true })
    };
    let reply = |member: &Member, members: &[&Member]| {
        let members = members.iter().map(|member| (*member).clone()).collect();
        Ok(Reply::Members { member: member.clone(), members })
    };
    let applied = machine.apply(add(&second));
    assert_eq!(applied.reply, reply(&second, &[&founder, &second]));
    assert!(applied.members_changed);

    let publish = |incarnation| {
        let client_urls = vec!["http://c".into()];
        let (name, labels) = ("two".into(), None);
        Operation::MemberPublish(MemberPublish { id: 2, name, client_urls, incarnation, labels })
    };
    assert!(machine.apply(publish(77)).members_changed);
    assert!(!machine.apply(publish(77)).members_changed);
    let other = cluster::Rejection::OtherIncarnation(MemberId(2));
    machine.refused(publish(78), Rejection::Cluster(other));
    second.name = "two".into();
    second.client_ur_ls = vec!["http://c".into()];
    assert_eq!(machine.view().members().unwrap().rows[1].incarnation, Some(77));

    second.is_learner = false;
    let promote = Operation::MemberPromote(MemberPromoteRequest { id: 2 });
    assert_eq!(machine.apply(promote.clone()).reply, reply(&second, &[&founder, &second]));
    let voter = cluster::Rejection::NotLearner(MemberId(2));
    machine.refused(promote, Rejection::Cluster(voter));

    second.peer_ur_ls = vec!["http://new".into()];
    let update = MemberUpdateRequest { id: 2, peer_ur_ls: second.peer_ur_ls.clone() };
    let applied = machine.apply(Operation::MemberUpdate(update));
    assert_eq!(applied.reply, reply(&second, &[&founder, &second]));
    assert_eq!(machine.view().members().unwrap().rows[1].incarnation, Some(77));

    let remove = Operation::MemberRemove(MemberRemoveRequest { id: 2 });
    assert_eq!(machine.apply(remove).reply, reply(&second, &[&founder]));
    let again = cluster::Rejection::IdExists(MemberId(2));
    machine.refused(add(&second), Rejection::Cluster(again));
    let gone = cluster::Row { member: second, incarnation: Some(77) };
    assert_eq!(machine.view().members().unwrap().removed, [gone]);
}

#[test]
fn the_position_is_stored_with_every_entry() {
    let mut machine = Machine::new();
    machine.entry(Payload::Blank);
    assert_eq!(machine.machine.position().membership, None);
    machine.entry(Payload::Membership("members".into()));
    machine.put("a", "1", 0);
    machine.refused(
        Operation::LeaseRevoke(LeaseRevokeRequest { id: 1 }),
        Rejection::LeaseNotFound(lease_id(1)),
    );
    let id = |index| LogId { term: 1, node: 1, index };
    let position = machine.machine.position().clone();
    assert_eq!(position.applied, Some(id(4)));
    assert_eq!(position.membership, Some((id(2), "members".into())));
    assert_eq!(machine.view().position().unwrap(), position);
    let reopened = StateMachine::open(machine.storage.clone()).unwrap();
    assert_eq!((reopened.position(), reopened.revision()), (&position, revision(2)));
    assert!(machine.machine.apply(Vec::new()).unwrap().is_empty());
}
