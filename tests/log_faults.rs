//! The Raft log against failing disks and lost power: a plain model beside it says what may be
//! there after each reopening. Everything acknowledged is, and what was not is a prefix.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};
use orrery::{
    log::{Entry, EntryKind, Error, Fault, FaultyFiles, Log, Options, State},
    types::{LogId, Vote},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const STEPS: usize = 40;

/// What a log holds, except `committed`, which has weaker rules.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: Vec<Entry>,
}

/// Every content that the log had since it was opened, and the newest that was acknowledged.
#[derive(Clone, Default)]
struct History {
    contents: Vec<Content>,
    acknowledged: usize,
    committed_index_max: Option<u64>,
    term: u64,
}

type Acknowledgements = Arc<Mutex<Vec<(usize, io::Result<()>)>>>;

impl Content {
    fn append(&mut self, entries: &[Entry]) {
        let first = entries[0].id.index;
        self.entries.retain(|entry| entry.id.index < first);
        self.entries.extend_from_slice(entries);
        self.last = entries.last().map(|entry| entry.id);
    }

    fn truncate_after(&mut self, index: u64) {
        self.entries.retain(|entry| entry.id.index <= index);
        self.last = self.entries.last().map(|entry| entry.id).or(self.purged);
    }

    fn purge(&mut self, upto: LogId) {
        self.entries.retain(|entry| entry.id.index > upto.index);
        self.purged = Some(upto);
        self.last = self.entries.last().map_or(self.purged, |entry| Some(entry.id));
    }

    fn next_index(&self) -> u64 {
        self.last.map_or(1, |last| last.index + 1)
    }
}

impl History {
    fn new() -> History {
        History { contents: vec![Content::default()], ..History::default() }
    }

    fn newest(&self) -> &Content {
        self.contents.last().unwrap()
    }

    /// Takes what was found on opening, if it is one of the contents that may be there.
    #[track_caller]
    fn reopened(&mut self, log: &Log) {
        let State { vote, committed, purged, last } = log.state();
        let entries = log.entries(0..u64::MAX, usize::MAX).unwrap();
        let found = Content { vote, purged, last, entries };
        let allowed = &self.contents[self.acknowledged..];
        assert!(allowed.contains(&found), "found {found:#?}\nallowed {allowed:#?}");
        assert!(
            committed.map(|id| id.index) <= self.committed_index_max.min(last.map(|l| l.index))
        );
        (self.contents, self.acknowledged) = (vec![found], 0);
    }

    fn note(&mut self, acknowledgements: &Acknowledgements) {
        let acknowledgements = acknowledgements.lock().unwrap();
        assert!(acknowledgements.is_sorted_by(|a, b| a.0 <= b.0), "called out of order");
        let failed = acknowledgements.iter().position(|(_, result)| result.is_err());
        let good = failed.unwrap_or(acknowledgements.len());
        assert!(acknowledgements[good..].iter().all(|(_, result)| result.is_err()));
        if let Some((content, _)) = acknowledgements[..good].last() {
            self.acknowledged = *content;
        }
    }
}

fn options(cache_bytes: usize) -> Options {
    Options { dir: PathBuf::from("/log"), group: 0, segment_bytes: 4096, cache_bytes }
}

/// Opens the log, checks it, works with it and leaves it as a killed process would, or closed.
///
/// A disk fault may end it at any time; damage that the log claims to see fails the test.
#[track_caller]
fn session(files: &FaultyFiles, history: &mut History, seed: u64, steps: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let cache_bytes = [0, 1000, usize::MAX][random.random_range(0..3)];
    let (log, writer) = match Log::open(Arc::new(files.clone()), options(cache_bytes)) {
        Ok(opened) => opened,
        Err(Error::Io(_)) => return,
        Err(error) => panic!("seed {seed}: {error}"),
    };
    history.reopened(&log);
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(writer.run()).unwrap();
    let acknowledgements = Acknowledgements::default();
    let mut calls = 0;
    for _ in 0..steps {
        calls += step(&log, history, &acknowledgements, &mut random);
        if random.random_bool(0.4) {
            pool.run_until_stalled();
            assert_eq!(acknowledgements.lock().unwrap().len(), calls, "each is called once");
            history.note(&acknowledgements);
            check_reads(&log, history, &mut random);
        }
    }
    if random.random_bool(0.5) {
        drop(log);
        pool.run_until_stalled();
        history.note(&acknowledgements);
    }
}

/// One random call; returns how many callbacks it will make.
fn step(
    log: &Log,
    history: &mut History,
    acknowledgements: &Acknowledgements,
    random: &mut StdRng,
) -> usize {
    let mut content = history.newest().clone();
    let number = history.contents.len();
    let acknowledge = {
        let acknowledgements = acknowledgements.clone();
        move |result| acknowledgements.lock().unwrap().push((number, result))
    };
    let lowest = content.purged.map_or(1, |purged| purged.index + 1);
    let next = content.next_index();
    let id = |term, index| LogId { term, node: 1, index };
    let mut calls = 0;
    match random.random_range(0..100) {
        0..60 => {
            let replaces = random.random_bool(0.1);
            history.term += u64::from(replaces);
            let first = if replaces { random.random_range(lowest..=next) } else { next };
            let entries = entries(history.term, first, random);
            content.append(&entries);
            log.append(entries, Box::new(acknowledge));
            calls = 1;
        }
        60..70 => {
            history.term += 1;
            let vote = Vote { term: history.term, node: 2, committed: random.random_bool(0.5) };
            content.vote = Some(vote);
            // The first poll queues it. Who waits for it is told in turn, so an append without
            // entries tells when.
            let mut saved = Box::pin(log.save_vote(vote));
            assert!(saved.as_mut().now_or_never().is_none());
            log.append(Vec::new(), Box::new(acknowledge));
            calls = 1;
        }
        70..80 if next > lowest => {
            let index = random.random_range(lowest - 1..next);
            content.truncate_after(index);
            let kept = content.entries.last().map(|entry| entry.id);
            log.truncate_after(kept.or(content.purged));
            history.term += 1;
        }
        80..90 => {
            let upto = match random.random_bool(0.1) {
                true => id(history.term, next + 5),
                false => {
                    let index = random.random_range(lowest - 1..next);
                    match content.entries.iter().find(|entry| entry.id.index == index) {
                        Some(entry) => entry.id,
                        None => return 0,
                    }
                }
            };
            content.purge(upto);
            log.purge(upto);
        }
        _ => {
            log.save_committed(content.last);
            let index = content.last.map(|last| last.index);
            history.committed_index_max = history.committed_index_max.max(index);
            return 0;
        }
    }
    history.contents.push(content);
    calls
}

fn entries(term: u64, first: u64, random: &mut StdRng) -> Vec<Entry> {
    let end = first + random.random_range(1..4);
    let entry = |index| Entry {
        id: LogId { term, node: 1, index },
        kind: EntryKind::Command,
        payload: Bytes::from(vec![index as u8; random.random_range(0..300)]),
    };
    (first..end).map(entry).collect()
}

fn check_reads(log: &Log, history: &History, random: &mut StdRng) {
    let content = history.newest();
    assert_eq!((log.state().last, log.state().purged), (content.last, content.purged));
    let start = random.random_range(0..=content.next_index());
    let end = random.random_range(start..=content.next_index() + 2);
    let wanted: Vec<_> =
        content.entries.iter().filter(|e| (start..end).contains(&e.id.index)).cloned().collect();
    match log.entries(start..end, usize::MAX) {
        Ok(found) => assert_eq!(found, wanted),
        // The power may be off; the disk does not lie otherwise.
        Err(error) => assert_eq!(error.raw_os_error(), Some(5), "{error}"),
    }
}

/// Operations of a session in which nothing fails.
fn count_operations(seed: u64) -> u64 {
    let files = FaultyFiles::new(seed);
    session(&files, &mut History::new(), seed, STEPS);
    files.operations()
}

#[test]
fn whatever_operation_fails_nothing_acknowledged_is_lost() {
    for seed in 0..20 {
        for operation in 0..count_operations(seed) {
            let fault = [Fault::Io, Fault::NoSpace, Fault::Torn][(operation % 3) as usize];
            let (files, mut history) = (FaultyFiles::new(seed), History::new());
            files.fail_after(operation, fault);
            session(&files, &mut history, seed, STEPS);
            files.fail_no_more();
            for power_lost_first in [false, true] {
                let (files, mut history) = (files.copy(), history.clone());
                if power_lost_first {
                    files.lose_power();
                }
                // What was seen once after opening stays, whatever the failed fsync has left.
                session(&files, &mut history, seed + 1, (operation / 3 % 3) as usize * 2);
                files.lose_power();
                session(&files, &mut history, seed + 2, 5);
                session(&files, &mut history, seed + 3, 0);
            }
        }
    }
}

#[test]
fn whenever_power_is_lost_nothing_acknowledged_is_lost() {
    for seed in 0..20 {
        for operation in 0..count_operations(seed) {
            let (files, mut history) = (FaultyFiles::new(seed * 1000 + operation), History::new());
            files.fail_after(operation, Fault::Power);
            session(&files, &mut history, seed, STEPS);
            // Without this the next openings would meet a disk without power.
            files.lose_power();
            for round in 1..4 {
                files.fail_after((operation * 7 + round * 13) % 40, Fault::Power);
                session(&files, &mut history, seed + round, 20);
                files.lose_power();
            }
            session(&files, &mut history, seed, 0);
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_a_log_that_opens() {
    for (seed, limit) in (0..60).zip([8192, 9000, 12288, 16384, 20000].into_iter().cycle()) {
        let (files, mut history) = (FaultyFiles::new(seed), History::new());
        files.set_limit(Some(limit));
        session(&files, &mut history, seed, 200);
        session(&files, &mut history, seed, 200);
        files.set_limit(None);
        session(&files, &mut history, seed, 100);
        session(&files, &mut history, seed, 0);
    }
}

#[test]
fn any_mixture_of_faults_over_many_restarts_loses_nothing_acknowledged() {
    for seed in 0..800 {
        let mut random = StdRng::seed_from_u64(seed);
        let (files, mut history) = (FaultyFiles::new(seed), History::new());
        for round in 0..12 {
            let faults = [Fault::Io, Fault::NoSpace, Fault::Torn, Fault::Power];
            files.fail_after(random.random_range(0..200), faults[random.random_range(0..4)]);
            session(&files, &mut history, seed * 100 + round, 60);
            files.fail_no_more();
            // Otherwise the process was killed and the machine went on.
            if random.random_bool(0.5) {
                files.lose_power();
            }
        }
        session(&files, &mut history, seed, 0);
    }
}
