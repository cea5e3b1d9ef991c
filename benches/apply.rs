//! Applying committed entries to a store on disk: puts of fresh keys and of keys that exist, and
//! transactions that compare and swap.

#[path = "stored/commands.rs"]
mod commands;
#[path = "stored/cpu_time.rs"]
mod cpu_time;

use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use orrery::{
    proto::{
        command::command::Operation,
        etcdserverpb::{
            Compare, RangeRequest, RequestOp, TxnRequest,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op::Request,
        },
    },
    state_machine::StateMachine,
    storage::{Place, Storage},
};
use tempfile::TempDir;

use crate::commands::{Machine, name, put, put_request, scattered};
use crate::cpu_time::CpuTime;

/// Entries that are applied at once.
const BATCHES: [u64; 3] = [1, 64, 1024];

/// Keys that exist when the measurement begins.
const KEYS: u64 = 100_000;

/// A store with [`KEYS`] keys, in files and in memory.
fn filled(place: &TempDir) -> Machine {
    let storage = Storage::open(Place::Directory(place.path())).unwrap();
    let mut machine = Machine::new(StateMachine::open(storage.clone()).unwrap());
    machine.fill_layers(&storage, KEYS);
    machine
}

fn place() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Measures batches of each size of the operation that `operation` makes of a running number.
fn measure(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    kind: &str,
    machine: &mut Machine,
    operation: impl Fn(u64) -> Operation,
) {
    let mut number = 0;
    for size in BATCHES {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new(kind, size), |bencher| {
            // Two closures want the machine: one makes the log go on, the other applies it.
            let machine = std::cell::RefCell::new(&mut *machine);
            let entries = || {
                let numbers = number..number + size;
                number += size;
                machine.borrow_mut().entries(numbers.map(&operation))
            };
            bencher.iter_batched(
                entries,
                |entries| machine.borrow_mut().apply(entries),
                BatchSize::PerIteration,
            );
        });
    }
}

/// What Kubernetes writes with: if the key is as I know it, put; else show it.
fn compare_and_swap(key: u64, version: i64) -> Operation {
    let compare = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: name(key),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    };
    let range = RangeRequest { key: name(key), ..RangeRequest::default() };
    Operation::Txn(TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(Request::RequestPut(put_request(key))) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    })
}

fn apply(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("apply");
    let place = place();
    let mut machine = filled(&place);
    let existing = |number| scattered(number) % KEYS;
    measure(&mut group, "put_existing", &mut machine, |number| put(existing(number)));
    measure(&mut group, "put_fresh", &mut machine, |number| put(KEYS + number));
    measure(&mut group, "txn_swap", &mut machine, |number| compare_and_swap(existing(number), 0));
    measure(&mut group, "txn_lost", &mut machine, |number| {
        compare_and_swap(existing(number), i64::MAX)
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu_time::criterion();
    targets = apply
}
criterion_main!(benches);
