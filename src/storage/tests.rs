//! The store as its users see it, also after crashes. A crash image is a copy of the directory made
//! while the store is open, since closing RocksDB writes out what a crash would lose.

#[path = "../../tests/model/crash_image.rs"]
mod crash_image;
mod versions;

use std::{fs, path::Path};

use bytes::Bytes;
use tempfile::TempDir;

use super::{Error, Import, Place, Position, Rows, Storage, tables::Table};
use crate::types::LogId;

fn position(index: u64) -> Position {
    let membership = Bytes::from(format!("members at {index}"));
    let id = LogId { term: 1, node: 2, index };
    Position { applied: Some(id), membership: Some((id, membership)) }
}

/// Writes `rows` rows whose values are `value`, applied up to `index`.
fn fill(storage: &Storage, index: u64, rows: usize, value: &str) {
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    for row in 0..rows {
        batch.put(Table::Revisions, &(row as u64).to_be_bytes(), value.to_owned());
    }
    let (id, membership) = position(index).membership.unwrap();
    batch.put_applied(id);
    batch.put_membership(id, &membership);
    batch.write().unwrap();
}

fn rows(storage: &Storage) -> Vec<(Bytes, Bytes)> {
    let snapshot = storage.snapshot();
    let mut cursor = snapshot.cursor(Table::Revisions);
    cursor.seek(&[]).unwrap();
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.row() {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        cursor.step().unwrap();
    }
    rows
}

fn open(path: &Path) -> Storage {
    Storage::open(Place::Directory(path)).unwrap()
}

fn crash_image(of: &Path) -> TempDir {
    let image = TempDir::new().unwrap();
    crash_image::take_image(of, image.path());
    image
}

fn transfer(from: &Storage, to: &Storage) -> Import {
    let mut import = to.begin_import().unwrap();
    for chunk in from.snapshot().export() {
        import.chunk(chunk.unwrap()).unwrap();
    }
    import
}

#[test]
fn a_batch_is_read_through_before_it_is_written() {
    let storage = Storage::open(Place::Memory).unwrap();
    fill(&storage, 1, 4, "old");
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    let key = |row: u64| row.to_be_bytes();
    batch.delete(Table::Revisions, &key(0));
    batch.delete(Table::Revisions, &key(1));
    batch.put(Table::Revisions, &key(2), "new");
    batch.put(Table::Revisions, &key(9), "new");
    batch.delete(Table::Revisions, &key(9));
    batch.put(Table::Revisions, &key(7), "new");
    batch.put(Table::Leases, &key(0), "of another table");

    let mut seen = Vec::new();
    let mut cursor = batch.cursor(Table::Revisions);
    cursor.seek(&[]).unwrap();
    while let Some((key, value)) = cursor.row() {
        seen.push((key[7], String::from_utf8(value.to_vec()).unwrap()));
        cursor.step().unwrap();
    }
    drop(cursor);
    assert_eq!(seen, [(2, "new".into()), (3, "old".into()), (7, "new".into())]);

    assert_eq!(batch.get(Table::Revisions, &key(0)).unwrap(), None);
    assert_eq!(batch.get(Table::Revisions, &key(3)).unwrap().unwrap(), "old");

    let expected: Vec<_> = [(2, "new"), (3, "old"), (7, "new")]
        .map(|(row, value)| (Bytes::from(key(row).to_vec()), Bytes::from(value)))
        .into();
    batch.write().unwrap();
    assert_eq!(rows(&storage), expected);
}

#[test]
fn a_snapshot_does_not_change() {
    let storage = Storage::open(Place::Memory).unwrap();
    fill(&storage, 1, 1, "old");
    let snapshot = storage.snapshot();
    fill(&storage, 2, 2, "new");
    assert_eq!(snapshot.get(Table::Revisions, &0u64.to_be_bytes()).unwrap().unwrap(), "old");
    assert_eq!(snapshot.get(Table::Revisions, &1u64.to_be_bytes()).unwrap(), None);
    assert_eq!(snapshot.position().unwrap(), position(1));
    assert_eq!(storage.snapshot().position().unwrap(), position(2));
}

#[test]
fn a_crash_loses_only_what_was_not_flushed() {
    let place = TempDir::new().unwrap();
    let storage = open(place.path());
    assert_eq!(storage.durable(), None);
    fill(&storage, 1, 10, "flushed");
    storage.flush().unwrap();
    assert_eq!(storage.durable(), position(1).applied);
    fill(&storage, 2, 10, "lost");
    assert_eq!(storage.durable(), position(1).applied);

    let image = crash_image(place.path());
    let reopened = open(image.path());
    assert_eq!(reopened.snapshot().position().unwrap(), position(1));
    assert_eq!(reopened.durable(), position(1).applied);
    assert!(rows(&reopened).iter().all(|(_, value)| value == "flushed"));

    storage.flush().unwrap();
    let image = crash_image(place.path());
    assert_eq!(open(image.path()).snapshot().position().unwrap(), position(2));
}

/// What a copy has that was made while the store was written to: all that was there when it began,
/// and RocksDB's list of files from when it ended.
fn slow_copy(of: &Path, meanwhile: impl FnOnce()) -> TempDir {
    let copied = crash_image(of);
    meanwhile();
    let end = crash_image(of);
    let list_of_files = |file: &fs::DirEntry| {
        file.file_name().to_str().is_some_and(|name| name.starts_with("MANIFEST-"))
    };
    for file in fs::read_dir(end.path().join("state-1")).unwrap().map(Result::unwrap) {
        if list_of_files(&file) {
            fs::copy(file.path(), copied.path().join("state-1").join(file.file_name())).unwrap();
        }
    }
    copied
}

#[test]
fn a_copy_that_lacks_files_opens_as_it_was_when_it_had_all() {
    let place = TempDir::new().unwrap();
    let storage = open(place.path());
    for index in 1..=3 {
        fill(&storage, index, 10 * index as usize, &format!("flush {index}"));
        storage.flush().unwrap();
    }
    let expected = rows(&storage);
    let copy = slow_copy(place.path(), || {
        for index in 4..=9 {
            fill(&storage, index, 100, &format!("flush {index}"));
            storage.flush().unwrap();
        }
        storage.reclaim().unwrap();
    });
    let before = crash_image(copy.path());
    let ordinary = Storage::open(Place::Directory(copy.path())).err().unwrap();
    assert!(matches!(ordinary, Error::Files { .. }), "{ordinary}");

    let mut asked = None;
    let refused = Storage::open_earlier(copy.path(), |applied| {
        asked = Some(applied);
        false
    });
    assert!(matches!(refused.err().unwrap(), Error::Files { .. }));
    assert_eq!(asked, position(3).applied);
    assert_eq!(files(copy.path()), files(before.path()), "nothing was changed");

    let earlier = Storage::open_earlier(copy.path(), |_| true).unwrap();
    assert_eq!(earlier.snapshot().position().unwrap(), position(3));
    assert_eq!(earlier.durable(), position(3).applied);
    assert_eq!(rows(&earlier), expected);
    fill(&earlier, 4, 50, "written after");
    earlier.flush().unwrap();
    let expected = rows(&earlier);
    drop(earlier);
    assert_eq!(rows(&open(copy.path())), expected);
}

/// RocksDB's files that hold data or list those that do, with their bytes.
fn files(place: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for file in fs::read_dir(place.join("state-1")).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        if name.ends_with(".sst") || name.starts_with("MANIFEST") || name == "CURRENT" {
            files.push((name, fs::read(file.path()).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn an_import_replaces_everything_and_readers_of_the_old_state_go_on() {
    let big = "x".repeat(300 << 10);
    let from = Storage::open(Place::Memory).unwrap();
    fill(&from, 7, 20, &big);
    let place = TempDir::new().unwrap();
    let to = open(place.path());
    fill(&to, 3, 30, "old");
    let old = to.snapshot();

    transfer(&from, &to).finish(&position(7)).unwrap();

    assert_eq!(rows(&to), rows(&from));
    assert_eq!(to.snapshot().position().unwrap(), position(7));
    assert_eq!(to.durable(), position(7).applied);
    assert_eq!(old.get(Table::Revisions, &29u64.to_be_bytes()).unwrap().unwrap(), "old");
    assert!(place.path().join("state-1").exists());
    drop(old);
    assert!(!place.path().join("state-1").exists());

    fill(&to, 8, 1, "written after");
    to.flush().unwrap();
    let image = crash_image(place.path());
    assert_eq!(open(image.path()).snapshot().position().unwrap(), position(8));
}

#[test]
fn a_crash_at_any_step_of_an_import_leaves_the_old_state_or_the_new_one() {
    let from = Storage::open(Place::Memory).unwrap();
    fill(&from, 7, 20, "new");
    let place = TempDir::new().unwrap();
    let to = open(place.path());
    fill(&to, 3, 30, "old");
    to.flush().unwrap();
    let (old, new) = (rows(&to), rows(&from));

    let mut images = Vec::new();
    let mut import = to.begin_import().unwrap();
    images.push(("begun", crash_image(place.path())));
    for chunk in from.snapshot().export() {
        import.chunk(chunk.unwrap()).unwrap();
        images.push(("chunk", crash_image(place.path())));
    }
    import
        .finish_observed(&position(7), &mut |step| images.push((step, crash_image(place.path()))))
        .unwrap();

    let mut renamed = false;
    for (step, image) in images {
        renamed |= step == "CURRENT renamed";
        let reopened = open(image.path());
        let expected = if renamed { (&new, position(7)) } else { (&old, position(3)) };
        assert_eq!(rows(&reopened), *expected.0, "{step}");
        assert_eq!(reopened.snapshot().position().unwrap(), expected.1, "{step}");
        let kept = fs::read_dir(image.path()).unwrap().count();
        assert!(kept <= 4, "{step}: one generation, LOCK, CURRENT and its next, not {kept}");
    }
    assert!(renamed);
}

#[test]
fn a_snapshot_that_is_not_what_was_announced_is_refused_and_leaves_nothing() {
    let from = Storage::open(Place::Memory).unwrap();
    fill(&from, 7, 20, &"x".repeat(100 << 10));
    let chunks: Vec<Bytes> = from.snapshot().export().map(Result::unwrap).collect();
    assert!(chunks.len() >= 3);
    let place = TempDir::new().unwrap();
    let to = open(place.path());
    fill(&to, 3, 30, "old");
    let before = rows(&to);

    let check = |chunks: Vec<Bytes>, expected: Position| {
        let mut import = to.begin_import().unwrap();
        let taken = chunks.into_iter().try_for_each(|chunk| import.chunk(chunk));
        let result = taken.and_then(|()| import.finish(&expected));
        assert!(matches!(result, Err(Error::Import(_))), "{result:?}");
        assert_eq!(rows(&to), before);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "state-1, CURRENT, LOCK");
    };
    check(chunks.clone(), position(8));
    check(chunks[..chunks.len() - 1].to_vec(), position(7));
    check([&chunks[..1], &chunks[2..]].concat(), position(7));
    check([&chunks[1..2], &chunks[..]].concat(), position(7));
    check([&chunks[..], &chunks[..1]].concat(), position(7));
    let mut flipped = chunks.clone();
    let mut bytes = flipped[1].to_vec();
    bytes[1000] ^= 1;
    flipped[1] = bytes.into();
    check(flipped, position(7));
    check(vec![Bytes::new()], position(7));
}

#[test]
fn what_is_not_a_store_of_this_format_is_refused() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("CURRENT"), "something else").unwrap();
    assert!(matches!(Storage::open(Place::Directory(place.path())), Err(Error::Files { .. })));

    let place = TempDir::new().unwrap();
    let storage = open(place.path());
    fill(&storage, 1, 1, "kept");
    drop(storage);
    fs::remove_file(place.path().join("CURRENT")).unwrap();
    assert!(matches!(Storage::open(Place::Directory(place.path())), Err(Error::Files { .. })));

    let place = TempDir::new().unwrap();
    let storage = open(place.path());
    let snapshot = storage.snapshot();
    let mut batch = snapshot.batch();
    batch.put(Table::Meta, &[0], 99u64.to_be_bytes().to_vec());
    batch.write().unwrap();
    drop((snapshot, storage));
    let error = Storage::open(Place::Directory(place.path())).err().unwrap().to_string();
    assert!(error.contains("format 99"), "{error}");
}

#[test]
fn the_checksum_is_that_of_the_rows_whatever_wrote_them() {
    // More than one chunk of an export.
    let value = "v".repeat(1000);
    let (one, other) =
        (Storage::open(Place::Memory).unwrap(), Storage::open(Place::Memory).unwrap());
    let checksum = |storage: &Storage| storage.snapshot().checksum().unwrap();
    let empty = checksum(&one);
    assert_eq!(checksum(&other), empty);
    fill(&one, 1, 3000, &value);
    fill(&other, 9, 2000, "early");
    fill(&other, 1, 3000, &value);
    other.flush().unwrap();
    assert_ne!(checksum(&one), empty);
    assert_eq!(checksum(&one), checksum(&other));
    fill(&other, 2, 1, &value);
    assert_ne!(checksum(&one), checksum(&other));
}

#[test]
fn a_first_start_that_was_interrupted_is_begun_anew() {
    let place = TempDir::new().unwrap();
    fs::create_dir_all(place.path().join("state-1")).unwrap();
    fs::write(place.path().join("state-1/LOCK"), "").unwrap();
    let storage = open(place.path());
    fill(&storage, 1, 1, "first");
    assert_eq!(rows(&storage).len(), 1);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let place = TempDir::new().unwrap();
    let _first = open(place.path());
    assert!(matches!(Storage::open(Place::Directory(place.path())), Err(Error::Files { .. })));
}
