//! The directory of a log: its segments by name, and spare files to make segments from.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc};

use super::{
    File, Files, Options,
    outline::Outline,
    segment::{self, Active, End, HEADER_BYTES, Header, Segment},
};

/// Spare files made ahead. A segment can be started on a full disk with one, which leaves the time
/// to raise an alarm, and without waiting for the file system to allocate.
const SPARES_MIN: usize = 1;

/// Purged segments kept for further use; what is above is given back.
const SPARES_MAX: usize = 2;

const SPARE_PREFIX: &str = "spare-";

pub(crate) struct Folder {
    pub(crate) group: u32,
    files: Arc<dyn Files>,
    dir: PathBuf,
    segment_bytes: u64,
    spares: VecDeque<Spare>,
    /// Number that no spare file's name has yet.
    next_spare: u64,
}

struct Spare {
    path: PathBuf,
    file: Arc<dyn File>,
    /// All blocks have been written before.
    written: bool,
}

impl Folder {
    pub(crate) fn new(files: Arc<dyn Files>, options: &Options) -> Folder {
        Folder {
            group: options.group,
            files,
            dir: options.dir.clone(),
            segment_bytes: segment::capacity_for(options.segment_bytes, 0),
            spares: VecDeque::new(),
            next_spare: 0,
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Sequence numbers of the segments that are there, ascending. Takes note of the spare files.
    pub(crate) fn scan(&mut self) -> io::Result<Vec<u64>> {
        let names = self.files.list(&self.dir)?;
        let mut sequences: Vec<_> = names.iter().filter_map(|n| segment::sequence_of(n)).collect();
        sequences.sort_unstable();
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix(SPARE_PREFIX)?.parse().ok()).collect();
        numbers.sort_unstable();
        self.next_spare = numbers.last().map_or(0, |newest| newest.saturating_add(1));
        for number in numbers {
            let path = self.dir.join(format!("{SPARE_PREFIX}{number}"));
            let file = self.files.open(&path)?;
            self.spares.push_back(Spare { path, file, written: false });
        }
        Ok(sequences)
    }

    pub(crate) fn open(&self, sequence: u64) -> io::Result<Segment> {
        let path = self.dir.join(segment::file_name(sequence));
        let file = self.files.open(&path)?;
        Ok(Segment { sequence, path, file })
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.files.sync_dir(&self.dir)
    }

    /// Makes a spare file the next segment, with room for a record of this size.
    ///
    /// It is durable under its name, with its header, before anything else is written to it.
    pub(crate) fn activate(
        &mut self,
        sequence: u64,
        previous: Option<End>,
        outline: Outline,
        record_bytes: usize,
    ) -> io::Result<Active> {
        let capacity = segment::capacity_for(self.segment_bytes, record_bytes);
        let Spare { path: spare_path, file, written } = match self.spares.pop_front() {
            Some(spare) => spare,
            None => self.create_spare()?,
        };
        let size = file.size()?;
        if size < capacity {
            file.allocate(capacity)?;
        }
        let salt = self.files.random();
        let group = self.group;
        let header = Header { group, sequence, salt, capacity, previous, outline };
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        let path = self.dir.join(segment::file_name(sequence));
        self.files.rename(&spare_path, &path)?;
        self.sync()?;
        let start = header.start();
        let zeroed = if written { size } else { HEADER_BYTES as u64 };
        let segment = Arc::new(Segment { sequence, path, file });
        Ok(Active { segment, header, tail: start, durable: start, zeroed })
    }

    /// Takes segments whose entries have all been purged, durably so, out of the log. A file that
    /// somebody still reads is not used again.
    pub(crate) fn retire(&mut self, segments: Vec<Arc<Segment>>) -> io::Result<()> {
        if segments.is_empty() {
            return Ok(());
        }
        for segment in segments {
            let reusable = self.spares.len() < SPARES_MAX;
            match Arc::try_unwrap(segment) {
                Ok(segment) if reusable && segment.file.size()? == self.segment_bytes => {
                    let path = self.next_spare_path();
                    self.files.rename(&segment.path, &path)?;
                    // Written ones first: the zeros of the others need not be written then.
                    let spare = Spare { path, file: segment.file, written: true };
                    self.spares.push_front(spare);
                }
                Ok(Segment { path, .. }) => self.files.remove(&path)?,
                Err(shared) => self.files.remove(&shared.path)?,
            }
        }
        // Without this a crash could show a file that has a new header under its old name.
        self.sync()
    }

    /// Removes the segments that a crash brought back after they were retired.
    pub(crate) fn remove(&self, sequences: &[u64]) -> io::Result<()> {
        for sequence in sequences {
            self.files.remove(&self.dir.join(segment::file_name(*sequence)))?;
        }
        Ok(())
    }

    /// Makes sure that there is a spare file, and not too many. A full disk is no error here: the
    /// spare is tried again after the next segment.
    pub(crate) fn keep_spares(&mut self) -> io::Result<()> {
        while self.spares.len() > SPARES_MAX
            && let Some(spare) = self.spares.pop_back()
        {
            self.files.remove(&spare.path)?;
        }
        while self.spares.len() < SPARES_MIN {
            match self.create_spare() {
                Ok(spare) => self.spares.push_back(spare),
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn create_spare(&mut self) -> io::Result<Spare> {
        let path = self.next_spare_path();
        let file = self.files.create(&path)?;
        if let Err(error) = file.allocate(self.segment_bytes) {
            // What was allocated would be missing elsewhere; if it can't be removed, the next
            // start will find it.
            let _ = self.files.remove(&path);
            return Err(error);
        }
        Ok(Spare { path, file, written: false })
    }

    fn next_spare_path(&mut self) -> PathBuf {
        let number = self.next_spare;
        self.next_spare += 1;
        self.dir.join(format!("{SPARE_PREFIX}{number}"))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
