//! Files that were written are read again; damaged ones are refused.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Write},
};

use proptest::prelude::*;

use super::*;

type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn written(content: &Content) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for (name, rows) in content {
        let mut bucket = writer.bucket(name);
        for (key, value) in rows {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    let (out, size) = writer.finish().unwrap();
    assert_eq!(out.get_ref().len() as u64, size);
    out.into_inner()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Content, Error> {
    let database = Database::open(file(bytes))?;
    let mut content = Content::new();
    for name in database.buckets()? {
        let name = String::from_utf8_lossy(&name).into_owned();
        let rows = database.small_bucket(&name)?;
        content.insert(name, rows);
    }
    Ok(content)
}

fn numbered(rows: u32, value: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..rows).map(|number| (number.to_be_bytes().to_vec(), value.to_vec())).collect()
}

/// Buckets of every shape: none, one leaf, values over many pages, a tree of three heights.
fn content() -> Content {
    Content::from([
        ("empty".into(), BTreeMap::new()),
        ("large".into(), numbered(3, &[7; 100_000])),
        ("long keys".into(), (0..9).map(|it| (vec![it; 5000], vec![])).collect()),
        ("one".into(), numbered(1, b"value")),
        ("tall".into(), numbered(30_000, &[1; 40])),
    ])
}

#[test]
fn what_was_written_is_read_again() {
    let content = content();
    assert_eq!(read(&written(&content)).unwrap(), content);
    assert_eq!(read(&written(&Content::new())).unwrap(), Content::new());
}

#[test]
fn a_checksum_behind_the_file_does_no_harm() {
    let mut bytes = written(&content());
    let size = bytes.len() as u64;
    bytes.extend([9; 32]);
    assert_eq!(Database::open(file(&bytes)).unwrap().size(), size);
    assert_eq!(read(&bytes).unwrap(), content());
}

#[test]
fn one_damaged_meta_is_survived() {
    let bytes = written(&content());
    for meta in 0..2 {
        let mut bytes = bytes.clone();
        bytes[meta * PAGE_BYTES + PAGE_HEADER_BYTES + 20] ^= 1;
        assert_eq!(read(&bytes).unwrap(), content());
    }
}

#[test]
fn what_is_no_file_of_bbolt_is_refused_in_its_words() {
    let refused = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(refused(b""), "invalid database");
    assert_eq!(refused(&[7; 10_000]), "invalid database");
    let bytes = written(&content());
    assert_eq!(refused(&bytes[..bytes.len() - PAGE_BYTES]), "the file is cut off");
    let damage = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[PAGE_HEADER_BYTES + at] ^= 1;
        bytes[PAGE_BYTES + PAGE_HEADER_BYTES + at] ^= 1;
        refused(&bytes)
    };
    assert_eq!([damage(4), damage(60)], ["version mismatch", "checksum error"]);
}

#[test]
fn keys_out_of_order_are_not_written() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    let mut bucket = writer.bucket("b");
    bucket.put(b"b", b"").unwrap();
    for key in [&b"b"[..], b"a", b""] {
        assert_eq!(bucket.put(key, b"").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

/// A branch that is its own child.
#[test]
fn pages_that_go_round_in_circles_end() {
    let content = Content::from([("tall".into(), numbered(30_000, &[1; 40]))]);
    let bytes = written(&content);
    let pages = bytes.chunks(PAGE_BYTES).enumerate();
    let branches: Vec<usize> = pages
        .filter(|(_, page)| u16_at(page, 8) == Some(Kind::Branch as u16))
        .map(|(number, _)| number)
        .collect();
    assert!(branches.len() > 2);
    for number in branches {
        let mut bytes = bytes.clone();
        for element in 0..3 {
            let at = number * PAGE_BYTES + PAGE_HEADER_BYTES + element * ELEMENT_BYTES + 8;
            bytes[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        read(&bytes).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever byte is changed: an error, or other rows, but no panic and an end.
    #[test]
    fn damage_is_noticed_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let content = Content::from([
            ("empty".into(), BTreeMap::new()),
            ("large".into(), numbered(2, &[7; 9000])),
            ("tall".into(), numbered(400, &[1; 60])),
        ]);
        let mut bytes = written(&content);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn any_rows_come_back(
        rows in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..40),
            prop::collection::vec(any::<u8>(), 0..300),
            0..200,
        ),
    ) {
        let content = Content::from([("b".into(), rows)]);
        prop_assert_eq!(read(&written(&content)).unwrap(), content);
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(read(&bytes).is_err());
    }
}
