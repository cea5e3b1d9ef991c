//! A log without its entries: the rules for what may be appended and what dropping leaves.
//!
//! Callers, writer and recovery go by the same rules, each at its own time.

use super::{Entry, State, record::ENTRY_BYTES_MAX};
use crate::types::LogId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) state: State,
    /// Index of the oldest entry; without meaning when there is none.
    pub(crate) first: u64,
}

impl Outline {
    /// Index after the newest entry.
    pub(crate) fn next_index(&self) -> u64 {
        after(self.state.last)
    }

    /// Whether `entries` are consecutive and continue or replace what is there. A log that holds
    /// nothing and has purged nothing may start anywhere.
    pub(crate) fn accepts(&self, entries: &[Entry]) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return true };
        let continues = (self.lowest()..=self.next_index()).contains(&first.id.index);
        let follows = |a: &Entry, b: &Entry| a.id.index.checked_add(1) == Some(b.id.index);
        (continues || self.state.last.is_none())
            && entries.is_sorted_by(follows)
            // There is always a next index.
            && last.id.index < u64::MAX
            && entries.iter().all(|entry| entry.payload.len() <= ENTRY_BYTES_MAX)
    }

    /// `false` if nothing is replaced.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return false };
        let replaced = first.id.index < self.next_index();
        if self.state.last == self.state.purged {
            self.first = first.id.index;
        }
        self.state.last = Some(last.id);
        replaced
    }

    /// `false` if there is nothing after `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) -> bool {
        let dropped = after(last) < self.next_index();
        if dropped {
            let kept = last.filter(|last| last.index >= self.lowest());
            self.state.last = kept.or(self.state.purged);
        }
        dropped
    }

    /// `false` if that much has been purged before.
    pub(crate) fn purge(&mut self, upto: LogId) -> bool {
        let dropped = self.state.purged.is_none_or(|purged| purged.index < upto.index);
        if dropped {
            self.state.purged = Some(upto);
            self.first = self.first.max(after(Some(upto)));
            if self.next_index() <= after(Some(upto)) {
                self.state.last = Some(upto);
            }
        }
        dropped
    }

    /// Lowest index that an append may replace.
    fn lowest(&self) -> u64 {
        if self.state.last == self.state.purged { self.next_index() } else { self.first }
    }
}

/// Index after this entry; the first of all for `None`.
pub(crate) fn after(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::EntryKind;

    fn id(index: u64) -> LogId {
        LogId { term: 1, node: 1, index }
    }

    fn entries(indexes: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        let entry = |index| Entry { id: id(index), kind: EntryKind::Blank, payload: Bytes::new() };
        indexes.into_iter().map(entry).collect()
    }

    fn outline(purged: Option<u64>, first: u64, last: Option<u64>) -> Outline {
        let (purged, last) = (purged.map(id), last.map(id));
        Outline { state: State { purged, last, ..State::default() }, first }
    }

    #[track_caller]
    fn check(outline: Outline, indexes: impl IntoIterator<Item = u64>, accepted: bool) {
        assert_eq!(outline.accepts(&entries(indexes)), accepted);
    }

    #[test]
    fn entries_continue_the_log_or_replace_its_end() {
        let outline = outline(Some(4), 5, Some(9));
        check(outline, [10, 11], true);
        check(outline, [5], true);
        check(outline, [], true);
        check(outline, [4], false);
        check(outline, [11], false);
        check(outline, [10, 12], false);
    }

    #[test]
    fn an_empty_log_goes_on_after_what_was_purged_and_an_untouched_one_starts_anywhere() {
        check(outline(None, 0, None), [7], true);
        check(outline(Some(4), 5, Some(4)), [5], true);
        check(outline(Some(4), 5, Some(4)), [6], false);
        check(outline(Some(4), 5, Some(4)), [4], false);
    }

    #[test]
    fn dropping_everything_leaves_what_was_purged() {
        let mut log = outline(Some(4), 5, Some(9));
        assert!(!log.truncate_after(Some(id(9))));
        assert!(log.truncate_after(Some(id(4))));
        assert_eq!(log.state.last, Some(id(4)));
        let mut log = outline(None, 1, Some(9));
        assert!(log.truncate_after(None));
        assert_eq!(log.state.last, None);
    }

    #[test]
    fn purging_may_go_beyond_the_newest_entry() {
        let mut log = outline(None, 1, Some(9));
        assert!(log.purge(id(20)));
        assert_eq!(log, outline(Some(20), 21, Some(20)));
        assert!(!log.purge(id(20)));
        check(log, [21], true);
    }
}
