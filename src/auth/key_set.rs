//! The keys that a user may read or write, all its roles taken together.

use bytes::Bytes;

use crate::types::KeyRange;

/// Keys as intervals that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<Interval>);

/// Keys from `start` on that are smaller than `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    /// `None` for no end.
    end: Option<Bytes>,
}

impl FromIterator<KeyRange> for KeySet {
    fn from_iter<T: IntoIterator<Item = KeyRange>>(ranges: T) -> KeySet {
        let mut intervals: Vec<Interval> = ranges.into_iter().map(Interval::from).collect();
        intervals.sort_by(|one, other| one.start.cmp(&other.start));
        let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
        for interval in intervals {
            match merged.last_mut() {
                Some(last) if last.reaches(&interval.start) => last.extend(interval.end),
                Some(_) | None => merged.push(interval),
            }
        }
        KeySet(merged)
    }
}

impl KeySet {
    /// Whether all keys of the range are in the set.
    ///
    /// A range that ends before it begins has no keys; as in etcd, its first key must be in the
    /// set.
    pub(super) fn covers(&self, range: &KeyRange) -> bool {
        let start = range.start();
        let behind = self.0.partition_point(|interval| interval.start <= *start);
        let Some(interval) = behind.checked_sub(1).map(|at| &self.0[at]) else { return false };
        let Some(end) = &interval.end else { return true };
        start < end
            && match range {
                KeyRange::One(_) => true,
                KeyRange::Between(_, range_end) => range_end <= end,
                KeyRange::From(_) => false,
            }
    }
}

impl From<KeyRange> for Interval {
    fn from(range: KeyRange) -> Interval {
        match range {
            KeyRange::One(key) => {
                let end = [&key, &[0][..]].concat().into();
                Interval { start: key, end: Some(end) }
            }
            KeyRange::Between(start, end) => Interval { start, end: Some(end) },
            KeyRange::From(start) => Interval { start, end: None },
        }
    }
}

impl Interval {
    /// Whether no key lies between this interval and one that starts there.
    fn reaches(&self, start: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| start <= end)
    }

    fn extend(&mut self, end: Option<Bytes>) {
        self.end = match (self.end.take(), end) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (None, _) | (_, None) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a` is one key, `a-c` the keys between, `a-` all from there on.
    fn range(text: &str) -> KeyRange {
        let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        match text.split_once('-') {
            None => KeyRange::One(key(text)),
            Some((start, "")) => KeyRange::From(key(start)),
            Some((start, end)) => KeyRange::Between(key(start), key(end)),
        }
    }

    fn set(ranges: &str) -> KeySet {
        ranges.split_whitespace().map(range).collect()
    }

    #[track_caller]
    fn check(ranges: &str, inside: &str, outside: &str) {
        let set = set(ranges);
        for text in inside.split_whitespace() {
            assert!(set.covers(&range(text)), "{ranges} covers {text}");
        }
        for text in outside.split_whitespace() {
            assert!(!set.covers(&range(text)), "{ranges} does not cover {text}");
        }
    }

    #[test]
    fn a_range_is_covered_when_each_of_its_keys_is() {
        check("", "", "a a-b a-");
        check("b", "b b-b\0", "a c ba b-c b-");
        check("b-d", "b c czz b-d c-d b-c", "a d a-c b-dd c- d-");
        check("b-", "b zz b-c b- c-", "a a-c a-");
    }

    #[test]
    fn ranges_that_meet_are_one() {
        check("a-c c-e", "a-e b-d", "a-f");
        check("c-e a-d e", "a-e a-e\0", "a-f");
        check("a-b b- d-e", "a- d-z", "");
        check("a-b c-d", "a-b c-d", "a-d b");
        check("a-z b-c", "a-z y", "");
    }

    /// What etcd says to a range without keys.
    #[test]
    fn of_a_range_that_ends_before_it_begins_the_first_key_counts() {
        check("b-d", "c-b c-c c-a", "d-b a-a e-c");
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        let key = || (0u8..6).prop_map(|key| Bytes::copy_from_slice(&[key]));
        prop_oneof![
            key().prop_map(KeyRange::One),
            (key(), 1u8..3).prop_map(|(start, more)| {
                let end = Bytes::copy_from_slice(&[start[0] + more]);
                KeyRange::Between(start, end)
            }),
            key().prop_map(KeyRange::From),
        ]
    }

    proptest! {
        #[test]
        fn a_set_covers_what_its_ranges_contain(
            ranges in prop::collection::vec(any_range(), 0..5),
            asked in any_range(),
        ) {
            // Between two keys of one byte there are others, and behind the last as well.
            let keys = (0..=9u8).flat_map(|key| [vec![key], vec![key, 0], vec![key, 7]]);
            let mut inside = keys.filter(|key| asked.contains(key));
            let expected = inside.all(|key| ranges.iter().any(|range| range.contains(&key)));
            prop_assert_eq!(ranges.into_iter().collect::<KeySet>().covers(&asked), expected);
        }
    }
}
