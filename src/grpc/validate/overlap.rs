//! Operations of one transaction that would change a key twice.
//!
//! One revision holds one change of a key. So of all operations that can run together no two may
//! put the same key, and none may put a key that another one deletes. Deletes may overlap: the
//! second finds nothing. The two branches of a nested transaction never run together.
//!
//! etcd's check overlooks a put beside a delete from a key on (`range_end` of one NUL byte), and a
//! put in a nested transaction before a delete in a later one. Here they are refused, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;

use crate::{
    grpc::validate::Invalid,
    proto::etcdserverpb::{RequestOp, request_op::Request},
    types::KeyRange,
};

/// Checks the operations of one branch, nested transactions included, in `O(n log² n)`.
pub(super) fn check(branch: &[RequestOp]) -> Result<(), Invalid> {
    changes(branch).map(drop)
}

fn changes(branch: &[RequestOp]) -> Result<Changes, Invalid> {
    let mut changes = Changes::default();
    for operation in branch {
        match &operation.request {
            Some(Request::RequestPut(put)) => changes.put(put.key.clone())?,
            Some(Request::RequestDeleteRange(delete)) => {
                changes.delete(delete.key.clone(), delete.range_end.clone())?;
            }
            Some(Request::RequestTxn(txn)) => {
                let one = self::changes(&txn.success)?;
                let other = self::changes(&txn.failure)?;
                changes.join(one.or(other))?;
            }
            Some(Request::RequestRange(_)) | None => {}
        }
    }
    Ok(changes)
}

/// Keys that a set of operations changes.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Spans,
}

impl Changes {
    fn put(&mut self, key: Bytes) -> Result<(), Invalid> {
        if self.deletes.contain(&key) || !self.puts.insert(key) {
            return Err(Invalid::DuplicateKey);
        }
        Ok(())
    }

    fn delete(&mut self, key: Bytes, range_end: Bytes) -> Result<(), Invalid> {
        let Some((start, end)) = span(KeyRange::from_wire(key, range_end)) else { return Ok(()) };
        if self.puts_within(&start, &end) {
            return Err(Invalid::DuplicateKey);
        }
        self.deletes.add(start, end);
        Ok(())
    }

    /// Changes of operations that run beside these. The smaller set moves into the larger one, or a
    /// deep nesting would be quadratic.
    fn join(&mut self, mut other: Changes) -> Result<(), Invalid> {
        if other.len() > self.len() {
            std::mem::swap(self, &mut other);
        }
        let puts_twice =
            other.puts.iter().any(|key| self.puts.contains(key) || self.deletes.contain(key));
        if puts_twice || other.deletes.0.iter().any(|(start, end)| self.puts_within(start, end)) {
            return Err(Invalid::DuplicateKey);
        }
        *self = std::mem::take(self).or(other);
        Ok(())
    }

    fn puts_within(&self, start: &Bytes, end: &End) -> bool {
        let upper = end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.puts.range::<Bytes, _>((Bound::Included(start), upper)).next().is_some()
    }

    /// Changes of operations that run instead of these: overlaps are fine.
    fn or(mut self, mut other: Changes) -> Changes {
        if other.len() > self.len() {
            std::mem::swap(&mut self, &mut other);
        }
        self.puts.extend(other.puts);
        other.deletes.0.into_iter().for_each(|(start, end)| self.deletes.add(start, end));
        self
    }

    fn len(&self) -> usize {
        self.puts.len() + self.deletes.0.len()
    }
}

/// The first key that is not in the span; `None` when it goes on forever.
type End = Option<Bytes>;

/// `None` for a range that no key can be in.
fn span(range: KeyRange) -> Option<(Bytes, End)> {
    match range {
        KeyRange::One(key) => {
            let next = Bytes::from([key.as_ref(), b"\0"].concat());
            Some((key, Some(next)))
        }
        KeyRange::Between(start, end) => (start < end).then_some((start, Some(end))),
        KeyRange::From(start) => Some((start, None)),
    }
}

/// Parts of the key space. Invariant: neighbours neither overlap nor touch.
#[derive(Default)]
struct Spans(BTreeMap<Bytes, End>);

impl Spans {
    fn contain(&self, key: &Bytes) -> bool {
        let nearest = self.0.range::<Bytes, _>(..=key).next_back();
        nearest.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }

    fn add(&mut self, mut start: Bytes, mut end: End) {
        if let Some((before, before_end)) = self.0.range::<Bytes, _>(..=&start).next_back()
            && before_end.as_ref().is_none_or(|before_end| *before_end >= start)
        {
            start = before.clone();
        }
        // Each span that is swallowed was added once, so all additions together stay `O(n log n)`.
        while let Some((next, _)) = self.0.range::<Bytes, _>(&start..).next()
            && end.as_ref().is_none_or(|end| next <= end)
        {
            let next = next.clone();
            let next_end = self.0.remove(&next).flatten();
            end = match (end, next_end) {
                (Some(end), Some(next_end)) => Some(end.max(next_end)),
                (None, _) | (_, None) => None,
            };
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests;
