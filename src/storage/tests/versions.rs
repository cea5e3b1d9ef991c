//! Searches for rows, compared with a map: through a batch, in memory, in files of several levels
//! and after reopening.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::open;
use crate::{
    storage::{
        Rows, Storage,
        tables::{self, Table},
    },
    types::Revision,
};

/// Beginnings of each other, next to each other, and with the bytes that escaping is about.
const KEYS: [&[u8]; 12] = [
    b"",
    b"\0",
    b"\0\0",
    b"\0\x01",
    b"\0\xff",
    b"a",
    b"a\0",
    b"a\0\x01",
    b"a\x01",
    b"ab",
    b"\xff",
    b"\xff\xff",
];

const REVISIONS: i64 = 6;

/// Rows of all tables by table and key.
type Model = BTreeMap<(u8, Vec<u8>), Bytes>;

/// A row that is put, or removed.
#[derive(Clone, Debug)]
struct Change {
    table: Table,
    key: Vec<u8>,
    value: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Afterwards {
    GoOn,
    Flush,
    /// Everything to the last level.
    Compact,
    Reopen,
}

fn revision(number: i64) -> Revision {
    Revision::from_wire(number).unwrap()
}

fn version_key(key: &[u8], at: i64) -> Vec<u8> {
    tables::version_key(&tables::escaped(key), revision(at))
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop::sample::select(&KEYS[..]);
    let version = (key(), 1..=REVISIONS).prop_map(|(key, at)| version_key(key, at));
    let row = prop_oneof![
        4 => version.prop_map(|key| (Table::Versions, key)),
        1 => key().prop_map(|key| (Table::Revisions, key.to_vec())),
        1 => key().prop_map(|key| (Table::Leases, key.to_vec())),
    ];
    let value = prop_oneof![
        1 => Just(None),
        3 => any::<[u8; 4]>().prop_map(|value| Some(Bytes::copy_from_slice(&value))),
    ];
    (row, value).prop_map(|((table, key), value)| Change { table, key, value })
}

fn step() -> impl Strategy<Value = (Vec<Change>, Afterwards)> {
    let afterwards = prop_oneof![
        2 => Just(Afterwards::GoOn),
        3 => Just(Afterwards::Flush),
        1 => Just(Afterwards::Compact),
        1 => Just(Afterwards::Reopen),
    ];
    (prop::collection::vec(change(), 0..8), afterwards)
}

/// Newest versions, rows by key and rows in order, all as in the model.
fn check(rows: &dyn Rows, model: &Model) -> Result<(), TestCaseError> {
    let table = |table: Table| {
        let of_it = model.range((table as u8, Vec::new())..(table as u8 + 1, Vec::new()));
        of_it.map(|((_, key), value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    let versions = table(Table::Versions);
    for key in KEYS {
        // Upwards and downwards: what one search has found may answer the next.
        for at in (1..=REVISIONS).chain((1..=REVISIONS).rev()) {
            let expected = (1..=at).rev().find_map(|main| {
                let row = model.get(&(Table::Versions as u8, version_key(key, main)))?;
                Some((revision(main), row.clone()))
            });
            let found = rows.newest_version(&tables::escaped(key), revision(at)).unwrap();
            prop_assert_eq!(found, expected, "{:?} at {}", key, at);
        }
    }
    for of in [Table::Versions, Table::Revisions, Table::Leases] {
        let mut cursor = rows.cursor(of);
        cursor.seek(&[]).unwrap();
        let mut walked = Vec::new();
        while let Some((key, value)) = cursor.row() {
            walked.push((key.to_vec(), Bytes::copy_from_slice(value)));
            cursor.step().unwrap();
        }
        prop_assert_eq!(walked, table(of));
    }
    let beginnings = KEYS.iter().map(|key| tables::escaped(key));
    for from in beginnings.chain(KEYS.iter().map(|key| version_key(key, REVISIONS / 2))) {
        let mut cursor = rows.cursor(Table::Versions);
        cursor.seek(&from).unwrap();
        let expected = versions.iter().find(|(key, _)| *key >= from);
        let expected = expected.map(|(key, value)| (key.as_slice(), value.as_ref()));
        prop_assert_eq!(cursor.row(), expected, "from {:?}", from);
    }
    // In no order, some of them twice.
    let order = || KEYS.iter().chain(&KEYS[3..6]).rev();
    let expected = order().map(|key| model.get(&(Table::Revisions as u8, key.to_vec())).cloned());
    let wanted: Vec<&[u8]> = order().copied().collect();
    let found = rows.get_all(Table::Revisions, &wanted).unwrap();
    prop_assert_eq!(&found, &expected.collect::<Vec<_>>());
    let single = wanted.iter().map(|key| rows.get(Table::Revisions, key).unwrap());
    prop_assert_eq!(found, single.collect::<Vec<_>>());
    Ok(())
}

fn note(model: &mut Model, change: &Change) {
    let row = (change.table as u8, change.key.clone());
    match &change.value {
        Some(value) => model.insert(row, value.clone()),
        None => model.remove(&row),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn searches_agree_with_a_map_wherever_the_rows_are(
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let place = TempDir::new().unwrap();
        let mut storage = open(place.path());
        let mut model = Model::new();
        check(&storage.snapshot(), &model)?;
        for (changes, afterwards) in steps {
            write(&storage, &mut model, &changes)?;
            match afterwards {
                Afterwards::GoOn => (),
                Afterwards::Flush => storage.flush().unwrap(),
                Afterwards::Compact => compact(&storage),
                Afterwards::Reopen => {
                    drop(storage);
                    storage = open(place.path());
                }
            }
            check(&storage.snapshot(), &model)?;
        }
    }
}

/// Writes one batch and looks through it after each of its changes.
fn write(storage: &Storage, model: &mut Model, changes: &[Change]) -> Result<(), TestCaseError> {
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    let before = model.clone();
    for change in changes {
        match &change.value {
            Some(value) => batch.put(change.table, &change.key, value.clone()),
            None => batch.delete(change.table, &change.key),
        }
        note(model, change);
        check(&batch, model)?;
    }
    batch.write().unwrap();
    check(&snapshot, &before)
}

fn compact(storage: &Storage) {
    storage.flush().unwrap();
    storage.shared.current.load().db.compact_range::<&[u8], &[u8]>(None, None);
}
