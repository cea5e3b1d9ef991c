//! The log as a whole, one situation at a time. `tests/log_faults.rs` has the random ones.

use std::{
    path::Path,
    sync::{Mutex, mpsc},
};

use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};

use super::*;

const DIR: &str = "/log";

fn options(cache_bytes: usize) -> Options {
    Options { dir: PathBuf::from(DIR), group: 0, segment_bytes: 4096, cache_bytes }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let payload = Bytes::from(vec![term as u8 ^ index as u8; size]);
    Entry { id: id(term, index), kind: EntryKind::Command, payload }
}

/// A log in memory whose writer runs when it is told to.
struct Bench {
    log: Log,
    pool: LocalPool,
    flushed: Arc<Mutex<Vec<io::Result<()>>>>,
}

impl Bench {
    fn open(files: &FaultyFiles, options: Options) -> Result<Bench, Error> {
        let (log, writer) = Log::open(Arc::new(files.clone()), options)?;
        let pool = LocalPool::new();
        pool.spawner().spawn_local(writer.run()).unwrap();
        Ok(Bench { log, pool, flushed: Arc::default() })
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let flushed = self.flushed.clone();
        self.log.append(entries, Box::new(move |result| flushed.lock().unwrap().push(result)));
    }

    #[track_caller]
    fn write(&mut self) {
        self.pool.run_until_stalled();
        assert!(self.flushed.lock().unwrap().iter().all(Result::is_ok));
    }

    fn all(&self) -> Vec<Entry> {
        self.log.entries(0..u64::MAX, usize::MAX).unwrap()
    }
}

fn segments(files: &FaultyFiles) -> Vec<PathBuf> {
    let mut names = files.list(Path::new(DIR)).unwrap();
    names.retain(|name| segment::sequence_of(name).is_some());
    names.sort();
    names.iter().map(|name| Path::new(DIR).join(name)).collect()
}

/// Five acknowledged batches over two segments, as a killed process leaves them.
fn written() -> (FaultyFiles, State, Vec<Entry>) {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    for index in 1..=5 {
        bench.append(vec![entry(1, index, 700)]);
        bench.write();
    }
    let vote = Vote { term: 2, node: 3, committed: false };
    let mut saved = Box::pin(bench.log.save_vote(vote));
    assert!(saved.as_mut().now_or_never().is_none());
    drop(saved);
    bench.log.save_committed(Some(id(1, 4)));
    bench.append(vec![entry(2, 6, 30), entry(2, 7, 0)]);
    bench.write();
    assert_eq!(segments(&files).len(), 2);
    (files, bench.log.state(), bench.all())
}

#[test]
fn a_flipped_bit_in_what_was_acknowledged_is_refused_and_any_other_changes_nothing() {
    let (files, state, entries) = written();
    let names = files.list(Path::new(DIR)).unwrap();
    let mut refused = 0;
    for path in names.iter().map(|name| Path::new(DIR).join(name)) {
        let content = files.content(&path).unwrap();
        for byte in 0..content.len() {
            let mut flipped = content.clone();
            flipped[byte] ^= 1 << (byte % 8);
            let damaged = files.copy();
            damaged.set_content(&path, flipped);
            match Bench::open(&damaged, options(0)) {
                Err(Error::Corrupt { file, .. }) => {
                    // A flip in the format number looks like a newer format.
                    assert_eq!(file, path);
                    refused += 1;
                }
                Err(Error::Format { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
                Ok(bench) => {
                    assert_eq!((bench.log.state(), bench.all()), (state, entries.clone()));
                }
            }
        }
    }
    // Two headers and all records, but not the newest mark.
    let records: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    assert!(refused > 2 * segment::HEADER_BYTES + records, "{refused}");
}

#[test]
fn the_newest_acknowledged_record_is_refused_when_damaged() {
    let (files, ..) = written();
    let path = segments(&files).pop().unwrap();
    let mut content = files.content(&path).unwrap();
    let newest = entry(2, 6, 30).payload;
    let at = content.windows(30).rposition(|window| window == newest).unwrap();
    content[at] ^= 1;
    files.set_content(&path, content);
    let error = Bench::open(&files, options(0)).err().unwrap();
    assert!(error.to_string().contains("0000000000000002.log is damaged at offset"), "{error}");
    assert!(error.to_string().ends_with("a record that was durable is damaged"), "{error}");
}

#[test]
fn what_was_found_on_opening_counts_as_acknowledged() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    files.fail_after(2, Fault::Io); // write, fsync, mark
    bench.append(vec![entry(1, 1, 100)]);
    bench.pool.run_until_stalled();
    drop(bench);
    assert_eq!(Bench::open(&files, options(0)).unwrap().all(), [entry(1, 1, 100)]);
    let path = segments(&files).remove(0);
    let mut content = files.content(&path).unwrap();
    content[600] ^= 1;
    files.set_content(&path, content);
    assert!(matches!(Bench::open(&files, options(0)), Err(Error::Corrupt { offset: 512, .. })));
}

#[test]
fn a_batch_that_was_never_acknowledged_may_be_torn_anywhere() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    bench.append(vec![entry(1, 1, 100)]);
    bench.write();
    let path = segments(&files).remove(0);
    let before = files.content(&path).unwrap();
    bench.append(vec![entry(1, 2, 100), entry(1, 3, 100)]);
    bench.append(vec![entry(1, 4, 100)]);
    bench.write();
    let written = files.content(&path).unwrap();
    drop(bench);
    let start = (0..before.len()).find(|byte| before[*byte] != written[*byte]).unwrap();
    // The mark behind the batch was not written when it was torn.
    let mark_start = written.iter().rposition(|byte| *byte != 0).unwrap() - 43;
    for torn_at in start..mark_start {
        let mut content = before.clone();
        content[start..torn_at].copy_from_slice(&written[start..torn_at]);
        let torn = files.copy();
        torn.set_content(&path, content);
        let mut bench = Bench::open(&torn, options(0)).unwrap();
        let found = bench.all().len() as u64;
        assert!([1, 3, 4].contains(&found), "{found} entries after a tear at {torn_at}");
        bench.append(vec![entry(2, found + 1, 10)]);
        bench.write();
        let again = Bench::open(&torn, options(0)).unwrap();
        assert_eq!(again.all().len() as u64, found + 1);
    }
}

/// Both uses of a file write records of the same sizes, so behind the end of the second use whole
/// records of the first stand exactly where the next record would.
#[test]
fn stale_records_behind_a_torn_tail_of_a_recycled_segment_are_not_taken_for_records() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    // Four such batches fill a segment.
    for index in 1..=8 {
        bench.append(vec![entry(1, index, 700)]);
        bench.write();
    }
    let first_use = files.content(&segments(&files)[0]).unwrap();
    bench.log.purge(id(1, 4));
    bench.append(vec![entry(1, 9, 700)]);
    bench.write();
    bench.append(vec![entry(1, 10, 700)]);
    bench.write();
    let path = segments(&files).pop().unwrap();
    let content = files.content(&path).unwrap();
    let differs = (0..content.len()).rev().find(|byte| content[*byte] != first_use[*byte]).unwrap();
    let end = (differs + 1).next_multiple_of(record::ALIGNMENT);
    assert!(content[end..end + 700].iter().any(|byte| *byte != 0), "the file was not recycled");
    let stale = Bytes::copy_from_slice(&first_use[end..]);
    let claimed = record::claimed_size(&stale).unwrap();
    assert_eq!(claimed, record::entries_size(&[entry(1, 1, 700)]), "no stale record stands there");

    let expected = bench.all();
    let killed = files.copy();
    assert_eq!(Bench::open(&killed, options(0)).unwrap().all(), expected);

    // The next batch is torn: its last sectors still hold the stale bytes.
    for seed in 0..50 {
        let torn = FaultyFiles::new(seed);
        for name in files.list(Path::new(DIR)).unwrap() {
            let path = Path::new(DIR).join(name);
            torn.set_content(&path, files.content(&path).unwrap());
        }
        let mut lost = content.clone();
        let mut batch = Vec::new();
        record::encode_entries(&mut batch, seed as u32, 0, &[entry(1, 11, 700)]);
        lost[end..end + 300].copy_from_slice(&batch[..300]);
        torn.set_content(&path, lost);
        let mut bench = Bench::open(&torn, options(0)).unwrap();
        assert_eq!(bench.all(), expected);
        bench.append(vec![entry(3, 11, 10)]);
        bench.write();
        torn.lose_power();
        let again = Bench::open(&torn, options(0)).unwrap();
        assert_eq!(again.log.state().last, Some(id(3, 11)));
    }
}

#[test]
fn a_cut_or_missing_file_is_refused() {
    let (files, ..) = written();
    let paths = segments(&files);
    for path in &paths {
        let content = files.content(path).unwrap();
        for length in [0, 100, 512, 1000, 3000] {
            let cut = files.copy();
            cut.set_content(path, content[..length].to_vec());
            let error = Bench::open(&cut, options(0)).err().unwrap();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
    }
    let missing = files.copy();
    missing.remove(&paths[0]).unwrap();
    let error = Bench::open(&missing, options(0)).err().unwrap();
    assert_eq!(error.to_string(), "log in /log has no entries from 1 to 4");
}

#[test]
fn a_segment_under_another_name_or_of_another_group_is_refused() {
    let (files, ..) = written();
    let paths = segments(&files);
    let renamed = files.copy();
    renamed.rename(&paths[1], &Path::new(DIR).join(segment::file_name(3))).unwrap();
    let error = Bench::open(&renamed, options(0)).err().unwrap();
    assert!(error.to_string().contains("header is that of another segment"), "{error}");
    let other = Options { group: 1, ..options(0) };
    let error = Bench::open(&files, other).err().unwrap();
    assert!(error.to_string().ends_with("belongs to Raft group 0, not 1"), "{error}");
}

#[test]
fn a_record_that_rots_while_the_log_is_open_is_an_error_for_who_reads_it() {
    let (files, ..) = written();
    let bench = Bench::open(&files, options(0)).unwrap();
    let file = files.open(&segments(&files)[0]).unwrap();
    file.write_at(&[0xFF; 8], 700).unwrap();
    let error = bench.log.entries(1..3, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(bench.log.entries(3..5, usize::MAX).unwrap().len(), 2);
}

#[test]
fn entries_are_cut_by_bytes_but_there_is_one_at_least() {
    for cache_bytes in [0, usize::MAX] {
        let files = FaultyFiles::new(1);
        let mut bench = Bench::open(&files, options(cache_bytes)).unwrap();
        bench.append((1..=9).map(|index| entry(1, index, 100)).collect());
        for written in [false, true] {
            if written {
                bench.write();
            }
            let indexes = |range, max_bytes| -> Vec<u64> {
                let entries = bench.log.entries(range, max_bytes).unwrap();
                entries.iter().map(|entry| entry.id.index).collect()
            };
            assert_eq!(indexes(2..5, 10_000), [2, 3, 4]);
            assert_eq!(indexes(2..9, 200), [2, 3]);
            assert_eq!(indexes(2..9, 299), [2, 3]);
            assert_eq!(indexes(2..9, 0), [2]);
            assert_eq!(indexes(0..2, 1000), [1]);
            assert_eq!(indexes(9..20, 1000), [9]);
            assert_eq!(indexes(10..20, 1000), [0; 0]);
            assert_eq!(indexes(5..5, 1000), [0; 0]);
        }
    }
}

#[test]
fn entries_that_do_not_continue_the_log_are_refused() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    bench.append(vec![entry(1, 1, 1), entry(1, 2, 1)]);
    bench.append(vec![entry(1, 4, 1)]);
    bench.pool.run_until_stalled();
    let flushed = bench.flushed.lock().unwrap();
    assert_eq!(flushed.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(bench.log.state().last, Some(id(1, 2)));
}

#[test]
fn after_a_failure_every_callback_gets_the_error_and_nothing_is_written() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    bench.append(vec![entry(1, 1, 1)]);
    bench.write();
    files.fail_after(1, Fault::Io); // the fsync
    bench.append(vec![entry(1, 2, 1)]);
    bench.append(vec![entry(1, 3, 1)]);
    bench.pool.run_until_stalled();
    let operations = files.operations();
    bench.append(vec![entry(1, 4, 1)]);
    bench.pool.run_until_stalled();
    let mut saved = Box::pin(bench.log.save_vote(Vote { term: 1, node: 1, committed: false }));
    assert!(saved.as_mut().now_or_never().is_none());
    bench.pool.run_until_stalled();
    let error = saved.as_mut().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    let flushed = bench.flushed.lock().unwrap();
    let failed: Vec<_> = flushed.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, true, true]);
    assert_eq!(files.operations(), operations);
}

#[test]
fn a_writer_that_is_gone_refuses_what_is_queued_and_what_comes() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    bench.append(vec![entry(1, 1, 1)]);
    bench.pool = LocalPool::new();
    bench.append(vec![entry(1, 2, 1)]);
    let flushed = bench.flushed.lock().unwrap();
    assert_eq!(flushed.iter().filter(|result| result.is_err()).count(), 2);
    assert!(
        bench
            .log
            .save_vote(Vote { term: 1, node: 1, committed: false })
            .now_or_never()
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_spare_segment_lets_the_log_go_on_when_the_disk_is_full() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    files.set_limit(Some(0));
    for index in 1..=8 {
        bench.append(vec![entry(1, index, 700)]);
        bench.write();
    }
    bench.append(vec![entry(1, 9, 700)]);
    bench.pool.run_until_stalled();
    let last = bench.flushed.lock().unwrap().pop().unwrap();
    assert_eq!(last.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(Bench::open(&files, options(0)).unwrap().log.state().last, Some(id(1, 8)));
}

#[test]
fn purged_segments_are_used_again_and_an_entry_may_be_larger_than_a_segment() {
    let files = FaultyFiles::new(1);
    let mut bench = Bench::open(&files, options(0)).unwrap();
    for index in 1..=100 {
        bench.append(vec![entry(1, index, if index == 50 { 50_000 } else { 700 })]);
        bench.write();
        assert_eq!(bench.log.entries(index..index + 1, 0).unwrap()[0].id.index, index);
        bench.log.purge(id(1, index - 1));
    }
    bench.write();
    let names = files.list(Path::new(DIR)).unwrap();
    assert!(names.len() <= 4, "{names:?}");
    assert_eq!(Bench::open(&files, options(0)).unwrap().all(), [entry(1, 100, 700)]);
}

#[test]
fn restarts_that_write_nothing_use_no_more_space() {
    let (files, state, _) = written();
    for round in 0..20 {
        let bench = Bench::open(&files, options(0)).unwrap();
        assert_eq!(bench.log.state(), state);
        if round % 2 == 0 {
            files.lose_power();
        }
    }
    assert!(segments(&files).len() <= 3);
}

#[test]
fn real_files_keep_it_and_a_thread_may_write_it() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { dir: dir.path().join("member/log"), segment_bytes: 64 << 10, ..options(1000) };
    let mut expected = Vec::new();
    for term in 1..4 {
        let (log, writer) = Log::open(Arc::new(OsFiles), options.clone()).unwrap();
        assert_eq!(log.entries(0..1000, usize::MAX).unwrap(), expected);
        let thread = std::thread::spawn(|| futures::executor::block_on(writer.run()));
        let next = log.state().last.map_or(1, |last| last.index + 1);
        let (sender, receiver) = mpsc::channel();
        for index in next..next + 100 {
            let sender = sender.clone();
            let report = move |result: io::Result<()>| sender.send(result.map(|()| index)).unwrap();
            log.append(vec![entry(term, index, 1000)], Box::new(report));
            expected.push(entry(term, index, 1000));
        }
        for index in next..next + 100 {
            assert_eq!(receiver.recv().unwrap().unwrap(), index);
        }
        log.purge(id(term, next + 50));
        expected.retain(|entry| entry.id.index > next + 50);
        assert_eq!(log.entries(0..1000, usize::MAX).unwrap(), expected);
        drop(log);
        thread.join().unwrap();
    }
}
