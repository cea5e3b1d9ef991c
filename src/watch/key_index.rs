//! Who is interested in a key: the hub asks it for streams, a stream asks it for watchers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use bytes::Bytes;

use crate::types::KeyRange;

/// A set of `(range, id)` pairs that answers which ids have a range with a given key in it.
///
/// A single key costs one hash. Ranges without an end all match once their start does, so walking
/// them wastes nothing. Ranges with an end are walked backwards from the last that starts at or
/// before the key, and the walk stops where no earlier one reaches as far as the key: for ranges
/// that lie side by side, which is what thousands of prefixes are, that is after one step. A wide
/// range over many narrow ones makes it a walk over those before the key; that case is left slow.
#[derive(Debug)]
pub(crate) struct KeyIndex<Id> {
    keys: HashMap<Bytes, BTreeSet<Id>>,
    /// Distinct, sorted by start, then end.
    #[expect(clippy::vec_box, reason = "a change moves all that stand behind")]
    spans: Vec<Box<Span<Id>>>,
    /// Ranges without an end, by start.
    tails: BTreeMap<Bytes, BTreeSet<Id>>,
}

#[derive(Debug)]
struct Span<Id> {
    start: Bytes,
    end: Bytes,
    /// The largest `end` of this span and all before it.
    reach: Bytes,
    ids: BTreeSet<Id>,
}

impl<Id> Default for KeyIndex<Id> {
    fn default() -> KeyIndex<Id> {
        KeyIndex { keys: HashMap::new(), spans: Vec::new(), tails: BTreeMap::new() }
    }
}

impl<Id: Copy + Ord> KeyIndex<Id> {
    /// Adding a pair twice is the same as adding it once.
    pub(crate) fn add(&mut self, range: &KeyRange, id: Id) {
        match range {
            KeyRange::One(key) => {
                self.keys.entry(key.clone()).or_default().insert(id);
            }
            KeyRange::Between(start, end) => match self.find(start, end) {
                Ok(at) => {
                    self.spans[at].ids.insert(id);
                }
                Err(at) => {
                    let (start, end, ids) = (start.clone(), end.clone(), BTreeSet::from([id]));
                    let span = Span { start, end, reach: Bytes::new(), ids };
                    self.spans.insert(at, Box::new(span));
                    self.measure_reach_from(at);
                }
            },
            KeyRange::From(start) => {
                self.tails.entry(start.clone()).or_default().insert(id);
            }
        }
    }

    /// Nothing happens when the pair is not in the set.
    pub(crate) fn remove(&mut self, range: &KeyRange, id: Id) {
        match range {
            KeyRange::One(key) => {
                if let Some(ids) = self.keys.get_mut(key) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            KeyRange::Between(start, end) => {
                if let Ok(at) = self.find(start, end) {
                    self.spans[at].ids.remove(&id);
                    if self.spans[at].ids.is_empty() {
                        self.spans.remove(at);
                        self.measure_reach_from(at);
                    }
                }
            }
            KeyRange::From(start) => {
                if let Some(ids) = self.tails.get_mut(start) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.tails.remove(start);
                    }
                }
            }
        }
    }

    /// Calls `found` for each pair whose range has the key in it.
    pub(crate) fn each_match(&self, key: &[u8], mut found: impl FnMut(Id)) {
        if let Some(ids) = self.keys.get(key) {
            ids.iter().copied().for_each(&mut found);
        }
        let starting = self.spans.partition_point(|span| span.start.as_ref() <= key);
        for span in self.spans[..starting].iter().rev() {
            if span.reach.as_ref() <= key {
                break;
            }
            if key < span.end.as_ref() {
                span.ids.iter().copied().for_each(&mut found);
            }
        }
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        for ids in self.tails.range::<[u8], _>(up_to_key).map(|(_, ids)| ids) {
            ids.iter().copied().for_each(&mut found);
        }
    }

    fn find(&self, start: &Bytes, end: &Bytes) -> Result<usize, usize> {
        self.spans.binary_search_by(|span| (&span.start, &span.end).cmp(&(start, end)))
    }

    fn measure_reach_from(&mut self, first: usize) {
        for at in first..self.spans.len() {
            let end = self.spans[at].end.clone();
            let reach = match at.checked_sub(1) {
                Some(before) => self.spans[before].reach.clone().max(end),
                None => end,
            };
            if self.spans[at].reach == reach && at > first {
                break; // what stands behind was measured with this reach
            }
            self.spans[at].reach = reach;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        let key = || prop::collection::vec(0u8..4, 0..3).prop_map(Bytes::from);
        prop_oneof![
            key().prop_map(KeyRange::One),
            (key(), key()).prop_map(|(start, end)| KeyRange::Between(start, end)),
            key().prop_map(KeyRange::From),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_asking_every_range_finds(
            changes in prop::collection::vec((any::<bool>(), range(), 0u8..6), 0..60),
            asked in prop::collection::vec(prop::collection::vec(0u8..4, 0..3), 1..20),
        ) {
            let (mut index, mut model) = (KeyIndex::default(), Vec::new());
            for (add, range, id) in changes {
                model.retain(|pair| *pair != (range.clone(), id));
                if add {
                    index.add(&range, id);
                    model.push((range, id));
                } else {
                    index.remove(&range, id);
                }
            }
            for key in asked {
                let mut found = Vec::new();
                index.each_match(&key, |id| found.push(id));
                let mut expected: Vec<u8> = model
                    .iter()
                    .filter(|(range, _)| range.contains(&key))
                    .map(|(_, id)| *id)
                    .collect();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn what_is_removed_leaves_nothing_behind(
            pairs in prop::collection::vec((range(), 0u8..6), 0..30),
        ) {
            let mut index = KeyIndex::default();
            for (range, id) in &pairs {
                index.add(range, *id);
            }
            for (range, id) in &pairs {
                index.remove(range, *id);
            }
            prop_assert!(index.keys.is_empty());
            prop_assert!(index.spans.is_empty());
            prop_assert!(index.tails.is_empty());
        }
    }
}
