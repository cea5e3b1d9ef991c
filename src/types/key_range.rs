//! Which keys a request is about.

use bytes::Bytes;

/// A set of neighbouring keys, in etcd's notation made explicit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// This key alone: the wire's empty `range_end`.
    One(Bytes),
    /// Keys in `[start, end)`; empty when `end <= start`.
    Between(Bytes, Bytes),
    /// Every key from this one on: the wire's `range_end` of one NUL byte.
    From(Bytes),
}

impl KeyRange {
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        if range_end.is_empty() {
            KeyRange::One(key)
        } else if range_end.as_ref() == [0] {
            KeyRange::From(key)
        } else {
            KeyRange::Between(key, range_end)
        }
    }

    /// The smallest key that can be in the range.
    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::One(start) | KeyRange::Between(start, _) | KeyRange::From(start) => start,
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::Between(start, end) => start.as_ref() <= key && key < end.as_ref(),
            KeyRange::From(start) => start.as_ref() <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &'static str, range_end: &'static str, inside: &[&str], outside: &[&str]) {
        let range = KeyRange::from_wire(Bytes::from(key), Bytes::from(range_end));
        for key in inside {
            assert!(range.contains(key.as_bytes()), "{range:?} has {key:?}");
        }
        for key in outside {
            assert!(!range.contains(key.as_bytes()), "{range:?} has no {key:?}");
        }
    }

    #[test]
    fn a_range_is_read_as_etcd_reads_it() {
        check("b", "", &["b"], &["a", "ba", "c"]);
        check("b", "d", &["b", "ba", "c", "czz"], &["a", "d"]);
        check("b", "\0", &["b", "c", "zz"], &["a", ""]);
        check("\0", "\0", &["\0", "a", "zz"], &[""]);
        check("d", "b", &[], &["b", "c", "d"]);
    }
}
