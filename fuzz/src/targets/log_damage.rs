//! A log that was written properly, then damaged, then opened.
//!
//! An input is a script: the steps of the writing, a step that ends it, the steps of the damage.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};

use super::{Settings, log_files::options};
use crate::{
    log::{Entry, EntryKind, FaultyFiles, Files, Log, State, segment},
    types::{LogId, Vote},
};

/// Steps of the writing, by the first byte of each. Any other byte appends as well.
pub(crate) mod write {
    pub(crate) const APPEND: u8 = 0;
    pub(crate) const TRUNCATE: u8 = 1;
    pub(crate) const PURGE: u8 = 2;
    pub(crate) const VOTE: u8 = 3;
    pub(crate) const COMMIT: u8 = 4;
    pub(crate) const FLUSH: u8 = 5;
    /// Closes the log and opens it again.
    pub(crate) const REOPEN: u8 = 6;
    /// Keeps a copy of the files, which the damage can bring back.
    pub(crate) const COPY: u8 = 7;
    pub(crate) const END: u8 = 8;
}

/// Steps of the damage, by the first byte of each. Any other byte flips a bit as well.
pub(crate) mod damage {
    pub(crate) const FLIP: u8 = 0;
    pub(crate) const CUT: u8 = 1;
    pub(crate) const ZERO: u8 = 2;
    pub(crate) const SPLICE: u8 = 3;
    /// A file as it was when it was copied.
    pub(crate) const ROLL_BACK: u8 = 4;
    pub(crate) const REMOVE: u8 = 5;
    /// A file under the next name as well.
    pub(crate) const DUPLICATE: u8 = 6;
    pub(crate) const LOSE_POWER: u8 = 7;
}

/// No script needs more, and each takes time.
const STEPS_MAX: usize = 64;
/// A few segments.
const ENTRY_BYTES_MAX: usize = 2048;

pub fn run(input: &[u8]) {
    let mut script = Settings(input);
    let mut bench = Bench::new();
    for _ in 0..STEPS_MAX {
        if script.is_over() || !bench.write(&mut script) {
            break;
        }
    }
    bench.flush();
    let Bench { files, copy, written, log, pool, .. } = bench;
    let before = (log.state(), all(&log));
    drop((pool, log)); // killed: the newest mark is not synced
    // What is behind the newest mark is not looked at any more, so a loss of power changes nothing.
    let mut kinds = Vec::new();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        kinds.push(harm(&mut script, &files, &copy));
    }
    let Ok((log, writer)) = Log::open(Arc::new(files.clone()), options()) else {
        let refused = kinds.iter().any(|kind| *kind != damage::LOSE_POWER);
        assert!(refused, "a log that nothing happened to does not open");
        return;
    };
    let (state, found) = (log.state(), all(&log));
    // One flipped bit of what was acknowledged is noticed, and any other harmless.
    if matches!(kinds[..], [] | [damage::FLIP] | [damage::LOSE_POWER]) {
        assert_eq!((durable(state), &found), (durable(before.0), &before.1));
    }
    for pair in found.windows(2) {
        assert_eq!(pair[0].id.index + 1, pair[1].id.index, "there is a gap");
    }
    for entry in &found {
        assert_eq!(written.get(&entry.id), Some(entry), "nobody wrote this");
    }
    let last = found.last().map(|entry| entry.id);
    assert_eq!(state.last, last.or(state.purged));
    goes_on(&files, log, writer, found);
}

/// Appends one more entry and opens the log once more.
fn goes_on(files: &FaultyFiles, log: Log, writer: crate::log::Writer, mut found: Vec<Entry>) {
    let index = log.state().last.map_or(0, |last| last.index + 1);
    let id = LogId { term: u64::MAX, node: 1, index };
    found.push(Entry { id, kind: EntryKind::Blank, payload: Bytes::new() });
    log.append(found[found.len() - 1..].to_vec(), Box::new(|flushed| flushed.expect("it works")));
    let state = log.state();
    drop(log);
    futures::executor::block_on(writer.run());
    let (log, writer) = Log::open(Arc::new(files.clone()), options()).expect("it has been opened");
    assert_eq!(all(&log), found);
    assert_eq!(durable(log.state()), durable(state));
    drop(writer);
}

fn all(log: &Log) -> Vec<Entry> {
    log.entries(0..u64::MAX, usize::MAX).expect("what was checked on opening is good")
}

/// Without what is committed: that is written with the next batch only, and may be noted with more
/// than damage has left.
fn durable(state: State) -> State {
    State { committed: None, ..state }
}

/// A log in memory, and all that was ever appended to it.
struct Bench {
    files: FaultyFiles,
    copy: FaultyFiles,
    written: BTreeMap<LogId, Entry>,
    log: Log,
    pool: LocalPool,
    term: u64,
}

impl Bench {
    fn new() -> Bench {
        let files = FaultyFiles::new(1);
        let (log, pool) = open(&files);
        Bench { copy: files.copy(), files, written: BTreeMap::new(), log, pool, term: 0 }
    }

    /// Takes one step; `false` when that was the last.
    fn write(&mut self, script: &mut Settings<'_>) -> bool {
        let step = script.byte();
        let last = self.log.state().last;
        match step % 16 {
            write::TRUNCATE => {
                let kept = self.back(script.byte());
                if self.is_uncommitted(kept.map_or(0, |kept| kept.index + 1)) {
                    self.log.truncate_after(kept);
                }
            }
            write::PURGE => {
                let ahead = script.byte();
                let upto = self.back(ahead).unwrap_or(LogId { term: 1, node: 1, index: 3 });
                self.log.purge(LogId { index: upto.index + u64::from(ahead >> 6), ..upto });
            }
            write::VOTE => {
                let vote = Vote { term: self.term, node: 2, committed: script.byte() & 1 == 1 };
                // It is queued with the first poll; waiting for it would need the writer.
                let log = self.log.clone();
                assert!(Box::pin(log.save_vote(vote)).now_or_never().is_none());
            }
            write::COMMIT => self.log.save_committed(self.back(script.byte())),
            write::FLUSH => self.flush(),
            write::REOPEN => {
                self.flush();
                let before = (durable(self.log.state()), all(&self.log));
                self.pool = LocalPool::new();
                (self.log, self.pool) = open(&self.files);
                assert_eq!((durable(self.log.state()), all(&self.log)), before);
            }
            write::COPY => {
                self.flush();
                self.copy = self.files.copy();
            }
            write::END => return false,
            _ => self.append(last, script),
        }
        true
    }

    /// Appends entries; now and then in place of the newest ones.
    fn append(&mut self, last: Option<LogId>, script: &mut Settings<'_>) {
        let form = script.byte();
        let size = script.number() % ENTRY_BYTES_MAX;
        self.term += 1;
        let next = last.map_or(0, |last| last.index + 1);
        let first = next.saturating_sub(u64::from(form >> 6));
        let first = if self.is_uncommitted(first) { first } else { next };
        let entries: Vec<Entry> = (first..=first + u64::from(form & 3))
            .map(|index| Entry {
                id: LogId { term: self.term, node: 1, index },
                kind: if form & 4 == 0 { EntryKind::Command } else { EntryKind::Membership },
                // Payloads may look like anything, such as what stands around them.
                payload: vec![(self.term ^ index) as u8 & form; size].into(),
            })
            .collect();
        self.written.extend(entries.iter().map(|entry| (entry.id, entry.clone())));
        self.log.append(entries, Box::new(|_| ())); // refused when it would replace what is purged
    }

    /// Whether the entries from here on may still be replaced.
    fn is_uncommitted(&self, index: u64) -> bool {
        self.log.state().committed.is_none_or(|committed| committed.index < index)
    }

    /// An entry that many before the newest; `None` for all of them.
    fn back(&self, count: u8) -> Option<LogId> {
        let entries = all(&self.log);
        let at = entries.len().checked_sub(usize::from(count & 0x3f) + 1)?;
        Some(entries[at].id)
    }

    fn flush(&mut self) {
        self.pool.run_until_stalled();
    }
}

fn open(files: &FaultyFiles) -> (Log, LocalPool) {
    let (log, writer) = Log::open(Arc::new(files.clone()), options()).expect("it is undamaged");
    let pool = LocalPool::new();
    pool.spawner().spawn_local(writer.run()).expect("the pool is there");
    (log, pool)
}

/// Takes one step and says which kind it was.
fn harm(script: &mut Settings<'_>, files: &FaultyFiles, copy: &FaultyFiles) -> u8 {
    let kind = script.byte() % 8;
    if kind == damage::LOSE_POWER {
        files.lose_power();
        return kind;
    }
    let names = files.list(&options().dir).expect("the files are in memory");
    let which = usize::from(script.byte());
    let Some(name) = names.get(which % names.len().max(1)) else { return kind };
    let path = options().dir.join(name);
    let mut content = files.content(&path).expect("it was listed");
    let at = script.number() % (content.len() + 1);
    match kind {
        damage::CUT => content.truncate(at),
        damage::ZERO => {
            let end = (at + script.number()).min(content.len());
            content[at..end].fill(0);
        }
        damage::SPLICE => splice(&mut content, at, script, if which < 128 { files } else { copy }),
        damage::ROLL_BACK => {
            let Some(earlier) = copy.content(&path) else { return kind };
            content = earlier;
        }
        damage::REMOVE => {
            files.remove(&path).expect("it was listed");
            return kind;
        }
        damage::DUPLICATE => {
            let next = segment::sequence_of(name).map(|sequence| segment::file_name(sequence + 1));
            let next = next.unwrap_or_else(|| segment::file_name(at as u64));
            files.set_content(&options().dir.join(next), content);
            return kind;
        }
        _ => {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1 << (which % 8);
            }
        }
    }
    files.set_content(&path, content);
    kind
}

/// Puts a part of another file in the place of what is there.
fn splice(content: &mut [u8], at: usize, script: &mut Settings<'_>, from: &FaultyFiles) {
    let names = from.list(&options().dir).expect("the files are in memory");
    let Some(name) = names.get(usize::from(script.byte()) % names.len().max(1)) else { return };
    let path: PathBuf = options().dir.join(name);
    let other = from.content(&path).expect("it was listed");
    let start = script.number() % (other.len() + 1);
    let count = script.number().min(other.len() - start).min(content.len() - at);
    content[at..at + count].copy_from_slice(&other[start..start + count]);
}
