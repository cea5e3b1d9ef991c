//! The writer: everything queued is one write and one fdatasync, then the callbacks run.

use std::{io, sync::Arc};

use super::{
    Entry, Flushed,
    extents::Extent,
    folder::Folder,
    outline::{Outline, after},
    record::{self, Record},
    segment::Active,
    shared::{Effect, Request, Shared, Work},
};
use crate::types::LogId;

/// Bytes written at most before an fdatasync: more would only make the first in the queue wait.
const WRITE_BYTES_MAX: usize = 16 << 20;

/// What the buffer keeps for the next write after a big one.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Does the writing. Runs until every [`Log`](super::Log) handle is gone.
///
/// A failed write or fsync is final: nothing is written after it, and every callback gets the
/// error. What the disk holds then is known only after the log has been opened again.
pub struct Writer {
    shared: Arc<Shared>,
    folder: Folder,
    active: Active,
    /// What the records written so far amount to; the header of the next segment repeats it.
    logged: Outline,
    batch: Batch,
    failure: Option<io::Error>,
}

/// Records that are not written yet, and what follows when they are durable.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    chain: u32,
    effects: Vec<Effect>,
    /// Of complete requests, in their order.
    callbacks: Vec<Flushed>,
    /// Number of the newest append that is complete.
    append: u64,
    /// A segment was started, so a spare file was used.
    used_spare: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: Folder,
        active: Active,
        logged: Outline,
    ) -> Writer {
        let batch = Batch { chain: active.tail.chain, ..Batch::default() };
        Writer { shared, folder, active, logged, batch, failure: None }
    }

    /// Blocks its thread while it writes; any executor will do.
    pub async fn run(mut self) {
        loop {
            let work = self.shared.work().await;
            let last = work.last;
            self.perform(work);
            if last {
                break;
            }
        }
        if self.failure.is_none() {
            // For the newest mark, which is the only thing not durable. Nothing depends on it.
            let _ = self.active.segment.file.sync();
        }
    }

    fn perform(&mut self, work: Work) {
        for request in work.requests {
            match request {
                Request::Append { entries, number, flushed } => {
                    self.attempt(|writer| writer.append(&entries, number));
                    self.batch.callbacks.push(flushed);
                }
                Request::TruncateAfter(last) => {
                    self.attempt(|writer| writer.truncate_after(last));
                }
                Request::PurgeTo(upto) => self.attempt(|writer| writer.purge(upto)),
                Request::Vote(vote, flushed) => {
                    self.attempt(|writer| {
                        writer.put(&Record::Vote(vote))?;
                        writer.logged.state.vote = Some(vote);
                        Ok(())
                    });
                    self.batch.callbacks.push(flushed);
                }
            }
        }
        // Behind the entries that it speaks of: a torn tail must not leave it without them.
        if let Some(committed) = work.committed {
            self.attempt(|writer| {
                writer.put(&Record::Committed(committed))?;
                writer.logged.state.committed = committed;
                Ok(())
            });
        }
        self.attempt(Writer::flush);
        self.attempt(|writer| match std::mem::take(&mut writer.batch.used_spare) {
            true => writer.folder.keep_spares(),
            false => Ok(()),
        });
        if let Some(error) = &self.failure {
            for flushed in std::mem::take(&mut self.batch).callbacks {
                flushed(Err(same(error)));
            }
        }
    }

    /// Does nothing after a failure.
    fn attempt(&mut self, step: impl FnOnce(&mut Writer) -> io::Result<()>) {
        if self.failure.is_none() {
            self.failure = step(self).err();
        }
    }

    fn append(&mut self, entries: &[Entry], number: u64) -> io::Result<()> {
        for entries in record::split(entries) {
            let size = record::entries_size(entries);
            self.make_room(size)?;
            let batch = &mut self.batch;
            let extent = Extent {
                first: entries[0].id.index,
                count: entries.len() as u32,
                chain: batch.chain,
                sequence: self.active.segment.sequence,
                offset: self.active.tail.offset + batch.bytes.len() as u64,
                size: size as u32,
            };
            let group = self.folder.group;
            batch.chain = record::encode_entries(&mut batch.bytes, batch.chain, group, entries);
            batch.effects.push(Effect::Record(extent));
            self.logged.append(entries);
        }
        self.batch.append = number;
        Ok(())
    }

    fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.put(&Record::TruncateAfter(last))?;
        self.logged.truncate_after(last);
        self.batch.effects.push(Effect::Cut(after(last)));
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.put(&Record::PurgeTo(upto))?;
        self.logged.purge(upto);
        self.batch.effects.push(Effect::DropBefore(after(Some(upto))));
        Ok(())
    }

    /// Adds one of the small records, of which a mark is the largest.
    fn put(&mut self, record: &Record) -> io::Result<()> {
        self.make_room(record::MARK_BYTES)?;
        let Batch { bytes, chain, .. } = &mut self.batch;
        *chain = record::encode(bytes, *chain, self.folder.group, record);
        Ok(())
    }

    /// Makes sure that a record of this size fits behind those in the batch.
    fn make_room(&mut self, size: usize) -> io::Result<()> {
        let together = self.batch.bytes.len() + size;
        if together > self.active.room().min(WRITE_BYTES_MAX) {
            self.flush()?;
        }
        if size > self.active.room() {
            let sequence = self.active.segment.sequence + 1;
            let previous = Some(self.active.durable);
            self.active = self.folder.activate(sequence, previous, self.logged, size)?;
            self.shared.add_segment(self.active.segment.clone());
            self.batch.chain = self.active.tail.chain;
            self.batch.used_spare = true;
        }
        Ok(())
    }

    /// Makes the batch durable and tells those who wait for it.
    fn flush(&mut self) -> io::Result<()> {
        let batch = &mut self.batch;
        if !batch.bytes.is_empty() {
            self.active.write(&mut batch.bytes, batch.chain)?;
            batch.bytes.clear();
            batch.bytes.shrink_to(BUFFER_BYTES_KEPT);
            batch.chain = self.active.tail.chain;
        }
        let unneeded = self.shared.settle(std::mem::take(&mut batch.effects), batch.append);
        for flushed in batch.callbacks.drain(..) {
            flushed(Ok(()));
        }
        self.folder.retire(unneeded)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// The same error for one more callback.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
