//! How large the store is: what a quota is held against.
//!
//! Counted are the bytes of keys and values before compression, of the rows that anybody can see
//! and of those that have been replaced or removed and still stand in some file. The notes by which
//! RocksDB removes a row are left out: deleting must not look like growing. So the number grows by
//! about what is written, whatever the data, and falls when files are rewritten: by RocksDB as it
//! pleases, or at once by [`super::Storage::reclaim`].

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{DB, WriteBatch, properties};

use super::{Sizes, tables::Table};

/// Bytes between two marks in the account of what was written: how exact the account is.
const MARK_BYTES: u64 = 4 << 10;

/// What was written, and what the files hold.
#[derive(Default)]
pub(super) struct Account {
    written: Mutex<Written>,
    files: Mutex<Option<(u64, Rows)>>,
}

/// Rows, deletions of rows among them, and the bytes of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    rows: u64,
    deletions: u64,
    bytes: u64,
}

/// All that was written since the store was opened, in marks: RocksDB tells how many of the newest
/// rows are still in memory, not how large they are.
#[derive(Default)]
struct Written {
    total: Mark,
    marks: VecDeque<Mark>,
}

/// So much had been written. `all` counts the rows of [`Table::Meta`], which are replaced by every
/// batch; the others don't.
#[derive(Clone, Copy, Default)]
struct Mark {
    all: u64,
    rows: u64,
    bytes: u64,
}

impl Account {
    pub(super) fn wrote(&self, counted: Counted) {
        lock(&self.written).add(counted.0);
    }

    pub(super) fn sizes(&self, db: &DB) -> Sizes {
        let files = self.files(db);
        let buffered = self.buffered(db);
        Rows {
            rows: files.rows + buffered.rows,
            deletions: files.deletions + buffered.deletions,
            bytes: files.bytes + buffered.bytes,
        }
        .sizes()
    }

    /// What the files hold. They change with every flush and compaction and not in between.
    fn files(&self, db: &DB) -> Rows {
        let version = number(db, properties::CURRENT_SUPER_VERSION_NUMBER);
        let mut files = lock(&self.files);
        match *files {
            Some((of, rows)) if of == version => rows,
            Some(_) | None => {
                let text = db.property_value(properties::AGGREGATED_TABLE_PROPERTIES);
                let rows = parse(&text.ok().flatten().unwrap_or_default());
                *files = Some((version, rows));
                rows
            }
        }
    }

    /// What is only in memory yet.
    fn buffered(&self, db: &DB) -> Rows {
        let all = number(db, properties::NUM_ENTRIES_ACTIVE_MEM_TABLE)
            + number(db, properties::NUM_ENTRIES_IMM_MEM_TABLES);
        let deletions = number(db, properties::NUM_DELETES_ACTIVE_MEM_TABLE)
            + number(db, properties::NUM_DELETES_IMM_MEM_TABLES);
        let mut written = lock(&self.written);
        let Mark { rows, bytes, .. } = written.newest(all);
        Rows { rows, deletions: deletions.min(rows), bytes }
    }
}

impl Rows {
    /// A deletion makes a row dead; which one is not known, so of average size.
    fn sizes(self) -> Sizes {
        let puts = self.rows.saturating_sub(self.deletions);
        let live = puts.saturating_sub(self.deletions);
        let in_use = u128::from(self.bytes) * u128::from(live) / u128::from(puts.max(1));
        let in_use = u64::try_from(in_use).unwrap_or(u64::MAX).min(self.bytes);
        Sizes { on_disk: self.bytes, in_use }
    }
}

impl Written {
    fn add(&mut self, batch: Mark) {
        // A large batch is marked on both sides: rows in it are not like those before.
        if batch.bytes >= MARK_BYTES && self.marks.back().is_none_or(|it| it.all < self.total.all) {
            self.marks.push_back(self.total);
        }
        self.total.all += batch.all;
        self.total.rows += batch.rows;
        self.total.bytes += batch.bytes;
        let marked = self.marks.back().map_or(0, |mark| mark.bytes);
        if self.total.bytes - marked >= MARK_BYTES {
            self.marks.push_back(self.total);
        }
    }

    /// The newest rows, so many with those of [`Table::Meta`]. Forgets marks before them.
    fn newest(&mut self, all: u64) -> Mark {
        let from = self.total.all.saturating_sub(all);
        let mut before = Mark::default();
        while let Some(mark) = self.marks.front()
            && mark.all <= from
        {
            before = *mark;
            self.marks.pop_front();
        }
        // Kept: the next question may be about as many rows.
        if before.all > 0 {
            self.marks.push_front(before);
        }
        let next = self.marks.iter().find(|mark| mark.all > from).copied();
        let start = between(before, next.unwrap_or(self.total), from);
        Mark { all, rows: self.total.rows - start.rows, bytes: self.total.bytes - start.bytes }
    }
}

/// How much had been written when so many rows had, if it grew evenly between two marks.
fn between(before: Mark, after: Mark, all: u64) -> Mark {
    let (done, span) = (all.saturating_sub(before.all), after.all.saturating_sub(before.all));
    let part = |from: u64, to: u64| {
        let whole = u128::from(to.saturating_sub(from));
        let part = whole * u128::from(done.min(span)) / u128::from(span.max(1));
        from + u64::try_from(part).unwrap_or(u64::MAX)
    };
    Mark { all, rows: part(before.rows, after.rows), bytes: part(before.bytes, after.bytes) }
}

/// The rows of one batch.
#[derive(Default)]
pub(super) struct Counted(Mark);

impl Counted {
    /// Of a batch that was made elsewhere.
    pub(super) fn of(batch: &WriteBatch) -> Counted {
        let mut counted = Counted::default();
        batch.iterate(&mut counted);
        counted
    }

    /// Notes a row: its key as it is stored, and the length of key and value, or 0 for a deletion.
    pub(super) fn add(&mut self, key: &[u8], bytes: usize) {
        self.0.all += 1;
        if key.first() != Some(&(Table::Meta as u8)) {
            self.0.rows += 1;
            self.0.bytes += bytes as u64;
        }
    }
}

impl rocksdb::WriteBatchIterator for Counted {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.add(key, key.len() + value.len());
    }

    fn delete(&mut self, key: &[u8]) {
        self.add(key, 0);
    }
}

fn number(db: &DB, name: &rocksdb::properties::PropName) -> u64 {
    db.property_int_value(name).ok().flatten().unwrap_or(0)
}

/// Out of RocksDB's `name=value; name=value; …`. A name that is missing counts as nothing: sizes
/// are estimates, and there is nothing better to say.
fn parse(properties: &str) -> Rows {
    let field = |name: &str| {
        let mut fields = properties.split(';').filter_map(|field| field.split_once('='));
        let value = fields.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim());
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    let rows = field("# entries");
    let deletions = field("# deletions").min(rows);
    // Behind each key RocksDB keeps eight bytes of its own.
    let keys = field("raw key size").saturating_sub(8 * rows);
    let keys = u128::from(keys) * u128::from(rows - deletions) / u128::from(rows.max(1));
    let keys = u64::try_from(keys).unwrap_or(u64::MAX);
    Rows { rows, deletions, bytes: keys + field("raw value size") }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_properties_of_files_are_read() {
        let text = "# data blocks=2; # entries=10; # deletions=4; # merge operands=0; \
                    raw key size=280; raw average key size=28.000000; raw value size=1000; \
                    data block size=900";
        assert_eq!(parse(text), Rows { rows: 10, deletions: 4, bytes: 1120 });
        assert_eq!(parse(""), Rows::default());
    }

    #[test]
    fn rows_that_were_deleted_are_not_in_use() {
        #[track_caller]
        fn check(rows: u64, deletions: u64, expected: (u64, u64)) {
            let Sizes { on_disk, in_use } = Rows { rows, deletions, bytes: 1000 }.sizes();
            assert_eq!((on_disk, in_use), expected);
        }
        check(10, 0, (1000, 1000));
        check(12, 2, (1000, 800));
        check(10, 5, (1000, 0));
        // What was deleted may never have been there.
        check(10, 8, (1000, 0));
        check(0, 0, (1000, 0));
    }

    #[test]
    fn the_newest_rows_are_as_large_as_they_were_written() {
        let mut written = Written::default();
        for _ in 0..1000 {
            written.add(Mark { all: 3, rows: 1, bytes: 100 });
        }
        for _ in 0..10 {
            written.add(Mark { all: 3, rows: 1, bytes: 1 << 20 });
        }
        let size = |written: &mut Written, all| {
            let Mark { rows, bytes, .. } = written.newest(all);
            (rows, bytes)
        };
        assert_eq!(size(&mut written, 3030), (1010, 100_000 + (10 << 20)));
        assert_eq!(size(&mut written, 45), (15, 500 + (10 << 20)));
        assert_eq!(size(&mut written, 15), (5, 5 << 20));
        assert_eq!(size(&mut written, 0), (0, 0));
        assert!(written.marks.len() <= 2);
    }
}
