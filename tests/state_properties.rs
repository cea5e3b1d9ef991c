//! What makes the replicated state replicated: properties over whole logs.

#[path = "model/commands.rs"]
mod commands;
#[path = "model/crash_image.rs"]
mod crash_image;

use bytes::Bytes;
use crash_image::take_image;
use orrery::{
    mvcc::{self, compaction},
    proto::{
        command::{
            AccountSet, Bootstrap, ClusterVersionSet, Command, DowngradeSet, ForceNewCluster,
            Labels, MemberAdd, MemberPublish, command::Operation,
        },
        etcdserverpb::{Member, MemberPromoteRequest, MemberRemoveRequest, RangeRequest},
        mvccpb::{Event, KeyValue, event::EventType},
        region::{Account, Location},
    },
    state_machine::{Applied, Entry, Payload, Rejection, StateMachine, View},
    storage::{Place, Rows, Storage, tables::Table},
    types::{KeyRange, LeaseId, LogId, Revision},
};
use orrery_model::KeySpace;
use proptest::prelude::*;
use tempfile::TempDir;

/// What the log may hold: more than keys and leases.
fn payload() -> impl Strategy<Value = Payload> {
    let command =
        |operation| Payload::Command(Command { operation: Some(operation), ..Command::default() });
    prop_oneof![
        20 => commands::operation().prop_map(command),
        3 => membership().prop_map(command),
        1 => Just(Payload::Blank),
        1 => any::<u8>().prop_map(|byte| Payload::Membership(Bytes::from(vec![byte]))),
    ]
}

fn membership() -> impl Strategy<Value = Operation> {
    let member = |id: u64, is_learner| Member {
        id,
        peer_ur_ls: vec![format!("http://{id}")],
        is_learner,
        ..Member::default()
    };
    let id = || 1..5u64;
    prop_oneof![
        (id(), id()).prop_map(move |(cluster_id, id)| {
            Operation::Bootstrap(Bootstrap { cluster_id, members: vec![member(id, false)] })
        }),
        (id(), any::<bool>()).prop_map(move |(id, learner)| Operation::MemberAdd(MemberAdd {
            member: Some(member(id, learner)),
            max_learners: 1,
            strict: false,
        })),
        id().prop_map(|id| Operation::MemberRemove(MemberRemoveRequest { id })),
        id().prop_map(|id| Operation::MemberPromote(MemberPromoteRequest { id })),
        (version(), version())
            .prop_map(|(from, to)| Operation::ClusterVersionSet(ClusterVersionSet { from, to })),
        version().prop_map(|target| Operation::DowngradeSet(DowngradeSet { target })),
        (id(), id()).prop_map(move |(cluster_id, id)| {
            let member = Some(member(id, false));
            Operation::ForceNewCluster(ForceNewCluster { member, cluster_id })
        }),
        (id(), 0..2u64, prop::option::of(labels())).prop_map(|(id, incarnation, labels)| {
            let (name, client_urls) = ("name".into(), Vec::new());
            Operation::MemberPublish(MemberPublish { id, name, client_urls, incarnation, labels })
        }),
        account().prop_map(|account| Operation::AccountSet(AccountSet { account })),
    ]
}

/// Mostly one that could be.
fn account() -> impl Strategy<Value = Option<Account>> {
    let location = |(priority, location_name): (u32, &str)| Location {
        location_name: location_name.to_owned(),
        failover_priority: priority,
        offline: priority == 2,
    };
    let names = Just(vec!["eastus", "westeurope", "mars"]).prop_shuffle();
    let account = (names, 0..4usize, 0..4u64).prop_map(move |(names, count, version)| Account {
        locations: (0..).zip(names).take(count).map(location).collect(),
        version,
        ..Account::default()
    });
    prop::option::of(account)
}

fn labels() -> impl Strategy<Value = Labels> {
    let region = prop_oneof![Just(""), Just("eastus"), Just("westeurope")];
    region.prop_map(|region| Labels { region: region.to_owned(), zone: String::new() })
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("3.6.0"), Just("3.7.0"), Just("x")].prop_map(str::to_owned)
}

fn log(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    let number = |payloads: Vec<Payload>| {
        let entry =
            |(at, payload)| Entry { id: LogId { term: 1, node: 1, index: at as u64 + 1 }, payload };
        payloads.into_iter().enumerate().map(entry).collect()
    };
    prop::collection::vec(payload(), 0..max).prop_map(number)
}

fn memory() -> Storage {
    Storage::open(Place::Memory).unwrap()
}

fn apply(storage: &Storage, entries: &[Entry]) -> Vec<Applied> {
    let mut machine = StateMachine::open(storage.clone()).unwrap();
    machine.apply(entries.to_vec()).unwrap()
}

/// Every row of every table. Members differ in it when they have removed different amounts of
/// compacted revisions.
fn rows(storage: &Storage) -> Vec<(&'static str, Bytes, Bytes)> {
    let snapshot = storage.snapshot();
    let mut rows = Vec::new();
    for (table, name) in Table::ALL {
        let mut cursor = snapshot.cursor(table);
        cursor.seek(&[]).unwrap();
        while let Some((key, value)) = cursor.row() {
            rows.push((name, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            cursor.step().unwrap();
        }
    }
    rows
}

/// Everything that a client can see, as text.
fn visible(storage: &Storage) -> String {
    let view = view(storage);
    let keys = view.keys();
    let floor = keys.floor().map_or(1, Revision::get).max(1);
    let mut seen = String::new();
    for at in floor..=keys.revision().get() {
        let request = RangeRequest { revision: at, ..everything() };
        seen += &format!("{:?}\n{:?}\n", keys.range(&request).unwrap(), keys.hash_kv(at).unwrap());
    }
    let all = [KeyRange::From(Bytes::new())];
    let from = Revision::from_wire(floor).unwrap();
    seen += &format!("{:?}\n", keys.history(&all, from, usize::MAX).unwrap());
    for lease in view.leases().unwrap() {
        seen += &format!("{lease:?} {:?}\n", view.lease_keys(lease.id).unwrap());
    }
    seen += &format!("{:?}\n", view.account().unwrap());
    seen + &format!("{:?}\n{:?}", view.members().unwrap(), view.position().unwrap())
}

fn view(storage: &Storage) -> View {
    View::new(storage.snapshot()).unwrap()
}

fn everything() -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}

/// What changed between two revisions of the model.
fn changes(model: &KeySpace, at: i64) -> Vec<(Bytes, Option<KeyValue>)> {
    let (before, after) = (model.at(at - 1), model.at(at));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None));
    let put = after.values().filter(|kv| kv.mod_revision == at);
    let mut changes: Vec<_> =
        gone.chain(put.map(|kv| (kv.key.clone(), Some(kv.clone())))).collect();
    changes.sort_by(|one, other| one.0.cmp(&other.0));
    changes
}

/// The same of an answer of the real one, whose events are in the order in which they were made.
fn told(events: &[Event], at: i64) -> Vec<(Bytes, Option<KeyValue>)> {
    let mut told: Vec<_> = events
        .iter()
        .map(|event| {
            let kv = event.kv.clone().unwrap();
            assert_eq!((kv.mod_revision, &event.prev_kv), (at, &None));
            let put = event.r#type == EventType::Put as i32;
            (kv.key.clone(), put.then_some(kv))
        })
        .collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    told
}

fn check_against_model(storage: &Storage, model: &KeySpace) -> Result<(), TestCaseError> {
    let view = view(storage);
    let keys = view.keys();
    prop_assert_eq!(keys.revision().get(), model.revision());
    prop_assert_eq!(keys.floor().map(Revision::get), model.floor);
    let floor = model.floor.unwrap_or(1).max(1);
    for at in floor..=model.revision() {
        let kvs = keys.range(&RangeRequest { revision: at, ..everything() }).unwrap().kvs;
        prop_assert_eq!(kvs, model.at(at).values().cloned().collect::<Vec<_>>(), "at {}", at);
    }
    let from = Revision::from_wire(floor).unwrap();
    let (history, next) = keys.history(&[KeyRange::From(Bytes::new())], from, usize::MAX).unwrap();
    prop_assert_eq!(next.get(), model.revision() + 1);
    let mut history = history.into_iter();
    for at in floor.max(2)..=model.revision() {
        let change = history.next().unwrap();
        prop_assert_eq!(change.revision.get(), at);
        prop_assert_eq!(told(&change.events, at), changes(model, at), "at {}", at);
    }
    for (id, (ttl_secs, remaining_secs)) in &model.leases {
        let lease_id = LeaseId::from_wire(*id).unwrap();
        let lease = view.lease(lease_id).unwrap().unwrap();
        prop_assert_eq!((lease.ttl_secs, lease.remaining_secs), (*ttl_secs, *remaining_secs));
        prop_assert_eq!(view.lease_keys(lease_id).unwrap(), model.lease_keys(*id));
    }
    prop_assert_eq!(view.leases().unwrap().len(), model.leases.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cutting_the_log_into_batches_anywhere_changes_nothing(
        log in log(60),
        sizes in prop::collection::vec(1..9usize, 60),
    ) {
        let (whole, cut) = (memory(), memory());
        let at_once = apply(&whole, &log);
        let mut machine = StateMachine::open(cut.clone()).unwrap();
        let (mut in_batches, mut rest) = (Vec::new(), &log[..]);
        for size in sizes {
            let (batch, behind) = rest.split_at(size.min(rest.len()));
            in_batches.extend(machine.apply(batch.to_vec()).unwrap());
            rest = behind;
        }
        prop_assert_eq!(at_once, in_batches);
        prop_assert_eq!(rows(&whole), rows(&cut));
    }

    #[test]
    fn members_agree_however_far_each_has_removed_what_is_compacted(
        log in log(60),
        pauses in prop::collection::vec(any::<bool>(), 60),
    ) {
        let (eager, lazy) = (memory(), memory());
        for (entry, pause) in log.iter().zip(pauses) {
            let entry = std::slice::from_ref(entry);
            prop_assert_eq!(apply(&eager, entry), apply(&lazy, entry));
            while compaction::step(&eager).unwrap() {}
            if !pause {
                compaction::step(&lazy).unwrap();
            }
        }
        prop_assert_eq!(visible(&eager), visible(&lazy));
    }

    #[test]
    fn a_refused_command_changes_nothing_but_the_position(log in log(40)) {
        let storage = memory();
        for entry in log {
            let before = rows(&storage);
            let applied = apply(&storage, std::slice::from_ref(&entry)).remove(0);
            if applied.reply.is_err() {
                prop_assert!(applied.events.is_empty() && applied.leases.is_empty());
                prop_assert!(!applied.members_changed);
                let without_applied = |rows: Vec<(&'static str, Bytes, Bytes)>| {
                    let is_applied = |row: &(&str, Bytes, Bytes)| row.0 == "meta" && row.1 == [1][..];
                    rows.into_iter().filter(|row| !is_applied(row)).collect::<Vec<_>>()
                };
                prop_assert_eq!(without_applied(rows(&storage)), without_applied(before));
            }
            prop_assert_eq!(view(&storage).position().unwrap().applied, Some(entry.id));
        }
    }

    #[test]
    fn a_member_that_goes_on_from_a_snapshot_becomes_the_same(
        log in log(60),
        cut in 0..60usize,
        cleaned in any::<bool>(),
    ) {
        let (head, tail) = log.split_at(cut.min(log.len()));
        let (from, to) = (memory(), memory());
        apply(&from, head);
        if cleaned {
            compaction::step(&from).unwrap();
        }
        // What the receiver had before does not matter.
        apply(&to, &tail[..tail.len().min(3)]);
        let snapshot = from.snapshot();
        let later = apply(&from, tail);

        let mut import = to.begin_import().unwrap();
        for chunk in snapshot.export() {
            import.chunk(chunk.unwrap()).unwrap();
        }
        import.finish(&snapshot.position().unwrap()).unwrap();
        prop_assert_eq!(apply(&to, tail), later);
        prop_assert_eq!(rows(&to), rows(&from));
    }

    #[test]
    fn replies_and_reads_agree_with_the_model(
        operations in prop::collection::vec(commands::operation(), 0..50),
        reads in prop::collection::vec(commands::range_request(), 10),
        cleanings in prop::collection::vec(0..3usize, 50),
    ) {
        let (storage, mut model) = (memory(), KeySpace::new());
        let mut machine = StateMachine::open(storage.clone()).unwrap();
        for (index, (operation, cleanings)) in operations.into_iter().zip(cleanings).enumerate() {
            let expected = model.apply(&operation);
            let id = LogId { term: 1, node: 1, index: index as u64 + 1 };
            let command = Command { operation: Some(operation.clone()), ..Command::default() };
            let entry = Entry { id, payload: Payload::Command(command) };
            let applied = machine.apply(vec![entry]).unwrap().remove(0);
            match (&applied.reply, &expected) {
                (Err(Rejection::Malformed(_)), Err(Rejection::Malformed(_))) => {}
                (reply, expected) => prop_assert_eq!(reply, expected, "{:?}", operation),
            }
            let at = applied.revision.get();
            prop_assert_eq!(at, model.revision());
            if !applied.events.is_empty() {
                prop_assert_eq!(told(&applied.events, at), changes(&model, at));
            }
            for _ in 0..cleanings {
                compaction::step(&storage).unwrap();
            }
        }
        check_against_model(&storage, &model)?;
        for read in reads {
            let real = view(&storage).keys().range(&read).map_err(|error| match error {
                mvcc::Error::Compacted(revision) => Rejection::Compacted(revision),
                mvcc::Error::FutureRevision(revision) => Rejection::FutureRevision(revision),
                mvcc::Error::Storage(error) => panic!("{error}"),
            });
            prop_assert_eq!(real, model.range(&read), "{:?}", read);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn after_a_crash_the_log_is_replayed_to_the_same_state(
        log in log(60),
        flushed in 0..60usize,
        crashed in 0..60usize,
    ) {
        let crashed = crashed.min(log.len());
        let flushed = flushed.min(crashed);
        let (place, image) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let storage = Storage::open(Place::Directory(place.path())).unwrap();
        let mut replies = apply(&storage, &log[..flushed]);
        storage.flush().unwrap();
        replies.extend(apply(&storage, &log[flushed..crashed]));
        compaction::step(&storage).unwrap();
        take_image(place.path(), image.path());
        replies.extend(apply(&storage, &log[crashed..]));

        let reopened = Storage::open(Place::Directory(image.path())).unwrap();
        let position = view(&reopened).position().unwrap();
        prop_assert_eq!(reopened.durable(), position.applied);
        let from = position.applied.map_or(0, |id| id.index as usize);
        prop_assert_eq!(from, flushed);
        prop_assert_eq!(apply(&reopened, &log[from..]), replies[from..].to_vec());
        prop_assert_eq!(visible(&reopened), visible(&storage));
    }
}
