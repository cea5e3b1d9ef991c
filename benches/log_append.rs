//! Appending to the Raft log on a real disk until the entries are durable.

use std::{sync::mpsc, thread};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use orrery::{
    log::{Entry, EntryKind, Log, Options, OsFiles},
    types::LogId,
};
use tempfile::TempDir;

/// Entries that are appended at once.
const BATCHES: [u64; 3] = [1, 64, 1024];
const ENTRY_BYTES: usize = 300;

/// As the server has it.
const SEGMENT_BYTES: u64 = 64 << 20;
const CACHE_BYTES: usize = 32 << 20;

/// Entries that stay in the log, so that segments are used again as they are in a server.
const KEPT_ENTRIES: u64 = 100_000;

fn id(index: u64) -> LogId {
    LogId { term: 1, node: 1, index }
}

fn append(log: &Log, entries: Vec<Entry>) {
    let (sender, done) = mpsc::channel();
    log.append(entries, Box::new(move |result| sender.send(result).unwrap()));
    done.recv().unwrap().unwrap();
}

fn log_append(criterion: &mut Criterion) {
    let place = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Options {
        dir: place.path().to_owned(),
        group: 0,
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: CACHE_BYTES,
    };
    let (log, writer) = Log::open(std::sync::Arc::new(OsFiles), options).unwrap();
    let writing = thread::spawn(|| futures::executor::block_on(writer.run()));

    let payload = Bytes::from(vec![0xA5; ENTRY_BYTES]);
    let mut next = 1;
    let mut group = criterion.benchmark_group("log_append");
    for size in BATCHES {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new("durable", size), |bencher| {
            let entries = || -> Vec<Entry> {
                let indexes = next..next + size;
                next += size;
                if next % KEPT_ENTRIES < size && next > KEPT_ENTRIES * 2 {
                    log.purge(id(next - KEPT_ENTRIES));
                }
                let entry = |index| Entry {
                    id: id(index),
                    kind: EntryKind::Command,
                    payload: payload.clone(),
                };
                indexes.map(entry).collect()
            };
            bencher.iter_batched(entries, |entries| append(&log, entries), BatchSize::PerIteration);
        });
    }
    group.finish();
    drop(log);
    writing.join().unwrap();
}

criterion_group!(benches, log_append);
criterion_main!(benches);
