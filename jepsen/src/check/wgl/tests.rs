//! The search against known histories, random ones that are linearizable by construction, and
//! trying all orders.

use std::{collections::BTreeSet, time::Instant};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::check::register::{Operation, Register};

const LIMIT: Duration = Duration::from_secs(20);

type Operations = Vec<Timed<Operation>>;

fn known(operation: Operation, began: Nanos, ended: Nanos) -> Timed<Operation> {
    Timed { operation, began, ended: Some(ended) }
}

fn open(operation: Operation, began: Nanos) -> Timed<Operation> {
    Timed { operation, began, ended: None }
}

/// A mutex: `true` takes it, `false` gives it back.
struct Mutex;

impl Model for Mutex {
    type Operation = bool;
    type State = bool;

    fn initial(&self) -> bool {
        false
    }

    fn apply(&self, is_held: &bool, takes: &bool) -> Option<bool> {
        (is_held != takes).then_some(*takes)
    }

    fn is_read(&self, _: &bool) -> bool {
        false
    }
}

/// A set: adds, and reads of all of it.
struct Set;

#[derive(Clone, Debug, PartialEq)]
enum OfSet {
    Add(i64),
    Read(BTreeSet<i64>),
}

impl Model for Set {
    type Operation = OfSet;
    type State = BTreeSet<i64>;

    fn initial(&self) -> BTreeSet<i64> {
        BTreeSet::new()
    }

    fn apply(&self, state: &BTreeSet<i64>, operation: &OfSet) -> Option<BTreeSet<i64>> {
        match operation {
            OfSet::Add(element) => Some(state.iter().chain([element]).copied().collect()),
            OfSet::Read(elements) => (elements == state).then(|| state.clone()),
        }
    }

    fn is_read(&self, operation: &OfSet) -> bool {
        matches!(operation, OfSet::Read(_))
    }
}

/// What a random history is made of.
#[derive(Clone, Copy)]
struct Shape {
    operations: usize,
    processes: usize,
    values: i64,
    /// In a hundred, how many have an unknown outcome.
    unknown: u32,
    /// How long an operation takes at most, where one begins each 10.
    longest: Nanos,
}

/// A register at work: each operation takes effect at a moment between its beginning and its end.
/// Those of unknown outcome take effect at any later moment, or never.
fn run(shape: Shape, random: &mut StdRng) -> Operations {
    let mut free_at = vec![0; shape.processes];
    // When it takes effect; when it began; when it ended; what it is to do.
    let mut planned = Vec::new();
    for at in 0..shape.operations {
        let process = random.random_range(0..shape.processes);
        let began = free_at[process].max(at as Nanos * 10) + random.random_range(1..10);
        let ended = began + random.random_range(2..shape.longest);
        free_at[process] = ended;
        let value = random.random_range(0..shape.values);
        let operation = match random.random_range(0..3) {
            0 => Operation::Read(None),
            1 => Operation::Write(value),
            _ => Operation::Swap(value, random.random_range(0..shape.values)),
        };
        if !matches!(operation, Operation::Read(_)) && random.random_range(0..100) < shape.unknown {
            let effect = began + random.random_range(1..shape.longest * 20);
            planned.push((effect, began, None, operation));
        } else {
            planned.push((random.random_range(began + 1..=ended), began, Some(ended), operation));
        }
    }
    planned.sort_by_key(|(effect, ..)| *effect);
    let mut state = None;
    let mut operations = Vec::new();
    for (_, began, ended, operation) in planned {
        let operation = match operation {
            Operation::Read(_) => Operation::Read(state),
            Operation::Swap(old, new) if state != Some(old) => {
                if ended.is_none() {
                    operations.push(open(Operation::Swap(old, new), began));
                }
                continue; // the comparison did not hold: it says nothing
            }
            write => write,
        };
        state = Register.apply(&state, &operation).expect("it fits by construction");
        operations.push(Timed { operation, began, ended });
    }
    operations.sort_by_key(|timed| timed.began);
    operations
}

/// The same question, by trying everything that the times allow.
fn tries_all(state: Option<i64>, left: &Operations) -> bool {
    let horizon = left.iter().filter_map(|timed| timed.ended).min();
    let Some(horizon) = horizon else { return true };
    (0..left.len()).filter(|at| left[*at].began <= horizon).any(|at| {
        let mut rest = left.clone();
        let next = rest.remove(at);
        Register.apply(&state, &next.operation).is_some_and(|state| tries_all(state, &rest))
    })
}

fn is_linearizable(operations: &Operations) -> bool {
    match linearize(&Register, operations, LIMIT) {
        Answer::Linearizable => true,
        Answer::Violated(proof) => {
            prove(&proof, operations);
            false
        }
        Answer::Unknown(reason) => panic!("{reason}"),
    }
}

/// The order that a proof gives is one that times and answers allow.
#[track_caller]
fn prove(proof: &Proof, operations: &Operations) {
    let mut state = Register.initial();
    for (at, place) in proof.longest.iter().enumerate() {
        let next = &operations[*place];
        state = Register.apply(&state, &next.operation).expect("the order is one that fits");
        let later = proof.longest[at + 1..].iter().filter_map(|place| operations[*place].ended);
        assert!(later.into_iter().all(|ended| ended >= next.began), "{proof:?}");
    }
    assert_eq!(format!("{state:?}"), proof.state);
    assert!(!proof.longest.contains(&proof.stuck) && proof.next.contains(&proof.stuck));
}

#[test]
fn random_runs_of_a_register_are_accepted() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let (processes, unknown) = (random.random_range(1..10), random.random_range(0..20));
        let shape = Shape { operations: 60, processes, values: 5, unknown, longest: 60 };
        let operations = run(shape, &mut random);
        assert!(is_linearizable(&operations), "seed {seed}: {operations:?}");
    }
}

#[test]
fn tiny_histories_are_judged_as_by_trying_all_orders() {
    let mut found = [0, 0];
    for seed in 0..6000 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape { operations: 9, processes: 4, values: 3, unknown: 20, longest: 40 };
        let mut operations = run(shape, &mut random);
        for _ in 0..random.random_range(0..3) {
            mutate(&mut operations, &mut random);
        }
        let expected = tries_all(None, &operations);
        found[usize::from(expected)] += 1;
        assert_eq!(is_linearizable(&operations), expected, "seed {seed}: {operations:?}");
    }
    assert!(found.iter().all(|count| *count > 1000), "both answers are common: {found:?}");
}

fn mutate(operations: &mut Operations, random: &mut StdRng) {
    if operations.len() < 2 {
        return;
    }
    let at = random.random_range(0..operations.len());
    let value = random.random_range(0..3);
    match random.random_range(0..4) {
        0 => operations[at].operation = Operation::Read((value > 0).then_some(value)),
        1 => operations[at].operation = Operation::Write(value),
        2 => {
            let other = random.random_range(0..operations.len());
            let there = operations[other].operation.clone();
            operations[other].operation = std::mem::replace(&mut operations[at].operation, there);
        }
        _ => {
            operations.remove(at);
        }
    }
}

#[test]
fn three_hundred_operations_of_ten_processes_are_fast() {
    let began = Instant::now();
    for (seed, longest, unknown) in [(1, 40, 2), (2, 90, 5), (3, 200, 10), (4, 400, 10)] {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape { operations: 300, processes: 10, values: 5, unknown, longest };
        let mut operations = run(shape, &mut random);
        assert!(is_linearizable(&operations), "seed {seed}");
        // A phantom near the end: everything before it has to be gone through.
        let last = operations.iter().rposition(|timed| timed.ended.is_some()).unwrap();
        operations[last].operation = Operation::Read(Some(77));
        assert!(!is_linearizable(&operations), "seed {seed}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn stale_reads_in_long_runs_are_found() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape { operations: 300, processes: 10, values: 5, unknown: 3, longest: 80 };
        let mut operations = run(shape, &mut random);
        let after = operations.iter().map(|timed| timed.began).max().unwrap() + 100_000;
        // What is read at last can't be both.
        let (one, other) = *[(1, 2), (3, 4), (0, 3)].choose(&mut random).unwrap();
        operations.retain(|timed| timed.ended.is_some());
        operations.push(known(Operation::Write(one), after, after + 5));
        operations.push(known(Operation::Read(Some(other)), after + 10, after + 15));
        assert!(!is_linearizable(&operations), "seed {seed}");
    }
}

#[test]
fn many_operations_of_unknown_outcome_are_bearable() {
    let mut operations: Operations =
        (0..60).map(|at| open(Operation::Write(at % 30), at as Nanos)).collect();
    for (at, value) in (0..30).rev().chain(0..30).enumerate() {
        let began = 1000 + at as Nanos * 10;
        operations.push(known(Operation::Read(Some(value)), began, began + 5));
    }
    assert!(is_linearizable(&operations));
    let began = 5000;
    operations.push(known(Operation::Read(Some(3)), began, began + 5));
    assert!(!is_linearizable(&operations), "each of the two writes of 3 was read already");
}

#[test]
fn what_takes_too_long_is_unknown() {
    let mut operations: Operations =
        (0..400).map(|at| known(Operation::Write(at), 1 + at as Nanos, 1_000_000)).collect();
    operations.push(known(Operation::Read(Some(-1)), 2_000_000, 2_000_001));
    let answer = linearize(&Register, &operations, Duration::from_millis(50));
    assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
}

#[test]
fn a_mutex_is_held_by_one() {
    let check = |operations: &[(bool, Nanos, Nanos)]| {
        let timed = |(operation, began, ended): &(bool, Nanos, Nanos)| Timed {
            operation: *operation,
            began: *began,
            ended: Some(*ended),
        };
        let operations: Vec<Timed<bool>> = operations.iter().map(timed).collect();
        linearize(&Mutex, &operations, LIMIT) == Answer::Linearizable
    };
    assert!(check(&[(true, 1, 2), (false, 3, 6), (true, 4, 8)]));
    assert!(!check(&[(true, 1, 2), (true, 3, 4), (false, 5, 6)]));
}

#[test]
fn a_set_keeps_what_was_added() {
    let check = |second: &[i64]| {
        let read = |elements: &[i64]| OfSet::Read(elements.iter().copied().collect());
        let timed = |operation, began, ended| Timed { operation, began, ended };
        let operations = [
            timed(OfSet::Add(1), 1, Some(5)),
            timed(OfSet::Add(2), 2, None),
            timed(read(&[1]), 6, Some(9)),
            timed(read(second), 10, Some(19)),
        ];
        linearize(&Set, &operations, LIMIT) == Answer::Linearizable
    };
    assert!(check(&[1]) && check(&[1, 2]));
    assert!(!check(&[]) && !check(&[2]));
}
