//! Entries of the Raft log for benchmarks, and a store that they fill.

use bytes::Bytes;
use orrery::{
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::PutRequest,
    },
    state_machine::{Applied, Entry, Payload, StateMachine},
    storage::Storage,
    types::LogId,
};

pub(crate) const VALUE_BYTES: usize = 256;

/// A state machine with the log that it gets.
pub(crate) struct Machine {
    pub(crate) state: StateMachine,
    next_index: u64,
}

impl Machine {
    pub(crate) fn new(state: StateMachine) -> Machine {
        Machine { state, next_index: 1 }
    }

    /// The next entries of the log, one for each operation.
    pub(crate) fn entries(&mut self, operations: impl Iterator<Item = Operation>) -> Vec<Entry> {
        let entries = operations.map(|operation| {
            let id = LogId { term: 1, node: 1, index: self.next_index };
            self.next_index += 1;
            let command = Command { operation: Some(operation), ..Command::default() };
            Entry { id, payload: Payload::Command(command) }
        });
        entries.collect()
    }

    pub(crate) fn apply(&mut self, entries: Vec<Entry>) -> Vec<Applied> {
        self.state.apply(entries).unwrap()
    }

    /// Puts the keys with these numbers, a thousand at a time.
    pub(crate) fn fill(&mut self, keys: impl Iterator<Item = u64>) {
        let keys: Vec<u64> = keys.collect();
        for keys in keys.chunks(1000) {
            let entries = self.entries(keys.iter().map(|key| put(*key)));
            self.apply(entries);
        }
    }

    /// Puts the keys up to `keys` into one file, and every fifth again: into two newer files, and
    /// into memory.
    pub(crate) fn fill_layers(&mut self, storage: &Storage, keys: u64) {
        self.fill(0..keys);
        storage.flush().unwrap();
        let every_fifteenth = |part| (0..keys).filter(move |key| scattered(*key) % 15 == part);
        self.fill(every_fifteenth(0));
        storage.flush().unwrap();
        self.fill(every_fifteenth(1));
        storage.flush().unwrap();
        self.fill(every_fifteenth(2));
    }
}

pub(crate) fn put(key: u64) -> Operation {
    Operation::Put(put_request(key))
}

pub(crate) fn put_request(key: u64) -> PutRequest {
    PutRequest { key: name(key), value: value(key), ..PutRequest::default() }
}

/// A key as Kubernetes has them: long, with a beginning that all share.
pub(crate) fn name(key: u64) -> Bytes {
    format!("/registry/pods/default/pod-{key:012}").into()
}

/// Bytes that do not compress to nothing.
fn value(key: u64) -> Bytes {
    let mut seed = key;
    let words = (0..VALUE_BYTES / 8).flat_map(|_| {
        seed = scattered(seed + 1);
        seed.to_le_bytes()
    });
    words.collect::<Vec<u8>>().into()
}

/// Numbers in an order that looks random but is the same in every run (splitmix64).
pub(crate) fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
