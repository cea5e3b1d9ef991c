//! Directories that etcd left behind: its file, and the log behind it.

use std::{
    fs::{self, File},
    path::Path,
};

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;

use super::{history, put, restored, saved, store};
use crate::{
    exchange::{Error, LeftBehind, Source, find},
    mvcc::View,
    proto::{etcddisk, etcdserverpb::PutRequest},
    storage::Storage,
};

/// A data directory as etcd leaves it: a file with the first entries, a log with more.
struct Left {
    folder: TempDir,
    checksum: u32,
    log: Vec<u8>,
}

impl Left {
    fn new(database: &[u8]) -> Left {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("member/snap")).unwrap();
        fs::create_dir_all(folder.path().join("member/wal")).unwrap();
        fs::write(folder.path().join("member/snap/db"), database).unwrap();
        let mut left = Left { folder, checksum: 0, log: Vec::new() };
        left.record(4, Vec::new());
        left.record(1, b"metadata".to_vec());
        left
    }

    fn record(&mut self, r#type: i64, data: Vec<u8>) {
        self.checksum = crc32c::crc32c_append(self.checksum, &data);
        let record = etcddisk::Record { r#type, crc: self.checksum, data: data.into() };
        let bytes = record.encode_to_vec();
        let filler = (8 - bytes.len() % 8) % 8;
        let high = if filler == 0 { 0 } else { 0x80 | filler as u64 };
        self.log.extend((bytes.len() as u64 | high << 56).to_le_bytes());
        self.log.extend(bytes);
        self.log.extend(vec![0; filler]);
    }

    fn entry(&mut self, index: u64, request: etcddisk::InternalRaftRequest) {
        let data = request.encode_to_vec().into();
        self.record(2, etcddisk::Entry { r#type: 0, term: 3, index, data }.encode_to_vec());
    }

    fn put(&mut self, index: u64, key: &'static str) {
        let put = PutRequest { key: key.into(), ..PutRequest::default() };
        self.entry(index, etcddisk::InternalRaftRequest { put: Some(put), ..Default::default() });
    }

    fn commit(&mut self, commit: u64) {
        self.record(3, etcddisk::HardState { term: 3, vote: 1, commit }.encode_to_vec());
    }

    fn write(&self, name: &str) -> LeftBehind {
        let path = self.folder.path();
        fs::write(path.join("member/wal").join(name), &self.log).unwrap();
        find(path).unwrap()
    }

    /// As it is written in one file.
    fn restored(&self) -> Result<Storage, Error> {
        restored(Source::DataDir(&self.write("0000000000000000-0000000000000000.wal")), None)
    }
}

/// Which of the keys are there.
fn keys(storage: &Storage) -> String {
    let view = View::new(storage.snapshot()).unwrap();
    let request = crate::proto::etcdserverpb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    let found = view.range(&request).unwrap().kvs;
    found.iter().map(|kv| String::from_utf8_lossy(&kv.key)).collect::<Vec<_>>().join(" ")
}

/// The file holds entries 0 to 9 and keys b, c and d.
fn left() -> Left {
    let mut left = Left::new(&saved(&store(history())));
    left.put(8, "before");
    left.put(9, "before");
    left
}

#[test]
fn entries_behind_the_file_are_taken_from_the_log() {
    let mut left = left();
    left.put(10, "new");
    left.record(
        2,
        etcddisk::Entry { r#type: 1, term: 3, index: 11, ..Default::default() }.encode_to_vec(),
    );
    left.put(12, "replaced");
    left.put(12, "newer");
    left.commit(12);
    left.put(13, "newest");
    let restored = left.restored().unwrap();
    assert_eq!(keys(&restored), "b c d new newer newest");
    assert_eq!(View::new(restored.snapshot()).unwrap().revision().get(), 12);
}

#[test]
fn requests_of_version_2_and_about_members_are_passed_over() {
    let mut left = left();
    let attributes = b"\x08\x05\x12\x03PUT\x1a\x1a/0/members/8e9e/attributes\"\x02{}";
    let data = Bytes::from_static(attributes);
    left.record(2, etcddisk::Entry { r#type: 0, term: 3, index: 10, data }.encode_to_vec());
    let version = etcddisk::InternalRaftRequest {
        cluster_version_set: Some("x".into()),
        ..Default::default()
    };
    left.entry(11, version);
    left.put(12, "new");
    left.commit(12);
    assert_eq!(keys(&left.restored().unwrap()), "b c d new");
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let mut changed = left();
    let enabled =
        etcddisk::InternalRaftRequest { auth_enable: Some("".into()), ..Default::default() };
    changed.entry(10, enabled);
    changed.commit(10);
    let words =
        "entry 10 of the log cannot be taken over: users, roles or auth itself were changed";
    assert_eq!(changed.restored().unwrap_err().to_string(), words);

    let mut short = left();
    short.commit(11);
    let error = short.restored().unwrap_err().to_string();
    assert!(error.ends_with("ends at entry 9, and 11 is committed"), "{error}");

    let mut gap = left();
    gap.put(11, "new");
    let error = gap.restored().unwrap_err().to_string();
    assert!(error.ends_with("has no entry before 11"), "{error}");

    let late = left();
    let found = late.write("0000000000000003-0000000000000020.wal");
    let error = restored(Source::DataDir(&found), None).unwrap_err().to_string();
    assert!(error.ends_with("does not reach back to entry 10"), "{error}");
}

#[test]
fn a_log_goes_on_from_file_to_file() {
    let mut left = left();
    left.put(10, "new");
    left.write("0000000000000000-0000000000000000.wal");
    left.log.clear();
    let checksum = left.checksum;
    left.record(4, Vec::new());
    left.put(11, "newer");
    left.commit(11);
    let found = left.write("0000000000000001-000000000000000b.wal");
    let source = Source::DataDir(&found);
    assert_eq!(keys(&restored(source, None).unwrap()), "b c d new newer");
    fs::rename(
        found.wal.join("0000000000000001-000000000000000b.wal"),
        found.wal.join("0000000000000002-000000000000000b.wal"),
    )
    .unwrap();
    assert!(restored(source, None).unwrap_err().to_string().contains("lacks what comes before"));
    assert_ne!(checksum, 0);
}

/// The end of a log may be torn; damage before it is not passed over.
#[test]
fn a_torn_end_is_cut_off_and_damage_is_refused() {
    let mut left = left();
    left.put(10, "new");
    left.commit(10);
    let whole = left.log.len();
    left.put(11, "torn");
    let complete = left.log.clone();
    for length in whole..complete.len() {
        left.log = complete[..length].to_vec();
        assert_eq!(keys(&left.restored().unwrap()), "b c d new");
    }
    left.log = [&complete[..whole], &[0; 4096]].concat();
    assert_eq!(keys(&left.restored().unwrap()), "b c d new");
    for at in (0..whole).step_by(7) {
        left.log = complete.clone();
        left.log[at] ^= 0x55;
        // Noticed, or in what fills a record up.
        let _ = left.restored();
    }
    left.log = complete.clone();
    let at = complete.windows(3).position(|part| part == b"new").unwrap();
    left.log[at] ^= 1;
    let error = left.restored().unwrap_err().to_string();
    assert!(error.ends_with("the checksum is wrong"), "{error}");
}

#[test]
fn a_received_snapshot_takes_the_files_place() {
    let newer = saved(&store(history().into_iter().chain([put("received", "", 0)])));
    let mut left = Left::new(&saved(&store(history())));
    let snap = left.folder.path().join("member/snap");
    fs::write(snap.join("000000000000000a.snap.db"), newer).unwrap();
    left.record(5, etcddisk::Snapshot { index: 10, term: 3 }.encode_to_vec());
    left.put(11, "new");
    left.commit(11);
    assert_eq!(keys(&left.restored().unwrap()), "b c d new received");
}

#[test]
fn a_directory_in_use_is_refused() {
    let left = left();
    let held = File::open(left.folder.path().join("member/snap/db")).unwrap();
    held.lock().unwrap();
    let error = left.restored().unwrap_err().to_string();
    assert!(error.ends_with("is in use by another process; stop etcd first"), "{error}");
    drop(held);
    assert!(find(Path::new("/no/such/directory")).is_none());
}
