//! Reading: one key, ranges and counts, as a request does it: each time from a new view.

#[path = "stored/commands.rs"]
mod commands;
#[path = "stored/cpu_time.rs"]
mod cpu_time;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use orrery::{
    proto::etcdserverpb::RangeRequest,
    state_machine::{StateMachine, View},
    storage::{Place, Storage},
};
use tempfile::TempDir;

use crate::commands::{Machine, name, scattered};
use crate::cpu_time::CpuTime;

const KEYS: u64 = 100_000;

/// Where the newest versions are.
#[derive(Clone, Copy, Debug)]
enum Newest {
    /// Most in one file; those of every fifth key in newer files and in memory. So it is after a
    /// while.
    Layered,
    /// In memory, in the order in which they were written; older ones in a file.
    Buffered,
}

fn filled(place: &TempDir, newest: Newest) -> Storage {
    let storage = Storage::open(Place::Directory(place.path())).unwrap();
    let mut machine = Machine::new(StateMachine::open(storage.clone()).unwrap());
    match newest {
        Newest::Layered => machine.fill_layers(&storage, KEYS),
        Newest::Buffered => {
            machine.fill(0..KEYS);
            storage.flush().unwrap();
            // An odd factor goes through all of them.
            machine.fill((0..KEYS).map(|key| key * 70_001 % KEYS));
        }
    }
    storage
}

fn request(first: u64, limit: i64) -> RangeRequest {
    let range_end = if limit == 1 { Bytes::new() } else { Bytes::from_static(b"\0") };
    RangeRequest { key: name(first), range_end, limit, ..RangeRequest::default() }
}

/// The keys from one to behind another, without a limit: nothing behind them is counted.
fn between(first: u64, end: u64) -> RangeRequest {
    RangeRequest { key: name(first), range_end: name(end), ..RangeRequest::default() }
}

fn ask(storage: &Storage, request: &RangeRequest) -> usize {
    let view = View::new(storage.snapshot()).unwrap();
    view.keys().range(request).unwrap().kvs.len()
}

fn measure(criterion: &mut Criterion<CpuTime>, newest: Newest) {
    let place = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = filled(&place, newest);
    let mut group = criterion.benchmark_group(format!("range/{newest:?}").to_lowercase());
    let mut number = 0;
    let mut key = |room: u64| {
        number += 1;
        scattered(number) % (KEYS - room)
    };

    group.bench_function("view", |bencher| {
        bencher.iter(|| View::new(storage.snapshot()).unwrap());
    });
    group.bench_function("get", |bencher| {
        bencher.iter(|| assert_eq!(ask(&storage, &request(key(0), 1)), 1));
    });
    group.bench_function("get_missing", |bencher| {
        bencher.iter(|| assert_eq!(ask(&storage, &request(KEYS + key(0), 1)), 0));
    });
    for size in [100, 1000] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("keys/{size}"), |bencher| {
            bencher.iter(|| {
                let first = key(size);
                assert_eq!(ask(&storage, &between(first, first + size)), size as usize);
            });
        });
    }
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function("count", |bencher| {
        let request = RangeRequest { count_only: true, ..between(0, KEYS) };
        let view = View::new(storage.snapshot()).unwrap();
        bencher.iter(|| assert_eq!(view.keys().range(&request).unwrap().count, KEYS as i64));
    });
    group.finish();
}

fn range(criterion: &mut Criterion<CpuTime>) {
    measure(criterion, Newest::Layered);
    measure(criterion, Newest::Buffered);
}

criterion_group! {
    name = benches;
    config = cpu_time::criterion();
    targets = range
}
criterion_main!(benches);
