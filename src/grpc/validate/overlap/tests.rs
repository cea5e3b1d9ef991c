//! Overlaps by example, and against trying every path.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};

/// An operation. In tests a branch is written `put:a del:a-c del:b- (put:x | put:x)`; `a-` deletes
/// from `a` on.
#[derive(Clone, Debug)]
enum Op {
    Put(String),
    Delete(String, String),
    Txn(Vec<Op>, Vec<Op>),
}

fn wire(branch: &[Op]) -> Vec<RequestOp> {
    branch.iter().map(|op| RequestOp { request: Some(request(op)) }).collect()
}

fn request(op: &Op) -> Request {
    match op.clone() {
        Op::Put(key) => Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }),
        Op::Delete(key, range_end) => Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        }),
        Op::Txn(success, failure) => Request::RequestTxn(TxnRequest {
            compare: Vec::new(),
            success: wire(&success),
            failure: wire(&failure),
        }),
    }
}

fn parse(text: &str) -> Vec<Op> {
    fn branch<'a>(words: &mut impl Iterator<Item = &'a str>) -> Vec<Op> {
        let mut operations = Vec::new();
        while let Some(word) = words.next() {
            operations.push(match word.split_once(':') {
                Some(("put", key)) => Op::Put(key.to_owned()),
                Some((_, range)) => match range.split_once('-') {
                    None => Op::Delete(range.to_owned(), String::new()),
                    Some((key, "")) => Op::Delete(key.to_owned(), "\0".to_owned()),
                    Some((key, end)) => Op::Delete(key.to_owned(), end.to_owned()),
                },
                None if word == "(" => {
                    let success = branch(words);
                    Op::Txn(success, branch(words))
                }
                None => return operations,
            });
        }
        operations
    }
    branch(&mut text.split_whitespace())
}

#[track_caller]
fn check(text: &str, is_allowed: bool) {
    assert_eq!(super::check(&wire(&parse(text))).is_ok(), is_allowed, "{text}");
}

#[test]
fn one_branch_puts_a_key_once() {
    check("", true);
    check("put:a put:b", true);
    check("put:a put:b put:a", false);
}

#[test]
fn one_branch_does_not_put_what_it_deletes_in_either_order() {
    check("put:a del:a", false);
    check("del:a put:a", false);
    check("del:a put:aa put:b", true);
    check("del:b-d put:a put:d", true);
    check("del:b-d put:b", false);
    check("put:c del:b-d", false);
    check("del:b- put:a", true);
    check("del:b- put:z", false);
    check("put:z del:b-", false);
}

#[test]
fn deletes_may_overlap_and_an_inverted_range_deletes_nothing() {
    check("del:a-d del:b-z del:c del:c-", true);
    check("del:d-b put:c put:d", true);
    check("del:a-c del:c-e put:c", false);
    check("del:a-c del:e-g del:b-f put:d", false);
    check("del:a-c del:e-g put:d", true);
}

#[test]
fn nested_transactions_count_for_their_parent() {
    check("put:a ( put:a | )", false);
    check("( put:a | ) put:a", false);
    check("( | put:a ) ( put:a | )", false);
    check("( put:a | ) ( del:a | )", false);
    check("( del:a | ) ( | put:a )", false);
    check("( ( put:a | ) | ) del:a-b", false);
    check("( put:a | ) ( put:b | ) del:c", true);
}

#[test]
fn the_branches_of_a_nested_transaction_exclude_each_other() {
    check("( put:a | put:a )", true);
    check("( put:a | del:a )", true);
    check("( put:a | put:a ) put:a", false);
    check("( put:a put:a | )", false);
    check("( ( put:a | ) | ( put:a | ) )", true);
}

/// All choices of branches, and for each the keys that its operations touch, one by one.
fn is_allowed_by_the_model(branch: &[Op]) -> bool {
    let keys: Vec<String> = ('a'..='f').map(String::from).collect();
    runs(branch).iter().all(|run| {
        keys.iter().all(|key| {
            let puts = run.iter().filter(|op| matches!(op, Op::Put(put) if put == key)).count();
            let deletes = run.iter().any(|op| match op {
                Op::Delete(start, end) => {
                    let range = KeyRange::from_wire(start.clone().into(), end.clone().into());
                    range.contains(key.as_bytes())
                }
                Op::Put(_) | Op::Txn(..) => false,
            });
            puts <= 1 && !(puts == 1 && deletes)
        })
    })
}

fn runs(branch: &[Op]) -> Vec<Vec<Op>> {
    branch.iter().fold(vec![Vec::new()], |runs_so_far, op| {
        let continuations = match op {
            Op::Txn(success, failure) => [runs(success), runs(failure)].concat(),
            Op::Put(_) | Op::Delete(..) => vec![vec![op.clone()]],
        };
        let extend = |run: Vec<Op>| {
            continuations.clone().into_iter().map(move |more| [run.clone(), more].concat())
        };
        runs_so_far.into_iter().flat_map(extend).collect()
    })
}

fn some_branch() -> impl Strategy<Value = Vec<Op>> {
    let key = || "[a-f]";
    let leaf = prop_oneof![
        3 => key().prop_map(Op::Put),
        1 => (key(), key()).prop_map(|(key, end)| Op::Delete(key, end)),
        1 => key().prop_map(|key| Op::Delete(key, String::new())),
        1 => key().prop_map(|key| Op::Delete(key, "\0".to_owned())),
    ];
    let op = leaf.prop_recursive(2, 8, 3, |op| {
        let branch = || prop::collection::vec(op.clone(), 0..3);
        (branch(), branch()).prop_map(|(success, failure)| Op::Txn(success, failure))
    });
    prop::collection::vec(op, 0..5)
}

proptest! {
    #[test]
    fn it_agrees_with_trying_every_path(branch in some_branch()) {
        prop_assert_eq!(super::check(&wire(&branch)).is_ok(), is_allowed_by_the_model(&branch));
    }
}

#[test]
fn many_operations_take_no_longer_than_sorting_them() {
    let many = 100_000;
    let puts = (0..many).map(|at| Op::Put(format!("put{at:06}")));
    let deletes =
        (0..many).map(|at| Op::Delete(format!("del{at:06}"), format!("del{:06}", at + 2)));
    let flat: Vec<Op> = puts.chain(deletes).collect();
    let deep = flat.chunks(4000).fold(Vec::new(), |inner, chunk| {
        let mut level = chunk.to_vec();
        level.push(Op::Txn(inner, Vec::new()));
        level
    });
    for branch in [wire(&flat), wire(&deep)] {
        let start = Instant::now();
        assert_eq!(super::check(&branch), Ok(()));
        // A quadratic way takes minutes.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
