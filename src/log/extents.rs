//! Where the entries stand in the files: one line of index per record of entries.

use std::collections::VecDeque;

use super::record::RECORD_HEADER_BYTES;

/// A record of entries in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Index of the first entry.
    pub(crate) first: u64,
    /// Entries that still count: those behind may have been replaced since.
    pub(crate) count: u32,
    /// What the record continues.
    pub(crate) chain: u32,
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    /// Of the whole record in bytes.
    pub(crate) size: u32,
}

/// Records of entries in the order of their indexes, which is the order of the files as well.
#[derive(Default)]
pub(crate) struct Extents {
    records: VecDeque<Extent>,
    /// Of all these records.
    bytes: u64,
}

impl Extent {
    /// Index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.count.into())
    }
}

impl Extents {
    /// Adds the newest record; its entries replace those that have the same indexes or follow.
    pub(crate) fn push(&mut self, extent: Extent) {
        debug_assert!(extent.size as usize > RECORD_HEADER_BYTES);
        self.cut(extent.first);
        self.bytes += u64::from(extent.size);
        self.records.push_back(extent);
    }

    /// Forgets the entries from `index` on.
    pub(crate) fn cut(&mut self, index: u64) {
        while let Some(newest) = self.records.back_mut()
            && newest.end() > index
        {
            if newest.first >= index {
                self.bytes -= u64::from(newest.size);
                self.records.pop_back();
            } else {
                newest.count = (index - newest.first) as u32;
            }
        }
    }

    /// Forgets the records that hold nothing from `index` on.
    pub(crate) fn drop_before(&mut self, index: u64) {
        while let Some(oldest) = self.records.front()
            && oldest.end() <= index
        {
            self.bytes -= u64::from(oldest.size);
            self.records.pop_front();
        }
    }

    /// Index of the newest entry that must go, so that no more than `bytes_max` stay; `None` when
    /// no more are there.
    pub(crate) fn excess(&self, bytes_max: u64) -> Option<u64> {
        let mut left = self.bytes;
        let too_many = self.records.iter().take_while(|extent| {
            let goes = left > bytes_max;
            left = left.saturating_sub(extent.size.into());
            goes
        });
        too_many.last().map(|extent| extent.end().saturating_sub(1))
    }

    pub(crate) fn find(&self, index: u64) -> Option<Extent> {
        let after = self.records.partition_point(|extent| extent.first <= index);
        let found = self.records.get(after.checked_sub(1)?)?;
        (index < found.end()).then_some(*found)
    }

    /// The segment that holds the oldest entry.
    pub(crate) fn oldest_sequence(&self) -> Option<u64> {
        self.records.front().map(|extent| extent.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(first: u64, count: u32, sequence: u64) -> Extent {
        Extent { first, count, chain: 0, sequence, offset: 512, size: 64 }
    }

    #[test]
    fn a_later_record_replaces_what_it_overlaps() {
        let mut extents = Extents::default();
        extents.push(extent(1, 10, 1));
        extents.push(extent(11, 5, 1));
        extents.push(extent(6, 2, 2));
        assert_eq!(extents.find(5), Some(extent(1, 5, 1)));
        assert_eq!(extents.find(7), Some(extent(6, 2, 2)));
        assert_eq!(extents.find(8), None);
    }

    #[test]
    fn what_is_too_much_is_the_oldest() {
        let mut extents = Extents::default();
        assert_eq!(extents.excess(0), None);
        extents.push(extent(1, 10, 1));
        extents.push(extent(11, 10, 1));
        extents.push(extent(21, 10, 2));
        #[track_caller]
        fn check(extents: &Extents, bytes_max: u64, excess: Option<u64>) {
            assert_eq!(extents.excess(bytes_max), excess);
        }
        check(&extents, 192, None);
        check(&extents, 191, Some(10));
        check(&extents, 128, Some(10));
        check(&extents, 64, Some(20));
        check(&extents, 0, Some(30));
        extents.drop_before(11);
        check(&extents, 128, None);
        extents.cut(21);
        check(&extents, 64, None);
        check(&extents, 63, Some(20));
    }

    #[test]
    fn a_record_stays_until_all_of_it_is_purged() {
        let mut extents = Extents::default();
        extents.push(extent(1, 10, 1));
        extents.push(extent(11, 10, 2));
        extents.drop_before(10);
        assert_eq!(extents.oldest_sequence(), Some(1));
        extents.drop_before(11);
        assert_eq!(extents.oldest_sequence(), Some(2));
        extents.drop_before(100);
        assert_eq!(extents.oldest_sequence(), None);
    }
}
