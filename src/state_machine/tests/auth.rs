//! Authentication, command by command: what is in the tables, and who is judged how.

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;

use super::{Machine, operations, put, range};
use crate::{
    auth::{Change, Rejection, table},
    proto::{
        authpb::{Permission, User, UserAddOptions, permission::Type},
        command::{Authenticate, Command, command::Operation},
        etcdserverpb::{
            AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
            AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
            AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
            AuthUserRevokeRoleRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
            LeaseRevokeRequest, PutRequest, TxnRequest, request_op::Request,
        },
    },
    state_machine::{self, Applied, Entry, InForce, Payload, Reply, StateMachine, View},
    storage::{Place, Storage},
    types::LogId,
};

fn enable() -> Operation {
    Operation::AuthEnable(AuthEnableRequest {})
}

fn disable() -> Operation {
    Operation::AuthDisable(AuthDisableRequest {})
}

fn add_user(name: &str) -> Operation {
    let hashed_password = STANDARD.encode(format!("hash of {name}'s"));
    Operation::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password,
        ..Default::default()
    })
}

fn delete_user(name: &str) -> Operation {
    Operation::UserDelete(AuthUserDeleteRequest { name: name.to_owned() })
}

fn change_password(name: &str, hashed_password: &str) -> Operation {
    Operation::UserChangePassword(AuthUserChangePasswordRequest {
        name: name.to_owned(),
        hashed_password: hashed_password.to_owned(),
        ..Default::default()
    })
}

fn grant_role(user: &str, role: &str) -> Operation {
    let (user, role) = (user.to_owned(), role.to_owned());
    Operation::UserGrantRole(AuthUserGrantRoleRequest { user, role })
}

fn revoke_role(name: &str, role: &str) -> Operation {
    let (name, role) = (name.to_owned(), role.to_owned());
    Operation::UserRevokeRole(AuthUserRevokeRoleRequest { name, role })
}

fn add_role(name: &str) -> Operation {
    Operation::RoleAdd(AuthRoleAddRequest { name: name.to_owned() })
}

fn delete_role(role: &str) -> Operation {
    Operation::RoleDelete(AuthRoleDeleteRequest { role: role.to_owned() })
}

fn permit(role: &str, kind: Type, key: &'static str, range_end: &'static str) -> Operation {
    let perm =
        Some(Permission { perm_type: kind.into(), key: key.into(), range_end: range_end.into() });
    Operation::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: role.to_owned(), perm })
}

fn revoke_permission(role: &str, key: &'static str, range_end: &'static str) -> Operation {
    Operation::RoleRevokePermission(AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.into(),
        range_end: range_end.into(),
    })
}

fn authenticate(name: &str, auth_revision: u64) -> Operation {
    let (name, secret_digest) = (name.to_owned(), "digest".into());
    Operation::Authenticate(Authenticate { name, secret_digest, auth_revision })
}

fn denied<T>(rejection: Rejection) -> Result<T, state_machine::Rejection> {
    Err(state_machine::Rejection::Auth(rejection))
}

impl Machine {
    /// In a user's name, as one that has just come in.
    fn apply_as(&mut self, user: &str, operation: Operation) -> Applied {
        let auth_revision = self.view().auth().unwrap().revision;
        self.apply_at(user, auth_revision, operation)
    }

    fn apply_at(&mut self, user: &str, auth_revision: u64, operation: Operation) -> Applied {
        let user = user.to_owned();
        let operation = Some(operation);
        let command = Command { user, auth_revision, operation, ..Command::default() };
        self.entry(Payload::Command(command))
    }

    #[track_caller]
    fn all(&mut self, operations: impl IntoIterator<Item = Operation>) {
        for operation in operations {
            let text = format!("{operation:?}");
            assert!(self.apply_as("root", operation).reply.is_ok(), "{text}");
        }
    }

    #[track_caller]
    fn check_refused(&mut self, operation: Operation, expected: Rejection) {
        let before = self.view().auth().unwrap();
        assert_eq!(self.apply_as("root", operation).reply, denied(expected));
        assert_eq!(self.view().auth().unwrap(), before);
    }

    /// Whether a user may do this, in a machine that is then thrown away.
    #[track_caller]
    fn check_as(&mut self, user: &str, operation: Operation, expected: Result<(), Rejection>) {
        let text = format!("{user}: {operation:?}");
        let reply = self.apply_as(user, operation).reply.map(drop);
        match expected {
            Ok(()) => assert_eq!(reply, Ok(()), "{text}"),
            Err(rejection) => assert_eq!(reply, denied(rejection), "{text}"),
        }
    }

    fn revision(&self) -> u64 {
        self.view().auth().unwrap().revision
    }
}

/// Root, and a user that may read and write a to c, read c, and write w.
fn guarded() -> Machine {
    let mut machine = Machine::new();
    machine.all([
        add_user("root"),
        grant_role("root", "root"),
        add_user("u"),
        add_role("r"),
        permit("r", Type::Readwrite, "a", "c"),
        permit("r", Type::Read, "c", ""),
        permit("r", Type::Write, "w", ""),
        grant_role("u", "r"),
        enable(),
    ]);
    machine
}

#[test]
fn each_change_makes_an_auth_revision_and_nothing_else_does() {
    let mut machine = Machine::new();
    assert_eq!(machine.revision(), 1);
    for (operation, makes_one) in [
        (add_user("root"), true),
        (grant_role("root", "root"), true),
        (grant_role("root", "root"), false),
        (enable(), false),
        (enable(), false),
        (add_role("r"), true),
        (permit("r", Type::Read, "a", ""), true),
        (permit("r", Type::Read, "a", ""), true),
        (revoke_permission("r", "a", ""), true),
        (add_user("u"), true),
        (grant_role("u", "r"), true),
        (revoke_role("u", "r"), true),
        (change_password("u", ""), true),
        (delete_role("r"), true),
        (delete_user("u"), true),
        (disable(), true),
        (disable(), false),
        (Operation::Put(put("a", "1", 0)), false),
    ] {
        let (before, text) = (machine.revision(), format!("{operation:?}"));
        machine.all([operation]);
        assert_eq!(machine.revision() - before, u64::from(makes_one), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut machine = Machine::new();
    machine.check_refused(enable(), Rejection::RootUserNotFound);
    machine.all([add_user("root"), add_user("u"), add_role("r")]);
    machine.check_refused(enable(), Rejection::RootRoleNotGranted);
    machine.check_refused(authenticate("root", machine.revision()), Rejection::NotEnabled);
    machine.check_refused(add_user(""), Rejection::UserEmpty);
    machine.check_refused(add_user("u"), Rejection::UserExists);
    machine.check_refused(delete_user("z"), Rejection::UserNotFound);
    machine.check_refused(change_password("z", ""), Rejection::UserNotFound);
    machine.check_refused(change_password("u", "no base64"), Rejection::NoPasswordUser);
    machine.check_refused(grant_role("z", "r"), Rejection::UserNotFound);
    machine.check_refused(grant_role("u", "z"), Rejection::RoleNotFound);
    machine.check_refused(revoke_role("z", "r"), Rejection::UserNotFound);
    machine.check_refused(revoke_role("u", "r"), Rejection::RoleNotGranted);
    machine.check_refused(add_role(""), Rejection::RoleEmpty);
    machine.check_refused(add_role("r"), Rejection::RoleExists);
    machine.check_refused(delete_role("z"), Rejection::RoleNotFound);
    let nothing = AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: None };
    machine.check_refused(Operation::RoleGrantPermission(nothing), Rejection::PermissionNotGiven);
    for (key, range_end) in [("", ""), ("", "b"), ("b", "a"), ("b", "b")] {
        let permission = permit("r", Type::Read, key, range_end);
        machine.check_refused(permission, Rejection::InvalidManagement);
    }
    machine.check_refused(permit("z", Type::Read, "a", ""), Rejection::RoleNotFound);
    machine.check_refused(revoke_permission("z", "a", ""), Rejection::RoleNotFound);
    machine.check_refused(revoke_permission("r", "a", ""), Rejection::PermissionNotGranted);
}

#[test]
fn root_cannot_be_locked_out() {
    let mut machine = guarded();
    machine.all([add_role("root")]);
    machine.check_refused(delete_user("root"), Rejection::InvalidManagement);
    machine.check_refused(delete_role("root"), Rejection::InvalidManagement);
    machine.check_refused(revoke_role("root", "root"), Rejection::InvalidManagement);
    machine.all([disable(), delete_role("root"), delete_user("root")]);
}

/// The rows are what etcd has in its buckets, byte for byte.
#[test]
fn tables_hold_etcds_own_messages() {
    let mut machine = guarded();
    machine.all([Operation::UserAdd(AuthUserAddRequest {
        name: "n".to_owned(),
        options: Some(UserAddOptions { no_password: true }),
        hashed_password: "c2VjcmV0".to_owned(),
        ..Default::default()
    })]);
    let users = machine.view().users().unwrap();
    let encoded: Vec<Vec<u8>> = users.iter().map(Message::encode_to_vec).collect();
    assert_eq!(encoded[0], b"\n\x01n\x22\x02\x08\x01");
    assert_eq!(encoded[1], b"\n\x04root\x12\x0ehash of root's\x1a\x04root\x22\0");
    assert_eq!(encoded[2], b"\n\x01u\x12\x0bhash of u's\x1a\x01r\x22\0");
    let role = machine.view().role("r").unwrap().unwrap();
    let permissions: Vec<(i32, &[u8], &[u8])> = role
        .key_permission
        .iter()
        .map(|it| (it.perm_type, it.key.as_ref(), it.range_end.as_ref()))
        .collect();
    assert_eq!(permissions, [(2, &b"a"[..], &b"c"[..]), (0, b"c", b""), (1, b"w", b"")]);
}

#[test]
fn a_role_is_taken_from_its_users_when_it_goes() {
    let mut machine = guarded();
    machine.all([add_role("b"), grant_role("u", "b"), grant_role("u", "root"), delete_role("r")]);
    assert_eq!(machine.view().user("u").unwrap().unwrap().roles, ["b", "root"]);
}

#[test]
fn a_command_is_judged_again_when_it_is_applied() {
    let mut machine = guarded();
    let write = |key| Operation::Put(put(key, "1", 0));
    machine.check_as("u", write("a"), Ok(()));
    machine.check_as("u", write("c"), Err(Rejection::PermissionDenied));
    machine.check_as("z", write("a"), Err(Rejection::PermissionDenied));
    machine.check_as("root", write("z"), Ok(()));
    let (now, old) = (machine.revision(), machine.revision() - 1);
    assert_eq!(machine.apply_at("u", old, write("a")).reply, denied(Rejection::OldRevision));
    assert_eq!(machine.apply_at("", 0, write("a")).reply, denied(Rejection::UserEmpty));
    assert_eq!(machine.apply_at("", now, write("a")).reply, denied(Rejection::PermissionDenied));
    machine.all([revoke_role("u", "r")]);
    assert_eq!(machine.apply_at("u", now, write("a")).reply, denied(Rejection::OldRevision));
    machine.check_as("u", write("a"), Err(Rejection::PermissionDenied));
    machine.all([disable()]);
    assert!(machine.apply_at("", 0, write("a")).reply.is_ok());
}

#[test]
fn what_a_write_shows_must_be_readable() {
    let mut machine = guarded();
    let put = |key, prev_kv| Operation::Put(PutRequest { prev_kv, ..put(key, "1", 0) });
    machine.check_as("u", put("a", true), Ok(()));
    machine.check_as("u", put("w", false), Ok(()));
    machine.check_as("u", put("w", true), Err(Rejection::PermissionDenied));
    let delete = |key: &'static str, range_end: &'static str, prev_kv| {
        let (key, range_end) = (key.into(), range_end.into());
        Operation::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv })
    };
    machine.check_as("u", delete("a", "c", true), Ok(()));
    machine.check_as("u", delete("w", "", false), Ok(()));
    machine.check_as("u", delete("w", "", true), Err(Rejection::PermissionDenied));
    machine.check_as("u", delete("a", "d", false), Err(Rejection::PermissionDenied));
}

/// CVE-2026-33343: what is nested was not looked at.
#[test]
fn every_operation_of_a_transaction_is_judged_however_deep() {
    let txn = |success: Vec<Request>, failure: Vec<Request>| TxnRequest {
        compare: vec![super::version_is("a", 0)],
        success: operations(success),
        failure: operations(failure),
    };
    let write = |key| Request::RequestPut(put(key, "1", 0));
    let nested = |inner| Request::RequestTxn(inner);
    let refused = Err(Rejection::PermissionDenied);
    for (request, expected) in [
        (txn(vec![write("a")], vec![write("b")]), Ok(())),
        (txn(vec![write("a")], vec![write("z")]), refused),
        (txn(vec![nested(txn(vec![write("a")], vec![]))], vec![]), Ok(())),
        (txn(vec![nested(txn(vec![], vec![write("z")]))], vec![]), refused),
        (
            txn(vec![], vec![nested(txn(vec![nested(txn(vec![write("z")], vec![]))], vec![]))]),
            refused,
        ),
        (txn(vec![nested(txn(vec![Request::RequestRange(range("w"))], vec![]))], vec![]), refused),
        (TxnRequest { compare: vec![super::version_is("w", 0)], ..txn(vec![], vec![]) }, refused),
    ] {
        guarded().check_as("u", Operation::Txn(request), expected);
    }
}

#[test]
fn a_lease_is_of_those_who_may_write_its_keys() {
    let grant = |id| Operation::LeaseGrant(LeaseGrantRequest { id, ttl: 100 });
    let revoke = |id| Operation::LeaseRevoke(LeaseRevokeRequest { id });
    let attach = |key, lease| Operation::Put(put(key, "1", lease));
    let mut machine = guarded();
    machine.all([grant(7), attach("z", 7), grant(8), attach("b", 8), grant(9)]);
    let refused = Err(Rejection::PermissionDenied);
    machine.check_as("u", attach("a", 7), refused);
    machine.check_as("u", attach("a", 9), Ok(()));
    machine.check_as("u", revoke(7), refused);
    machine.check_as("u", revoke(8), Ok(()));
    machine.check_as("u", grant(10), Ok(()));
    for operation in [grant(11), revoke(9)] {
        assert_eq!(machine.apply_at("", 0, operation).reply, denied(Rejection::UserEmpty));
    }
    let by_member = Command { by_member: true, operation: Some(revoke(7)), ..Command::default() };
    assert!(machine.entry(Payload::Command(by_member)).reply.is_ok(), "it has run out");
}

#[test]
fn only_root_compacts_and_manages() {
    let mut machine = guarded();
    machine.all([Operation::Put(put("a", "1", 0))]);
    let refused = Err(Rejection::PermissionDenied);
    let compact = Operation::Compact(CompactionRequest { revision: 1, physical: false });
    for operation in [
        compact,
        enable(),
        disable(),
        add_user("x"),
        delete_user("u"),
        change_password("u", ""),
        grant_role("u", "root"),
        revoke_role("u", "r"),
        add_role("x"),
        delete_role("r"),
        permit("r", Type::Read, "z", ""),
        revoke_permission("r", "w", ""),
    ] {
        machine.check_as("u", operation.clone(), refused);
        assert_eq!(machine.apply_at("", 0, operation).reply, denied(Rejection::UserEmpty));
    }
    machine.check_as("z", add_user("x"), Err(Rejection::UserNotFound));
}

#[test]
fn a_token_is_given_by_the_rules_that_the_password_was_checked_by() {
    let mut machine = guarded();
    let now = machine.revision();
    let given = machine.apply_at("", 0, authenticate("u", now));
    let index = machine.index;
    assert_eq!(given.reply, Ok(Reply::TokenGiven { index }));
    let change = Change::TokenGiven { user: "u".to_owned(), secret_digest: "digest".into(), index };
    assert_eq!(given.auth, [change]);
    let refused = |machine: &mut Machine, name, revision| {
        machine.apply_at("", 0, authenticate(name, revision)).reply.unwrap_err()
    };
    let auth = state_machine::Rejection::Auth;
    assert_eq!(refused(&mut machine, "u", now - 1), auth(Rejection::OldRevision));
    assert_eq!(refused(&mut machine, "z", now), auth(Rejection::AuthenticationFailed));
}

#[test]
fn whose_tokens_are_void_is_told() {
    let mut machine = guarded();
    let logged_out = |name: &str| vec![Change::LoggedOut(name.to_owned())];
    let told = |machine: &mut Machine, operation| machine.apply_as("root", operation).auth;
    assert_eq!(told(&mut machine, change_password("u", "")), logged_out("u"));
    assert_eq!(told(&mut machine, grant_role("u", "root")), []);
    assert_eq!(told(&mut machine, delete_user("u")), logged_out("u"));
    assert_eq!(told(&mut machine, disable()), [Change::Disabled]);
    assert_eq!(told(&mut machine, enable()), [Change::Enabled]);
}

/// Commands of one batch see the rules as those before them have left them.
#[test]
fn rules_move_along_within_a_batch() {
    let mut one = guarded();
    let revision = one.revision();
    let commands = [
        ("root", revision, permit("r", Type::Write, "z", "")),
        ("u", revision, Operation::Put(put("z", "old", 0))),
        ("u", revision + 1, Operation::Put(put("z", "1", 0))),
        ("root", revision, disable()),
        ("", 0, Operation::Put(put("y", "1", 0))),
    ];
    let entries = (1u64..).zip(commands).map(|(number, (user, auth_revision, operation))| {
        let (user, operation) = (user.to_owned(), Some(operation));
        let command = Command { user, auth_revision, operation, ..Command::default() };
        let id = LogId { term: 1, node: 1, index: one.index + number };
        Entry { id, payload: Payload::Command(command) }
    });
    let entries: Vec<Entry> = entries.collect();
    let applied = one.machine.apply(entries).unwrap();
    let replies: Vec<bool> = applied.iter().map(|applied| applied.reply.is_ok()).collect();
    assert_eq!(replies, [true, false, true, true, true]);
    assert_eq!(one.get("z").unwrap().value, "1");
}

#[test]
fn the_rules_in_force_are_those_of_the_view() {
    let storage = Storage::open(Place::Memory).unwrap();
    let in_force = InForce::default();
    let machine = StateMachine::open_telling(storage.clone(), in_force.clone()).unwrap();
    let mut machine = Machine { storage: storage.clone(), machine, index: 0 };
    assert!(in_force.of(&machine.view()).unwrap().is_none());
    machine.all([add_user("root"), grant_role("root", "root")]);
    let before = machine.view();
    machine.all([enable()]);
    let enabled = machine.view();
    machine.all([add_user("u")]);
    let rules = |view: &View| in_force.of(view).unwrap().map(|rules| rules.state());
    let state = |enabled, revision| Some(table::State { enabled, revision });
    assert_eq!(rules(&before), state(false, 3));
    assert_eq!(rules(&enabled), state(true, 3));
    assert_eq!(rules(&machine.view()), state(true, 4));
    assert_eq!(in_force.now(&storage).unwrap().state().revision, 4);
    // While they change nothing is remembered of them, and they are read.
    in_force.withdraw();
    assert_eq!(rules(&enabled), state(true, 3));
    assert_eq!(in_force.now(&storage).unwrap().state().revision, 4);
    let reopened = StateMachine::open_telling(storage, in_force.clone());
    drop(reopened.unwrap());
    assert_eq!(rules(&machine.view()), state(true, 4));
}

#[test]
fn a_user_without_options_has_a_password() {
    assert!(!crate::auth::has_no_password(&User::default()));
}
