//! The newest entries in memory.

use std::{collections::VecDeque, ops::Range};

use super::Entry;

/// What an entry costs besides its payload, so that entries without one are bounded as well.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Held>();

/// The newest entries: as many as fit, and always those that are not durable yet.
///
/// Appends are numbered in the order in which they are written. An entry may go once its append is
/// durable: its index alone would not tell, as entries are replaced.
pub(crate) struct Cache {
    held: VecDeque<Held>,
    /// Index of the oldest entry held; of the next one when none is.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    /// Number of the newest durable append.
    durable: u64,
}

struct Held {
    entry: Entry,
    append: u64,
}

impl Cache {
    /// Empty; the next entry is expected at `next`.
    pub(crate) fn new(next: u64, bytes_max: usize) -> Cache {
        Cache { held: VecDeque::new(), first: next, bytes: 0, bytes_max, durable: 0 }
    }

    /// Index of the oldest entry that is here; older ones are in the files only.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn push(&mut self, entries: &[Entry], append: u64) {
        if let Some(first) = entries.first() {
            self.cut(first.id.index);
            if self.held.is_empty() {
                self.first = first.id.index;
            }
        }
        for entry in entries {
            self.bytes += cost(entry);
            self.held.push_back(Held { entry: entry.clone(), append });
        }
        self.shrink();
    }

    /// Forgets the entries from `index` on, which is where the next one is expected.
    pub(crate) fn cut(&mut self, index: u64) {
        self.first = self.first.min(index);
        while self.first + self.held.len() as u64 > index
            && let Some(newest) = self.held.pop_back()
        {
            self.bytes -= cost(&newest.entry);
        }
    }

    /// Forgets the entries before `index`.
    pub(crate) fn drop_before(&mut self, index: u64) {
        while self.first < index && self.drop_oldest() {}
        self.first = self.first.max(index);
    }

    pub(crate) fn set_durable(&mut self, append: u64) {
        self.durable = append;
        self.shrink();
    }

    /// The entries of a range that starts here.
    pub(crate) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &Entry> {
        let skip = range.start.saturating_sub(self.first) as usize;
        let count = range.end.saturating_sub(range.start) as usize;
        self.held.iter().skip(skip).take(count).map(|held| &held.entry)
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max
            && self.held.front().is_some_and(|oldest| oldest.append <= self.durable)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.held.pop_front() else { return false };
        self.bytes -= cost(&oldest.entry);
        self.first += 1;
        true
    }
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{log::EntryKind, types::LogId};

    fn entries(term: u64, indexes: Range<u64>) -> Vec<Entry> {
        let id = |index| LogId { term, node: 1, index };
        let payload = Bytes::from_static(&[7; 100]);
        indexes
            .map(|index| Entry {
                id: id(index),
                kind: EntryKind::Command,
                payload: payload.clone(),
            })
            .collect()
    }

    #[track_caller]
    fn check(cache: &Cache, indexes: Range<u64>) {
        assert_eq!(cache.first(), indexes.start);
        let held: Vec<_> = cache.range(indexes.start..u64::MAX).map(|e| e.id.index).collect();
        assert_eq!(held, indexes.collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_durable_stays_however_much_it_is() {
        let mut cache = Cache::new(1, 3 * (100 + ENTRY_OVERHEAD_BYTES));
        cache.push(&entries(1, 1..6), 1);
        cache.push(&entries(1, 6..11), 2);
        check(&cache, 1..11);
        cache.set_durable(1);
        check(&cache, 6..11);
        cache.set_durable(2);
        check(&cache, 8..11);
    }

    #[test]
    fn a_replaced_entry_waits_for_its_own_append() {
        let mut cache = Cache::new(1, 0);
        cache.push(&entries(1, 1..6), 1);
        cache.push(&entries(2, 3..5), 2);
        cache.set_durable(1);
        check(&cache, 3..5);
        assert!(cache.range(3..5).all(|entry| entry.id.term == 2));
    }

    #[test]
    fn cutting_below_the_oldest_entry_moves_where_the_next_is_expected() {
        let mut cache = Cache::new(1, 0);
        cache.push(&entries(1, 1..6), 1);
        cache.set_durable(1);
        check(&cache, 6..6);
        cache.cut(3);
        check(&cache, 3..3);
        cache.push(&entries(2, 3..4), 2);
        check(&cache, 3..4);
        cache.drop_before(100);
        check(&cache, 100..100);
    }
}
