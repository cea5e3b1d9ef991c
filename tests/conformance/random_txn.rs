//! Random transactions, without those that etcd takes and ours refuses.

use std::collections::BTreeSet;

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    Compare, RequestOp, TxnRequest, compare::TargetUnion, request_op::Request as Operation,
};

use super::program::Random;

/// More compares than a transaction may have.
const TOO_MANY: usize = 129;

pub(super) fn txn(random: &mut Random) -> TxnRequest {
    loop {
        let mut txn = nested(random, 0);
        if random.pick(0..=200) == 0 {
            let compare = compare(random);
            txn.compare = vec![compare; TOO_MANY];
        }
        if !is_overlooked(&txn.success) && !is_overlooked(&txn.failure) {
            return txn;
        }
    }
}

fn nested(random: &mut Random, depth: usize) -> TxnRequest {
    let compares = random.pick(0..=2);
    let [success, failure] = [3, 2].map(|most| {
        let operations = random.pick(0..=most);
        (0..operations).map(|_| RequestOp { request: operation(random, depth) }).collect()
    });
    TxnRequest { compare: (0..compares).map(|_| compare(random)).collect(), success, failure }
}

fn operation(random: &mut Random, depth: usize) -> Option<Operation> {
    Some(match random.pick(0..=99) {
        0..40 => Operation::RequestPut(random.put()),
        40..62 => Operation::RequestRange(random.range()),
        62..80 => Operation::RequestDeleteRange(random.delete()),
        80..99 if depth < 3 => Operation::RequestTxn(nested(random, depth + 1)),
        80..99 => Operation::RequestRange(random.range()),
        _ => return None,
    })
}

fn compare(random: &mut Random) -> Compare {
    if random.pick(0..=99) == 0 {
        return Compare::default();
    }
    let number = i64::try_from(random.pick(0..=4)).expect("it is small") - 1;
    let (target, target_union) = match random.pick(0..=4) {
        0 => (0, TargetUnion::Version(number)),
        1 => (1, TargetUnion::CreateRevision(random.revision())),
        2 => (2, TargetUnion::ModRevision(random.revision())),
        3 => (3, TargetUnion::Value(random.value())),
        _ => (4, TargetUnion::Lease(if number < 1 { 0 } else { random.lease() })),
    };
    let (target, target_union) = match random.pick(0..=99) {
        0 => (target, None),
        1 => ((target + 1) % 5, Some(target_union)),
        2 => (random.one(&[-1, 5]), Some(target_union)),
        _ => (target, Some(target_union)),
    };
    Compare {
        result: if target_union.is_some() && random.chance(2) {
            random.one(&[-1, 9])
        } else {
            random.one(&[0, 1, 2, 3])
        },
        target,
        key: random.key(),
        range_end: if random.chance(60) { Bytes::new() } else { random.end() },
        target_union,
    }
}

/// Keys that some operations put, and ranges that they delete.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Changes {
    fn add(&mut self, other: Changes) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

/// Whether etcd, which refuses to put a key and delete it at once, may fail to see that this branch
/// does: by a deletion from a key on, or by a put that is nested before a nested deletion.
fn is_overlooked(branch: &[RequestOp]) -> bool {
    changes(branch).is_none()
}

/// `None` for what etcd may overlook.
fn changes(branch: &[RequestOp]) -> Option<Changes> {
    let mut all = Changes::default();
    for operation in branch {
        match &operation.request {
            Some(Operation::RequestTxn(txn)) => {
                let mut nested = changes(&txn.success)?;
                nested.add(changes(&txn.failure)?);
                let behind = |(key, end): &(Bytes, Bytes)| covers(key, end, &all.puts);
                if nested.deletes.iter().any(behind) {
                    return None;
                }
                all.add(nested);
            }
            Some(Operation::RequestPut(put)) => drop(all.puts.insert(put.key.clone())),
            Some(Operation::RequestDeleteRange(delete)) => {
                all.deletes.push((delete.key.clone(), delete.range_end.clone()));
            }
            Some(Operation::RequestRange(_)) | None => (),
        }
    }
    let everything_behind = |(key, end): &&(Bytes, Bytes)| end == "\0" && !key.is_empty();
    let mut behind = all.deletes.iter().filter(everything_behind);
    let overlooked = behind.any(|(key, end)| covers(key, end, &all.puts));
    (!overlooked).then_some(all)
}

fn covers(key: &Bytes, end: &Bytes, puts: &BTreeSet<Bytes>) -> bool {
    puts.iter().any(|put| match end.as_ref() {
        b"" => put == key,
        b"\0" => put >= key,
        _ => put >= key && put < end,
    })
}
