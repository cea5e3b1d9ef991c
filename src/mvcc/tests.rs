//! The key space by itself: histories written down as text, and read back.

use bytes::Bytes;

use super::{Edit, Error, Head, View, compaction};
use crate::{
    proto::{
        etcdserverpb::{
            RangeRequest,
            range_request::{SortOrder, SortTarget},
        },
        mvccpb::event::EventType,
    },
    storage::{Place, Rows, Storage, tables::Table},
    types::{KeyRange, Revision},
};

/// A store that is written to without a log.
struct Store {
    storage: Storage,
    head: Head,
}

impl Store {
    fn new() -> Store {
        Store { storage: Storage::open(Place::Memory).unwrap(), head: Head::EMPTY_STORE }
    }

    /// One revision for each word: `a=1` puts, `a=` puts nothing, `-a` deletes; `a=1,-b` both at
    /// once.
    fn of(history: &str) -> Store {
        let mut store = Store::new();
        history.split_whitespace().for_each(|word| store.write(word));
        store
    }

    fn write(&mut self, word: &str) {
        let snapshot = self.storage.snapshot();
        let mut batch = snapshot.batch();
        let mut edit = Edit::new(&mut batch, self.head);
        for change in word.split(',') {
            match (change.strip_prefix('-'), change.split_once('=')) {
                (Some(key), _) => edit.delete(Bytes::copy_from_slice(key.as_bytes())),
                (None, Some((key, value))) => {
                    let previous = edit.live(key.as_bytes()).unwrap();
                    edit.put(key.to_owned().into(), value.to_owned().into(), None, previous);
                }
                (None, None) => panic!("{change} is no change"),
            }
        }
        (self.head, _) = edit.finish();
        batch.write().unwrap();
    }

    fn compact(&mut self, floor: i64) {
        self.head.check_compact(floor).unwrap();
        self.head.floor = Some(self.head.check_compact(floor).unwrap());
        let snapshot = self.storage.snapshot();
        let mut batch = snapshot.batch();
        self.head.put(&mut batch);
        batch.write().unwrap();
    }

    fn clean(&self) {
        while compaction::step(&self.storage).unwrap() {}
    }

    fn view(&self) -> View {
        View::new(self.storage.snapshot()).unwrap()
    }

    /// All revisions that are stored, and whether the index has as many.
    fn stored(&self) -> Vec<i64> {
        let snapshot = self.storage.snapshot();
        let count = |table| {
            let mut cursor = snapshot.cursor(table);
            cursor.seek(&[]).unwrap();
            let mut rows = Vec::new();
            while let Some((key, _)) = cursor.row() {
                rows.push(key.to_vec());
                cursor.step().unwrap();
            }
            rows
        };
        let revisions = count(Table::Revisions);
        assert_eq!(revisions.len(), count(Table::Versions).len());
        let main = |key: &Vec<u8>| i64::from_be_bytes(key[..8].try_into().unwrap());
        revisions.iter().map(main).collect()
    }

    /// `a=1 b=2` as of a revision.
    fn all(&self, revision: i64) -> Result<String, Error> {
        let request = RangeRequest { revision, ..everything() };
        let response = self.view().range(&request)?;
        assert_eq!(response.count, response.kvs.len() as i64);
        Ok(shown(&response.kvs))
    }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

fn shown(kvs: &[crate::proto::mvccpb::KeyValue]) -> String {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let words: Vec<_> =
        kvs.iter().map(|kv| format!("{}={}", text(&kv.key), text(&kv.value))).collect();
    words.join(" ")
}

fn revision(raw: i64) -> Revision {
    Revision::from_wire(raw).unwrap()
}

#[test]
fn a_read_sees_what_was_current_at_its_revision() {
    let store = Store::of("a=1 b=2 a=3 -a,c=4 a=5 -c");
    let check = |at, expected: &str| assert_eq!(store.all(at).unwrap(), expected, "at {at}");
    check(1, "");
    check(2, "a=1");
    check(3, "a=1 b=2");
    check(4, "a=3 b=2");
    check(5, "b=2 c=4");
    check(6, "a=5 b=2 c=4");
    check(7, "a=5 b=2");
    check(0, "a=5 b=2");
    check(-3, "a=5 b=2");
    assert_eq!(store.all(8), Err(Error::FutureRevision(revision(7))));
}

#[test]
fn generations_and_versions_are_counted() {
    let store = Store::of("a=1 a=2 -a a=3 a=4");
    let check = |at: i64, expected: (i64, i64, i64)| {
        let request = RangeRequest { key: "a".into(), revision: at, ..Default::default() };
        let kv = store.view().range(&request).unwrap().kvs.remove(0);
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), expected, "at {at}");
    };
    check(2, (2, 2, 1));
    check(3, (2, 3, 2));
    check(5, (5, 5, 1));
    check(6, (5, 6, 2));
}

#[test]
fn keys_with_many_versions_and_keys_that_begin_others_are_told_apart() {
    let many = "a=x ".repeat(50) + "ab=1 " + &"aa=y ".repeat(50) + "b=2";
    let store = Store::of(&many);
    assert_eq!(store.all(2).unwrap(), "a=x");
    assert_eq!(store.all(52).unwrap(), "a=x ab=1");
    assert_eq!(store.all(60).unwrap(), "a=x aa=y ab=1");
    assert_eq!(store.all(0).unwrap(), "a=x aa=y ab=1 b=2");
}

/// Ranges over `a=3 b=1 c=2`, where b was written last and c first; a was written twice.
#[test]
fn a_range_has_all_of_etcds_options() {
    let store = Store::of("c=2 a=0 a=3 b=1");
    let check = |change: &dyn Fn(&mut RangeRequest), expected: &str, count: i64, more: bool| {
        let mut request = everything();
        change(&mut request);
        let response = store.view().range(&request).unwrap();
        assert_eq!(shown(&response.kvs), expected, "{request:?}");
        assert_eq!((response.count, response.more), (count, more), "{request:?}");
        assert_eq!(response.header.unwrap().revision, 5);
    };
    let by = |target: SortTarget, order: SortOrder| {
        move |request: &mut RangeRequest| {
            request.set_sort_target(target);
            request.set_sort_order(order);
        }
    };
    check(&|_| {}, "a=3 b=1 c=2", 3, false);
    check(&|r| r.limit = 2, "a=3 b=1", 3, true);
    check(&|r| r.limit = 3, "a=3 b=1 c=2", 3, false);
    check(&|r| r.count_only = true, "", 3, false);
    check(&|r| r.keys_only = true, "a= b= c=", 3, false);
    check(&|r| r.min_mod_revision = 4, "a=3 b=1", 3, false);
    check(&|r| r.max_mod_revision = 4, "a=3 c=2", 3, false);
    check(&|r| r.min_create_revision = 3, "a=3 b=1", 3, false);
    check(&|r| r.max_create_revision = 2, "c=2", 3, false);
    check(&|r| (r.max_mod_revision, r.limit) = (4, 1), "a=3", 3, true);
    check(&by(SortTarget::Key, SortOrder::Descend), "c=2 b=1 a=3", 3, false);
    check(&by(SortTarget::Value, SortOrder::Ascend), "b=1 c=2 a=3", 3, false);
    check(&by(SortTarget::Mod, SortOrder::Descend), "b=1 a=3 c=2", 3, false);
    check(&by(SortTarget::Create, SortOrder::None), "c=2 a=3 b=1", 3, false);
    check(&by(SortTarget::Version, SortOrder::Descend), "a=3 b=1 c=2", 3, false);
    // The limit chooses by key first when no order is asked for.
    let unordered = |r: &mut RangeRequest| {
        by(SortTarget::Create, SortOrder::None)(r);
        r.limit = 1;
    };
    check(&unordered, "a=3", 3, true);
    let (b, c) = (Bytes::from("b"), Bytes::from("c"));
    check(&|r| (r.key, r.range_end) = (b.clone(), c.clone()), "b=1", 1, false);
    check(&|r| (r.key, r.range_end) = (c.clone(), b.clone()), "", 0, false);
    check(&|r| (r.key, r.range_end) = (b.clone(), Bytes::new()), "b=1", 1, false);
}

#[test]
fn compaction_keeps_what_a_read_at_the_floor_sees_and_a_tombstone_at_it() {
    let check = |history: &str, floors: &[i64], expected: &[i64]| {
        let mut store = Store::of(history);
        let before = store.all(*floors.last().unwrap()).unwrap();
        for floor in floors {
            store.compact(*floor);
            store.clean();
        }
        assert_eq!(store.stored(), expected, "{history} at {floors:?}");
        assert_eq!(store.all(*floors.last().unwrap()).unwrap(), before);
        assert!(!compaction::step(&store.storage).unwrap());
    };
    //     2   3   4   5  6   7   8
    let history = "a=1 b=1 a=2 -b a=3 b=2 -b";
    check(history, &[2], &[2, 3, 4, 5, 6, 7, 8]);
    check(history, &[4], &[3, 4, 5, 6, 7, 8]);
    check(history, &[5], &[4, 5, 6, 7, 8]);
    check(history, &[6], &[6, 7, 8]);
    check(history, &[5, 6], &[6, 7, 8]);
    check(history, &[4, 7], &[6, 7, 8]);
    check(history, &[8], &[6, 8]);
    check(history, &[2, 3, 4, 5, 6, 7, 8], &[6, 8]);
    let cleaned = history.to_owned() + " c=1";
    check(&cleaned, &[8, 9], &[6, 9]);
    check("a=1,b=1,c=1 -a,b=2 c=2", &[4], &[3, 4]);
}

#[test]
fn compaction_goes_on_in_steps_while_the_floor_moves() {
    let mut store = Store::of(&"a=1 b=1 -a ".repeat(1000));
    store.compact(1500);
    assert!(compaction::step(&store.storage).unwrap());
    let expected = store.all(2999).unwrap();
    store.compact(2999);
    store.clean();
    assert_eq!(store.all(2999).unwrap(), expected);
    assert_eq!(store.stored(), [2997, 2999, 3000, 3001]);
}

#[test]
fn reads_below_the_floor_are_refused() {
    let mut store = Store::of("a=1 a=2 a=3");
    store.compact(3);
    assert_eq!(store.all(2), Err(Error::Compacted(revision(3))));
    assert_eq!(store.all(3).unwrap(), "a=2");
    let history = |from| store.view().history(&[], revision(from), 0).map(|(_, next)| next);
    assert_eq!(history(2), Err(Error::Compacted(revision(3))));
    assert_eq!(history(3).unwrap(), revision(4));
    assert_eq!(store.head.check_compact(3), Err(Error::Compacted(revision(3))));
    assert_eq!(store.head.check_compact(5), Err(Error::FutureRevision(revision(4))));
}

#[test]
fn history_tells_what_happened_in_whole_revisions() {
    let store = Store::of("a=1 b=1,c=1 -a c=2");
    let all = [KeyRange::From(Bytes::new())];
    let told = |ranges: &[KeyRange], from: i64, max_bytes| {
        let (changes, next) = store.view().history(ranges, revision(from), max_bytes).unwrap();
        let mut words = Vec::new();
        for change in changes {
            for event in change.events {
                let kv = event.kv.unwrap();
                assert_eq!(kv.mod_revision, change.revision.get());
                let sign = if event.r#type == EventType::Delete as i32 { "-" } else { "" };
                words.push(format!("{}{sign}{}", change.revision, shown(&[kv])));
            }
        }
        (words.join(" "), next.get())
    };
    let check = |ranges: &[KeyRange], from, bytes, expected: &str, next| {
        assert_eq!(told(ranges, from, bytes), (expected.to_owned(), next));
    };
    check(&all, 1, usize::MAX, "2a=1 3b=1 3c=1 4-a= 5c=2", 6);
    check(&all, 3, usize::MAX, "3b=1 3c=1 4-a= 5c=2", 6);
    check(&all, 3, 1, "3b=1 3c=1", 4);
    check(&all, 1, 20, "2a=1", 3);
    check(&all, 6, usize::MAX, "", 6);
    check(&all, 9, usize::MAX, "", 9);
    check(&[KeyRange::One("c".into())], 1, usize::MAX, "3c=1 5c=2", 6);
    check(&[KeyRange::One("c".into())], 1, 1, "", 3);
    check(
        &[KeyRange::One("a".into()), KeyRange::One("b".into())],
        1,
        usize::MAX,
        "2a=1 3b=1 4-a=",
        6,
    );
}

#[test]
fn the_version_before_a_change_is_known_unless_it_is_compacted() {
    let mut store = Store::of("a=1 a=2 -a a=3");
    let before = |store: &Store, at| {
        let kv = store.view().before(b"a", revision(at)).unwrap();
        kv.map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    };
    let seen = |store: &Store| (1..=6).map(|at| before(store, at)).collect::<Vec<_>>();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seen(&store), [None, None, some("1"), some("2"), None, some("3")]);
    store.compact(3);
    assert_eq!(seen(&store), [None, None, None, some("2"), None, some("3")]);
}

/// Hash, compact revision (-1 for none) and hash revision, hashed in the middle of each round.
const IN_THE_MIDDLE: [(u32, i64, i64); 19] = [
    (4082599214, -1, 35),
    (2279933401, 35, 106),
    (3284231217, 106, 177),
    (126286495, 177, 248),
    (900108730, 248, 319),
    (2475485232, 319, 390),
    (1226296507, 390, 461),
    (2503661030, 461, 532),
    (4155130747, 532, 603),
    (106915399, 603, 674),
    (406914006, 674, 745),
    (1882211381, 745, 816),
    (806177088, 816, 887),
    (664311366, 887, 958),
    (1496914449, 958, 1029),
    (2434525091, 1029, 1100),
    (3988652253, 1100, 1171),
    (1122462288, 1171, 1242),
    (724436716, 1242, 1883),
];

/// The same, hashed at the end of each round.
const AT_THE_END: [(u32, i64, i64); 19] = [
    (1913897190, -1, 73),
    (224860069, 73, 145),
    (1565167519, 145, 217),
    (1566261620, 217, 289),
    (2037173024, 289, 361),
    (691659396, 361, 433),
    (2713730748, 433, 505),
    (3919322507, 505, 577),
    (769967540, 577, 649),
    (2909194793, 649, 721),
    (1576921157, 721, 793),
    (4067701532, 793, 865),
    (2226384237, 865, 937),
    (2923408134, 937, 1009),
    (2680329256, 1009, 1081),
    (1546717673, 1081, 1153),
    (2713657846, 1153, 1225),
    (1046575299, 1225, 1297),
    (2017735779, 1297, 2508),
];

/// The values that etcd's own tests hold it to (TestHashByRevValue, ...LastRevision).
#[test]
fn hash_kv_is_what_etcd_computes() {
    #[track_caller]
    fn check(at: impl Fn(i64) -> i64, clean: bool, expected: [(u32, i64, i64); 19]) {
        const CYCLE: i64 = 71;
        const TOTAL: i64 = 1210;
        let mut store = Store::new();
        let mut got = Vec::new();
        let mut hash = |store: &mut Store, at: i64| {
            let hash = store.view().hash_kv(at).unwrap();
            let compacted = hash.compact_revision.map_or(-1, Revision::get);
            got.push((hash.hash, compacted, hash.hash_revision));
            store.compact(hash.hash_revision);
            if clean {
                store.clean();
            }
        };
        let mut start = 0;
        while start < TOTAL {
            (start..=start + CYCLE).for_each(|i| store.write(&format!("{}={i}", picked(i))));
            hash(&mut store, at(start + CYCLE / 2));
            start += CYCLE;
        }
        (start..=start + TOTAL).for_each(|i| store.write(&format!("{}={i}", picked(i))));
        hash(&mut store, at(start + TOTAL / 2));
        assert_eq!(got, expected);
    }

    /// The key that etcd's tests write in their i-th put.
    fn picked(i: i64) -> &'static str {
        match (i % 142, i % 71) {
            (30, _) => "zenek",
            (_, 30) => "xavery",
            _ => ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"][i as usize % 7],
        }
    }

    for clean in [true, false] {
        check(|at| at, clean, IN_THE_MIDDLE);
        check(|_| 0, clean, AT_THE_END);
    }
}

#[test]
fn hash_kv_does_not_depend_on_how_far_compaction_has_come() {
    for history in
        ["a=1 b=1 a=2 -b a=3 c=1", "a=1 a=2 b=1 -b -a c=1 -c", "a=1 a=2 -a b=1,c=1 -b,-c"]
    {
        let mut store = Store::of(history);
        let newest = store.head.revision.get();
        for floor in 2..=newest {
            store.compact(floor);
            let hashes = |store: &Store| {
                let view = store.view();
                (floor..=newest).map(|at| view.hash_kv(at).unwrap().hash).collect::<Vec<_>>()
            };
            let before = hashes(&store);
            store.clean();
            assert_eq!(hashes(&store), before, "{history} at {floor}");
        }
    }
}
