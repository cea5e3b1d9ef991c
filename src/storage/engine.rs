//! RocksDB as this store uses it: options, and the generations that a snapshot replaces.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME, Env, FlushOptions, Options,
    WriteBatch, WriteOptions, properties,
};

use super::{
    Error, Place, Sizes,
    directory::Directory,
    observe::observed,
    sizes::{Account, Counted},
    tables::{self, FORMAT, MetaKey, Table},
};
use crate::types::LogId;

/// Blocks of files kept in memory, their indexes and filters included. A quarter of the GiB that a
/// member may use in all.
const BLOCK_CACHE_BYTES: usize = 256 << 20;

/// Changes kept in memory before they are written to a file; up to [`WRITE_BUFFERS`] of them.
const WRITE_BUFFER_BYTES: usize = 64 << 20;

/// Writing waits when this many buffers are full, so that memory stays bounded on a slow disk.
const WRITE_BUFFERS: i32 = 4;

/// Threads that flush and compact: as many as the smallest machine we run on has cores.
const BACKGROUND_JOBS: i32 = 2;

/// Opens generations in one place.
pub(super) struct Engine {
    place: Where,
    cache: Cache,
}

enum Where {
    Directory(Directory),
    Memory,
}

/// One RocksDB. Installing a snapshot makes a new one.
pub(super) struct Generation {
    // Fields are dropped in this order: the files may go only after RocksDB has closed them.
    pub(super) db: DB,
    files: Files,
    number: u64,
    account: Account,
    durable: Mutex<Option<LogId>>,
}

/// Removes the files of a generation when nobody reads it any more.
struct Files {
    path: Option<PathBuf>,
    retired: AtomicBool,
}

impl Engine {
    pub(super) fn new(place: Place<'_>) -> Result<Engine, Error> {
        let place = match place {
            Place::Directory(path) => Where::Directory(Directory::open(path)?),
            Place::Memory => Where::Memory,
        };
        Ok(Engine { place, cache: Cache::new_lru_cache(BLOCK_CACHE_BYTES) })
    }

    /// The generation that was current when the store was last open, with its number.
    pub(super) fn open_current(&self) -> Result<(Generation, u64), Error> {
        let Where::Directory(directory) = &self.place else {
            return Ok((self.create(1)?, 1));
        };
        if let Some(number) = directory.current()? {
            directory.remove_others(number)?;
            let path = directory.generation(number);
            return Ok((self.open(Some(path), number)?, number));
        }
        self.check_never_used(directory)?;
        directory.remove_others(0)?;
        let first = self.create(1)?;
        first.flush()?;
        directory.make_current(1, &mut |_| ())?;
        Ok((first, 1))
    }

    /// The generation that was current, as it was at the last moment of which all files are there,
    /// if `is_early_enough` agrees to how far it had come then. Nothing is changed otherwise.
    pub(super) fn open_earlier(
        &self,
        is_early_enough: impl FnOnce(LogId) -> bool,
    ) -> Result<(Generation, u64), Error> {
        let Where::Directory(directory) = &self.place else { return self.open_current() };
        let Some(number) = directory.current()? else { return self.open_current() };
        let path = directory.generation(number);
        let best_efforts = "best_efforts_recovery=true";
        let options = self.options()?.get_options_from_string(best_efforts);
        let options = options.map_err(engine_error)?;
        // To open it for writing removes the files that this moment does not know.
        let seen = Generation::look(&options, path.clone(), number)?;
        seen.check_format()?;
        if !seen.read_applied()?.is_some_and(is_early_enough) {
            let what = "lacks files, and the log does not reach back to when it had all".into();
            return Err(Error::Files { path, what });
        }
        drop(seen);
        directory.remove_others(number)?;
        Ok((Generation::open(&options, Some(path), number)?.durable_as_read()?, number))
    }

    /// Without a note of which generation is current there may be the remains of a first start that
    /// was interrupted, and nothing else.
    fn check_never_used(&self, directory: &Directory) -> Result<(), Error> {
        for number in directory.generations()? {
            let path = directory.generation(number);
            let lost = Error::Files {
                path: path.clone(),
                what: "holds state, but the file CURRENT that should name it is missing".into(),
            };
            if number != 1 {
                return Err(lost);
            }
            let first_start = match self.open(Some(path), number) {
                Ok(generation) => generation.read_applied()?.is_none(),
                // Interrupted before RocksDB had made its files.
                Err(_) => true,
            };
            if !first_start {
                return Err(lost);
            }
        }
        Ok(())
    }

    /// An empty generation, not current yet.
    pub(super) fn create(&self, number: u64) -> Result<Generation, Error> {
        let path = match &self.place {
            Where::Directory(directory) => {
                let path = directory.generation(number);
                fs::create_dir_all(&path).map_err(|error| files_error(&path, &error))?;
                Some(path)
            }
            Where::Memory => None,
        };
        let mut options = self.options()?;
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        let generation = Generation::open(&options, path, number)?;
        let format = (Table::Meta.key(&MetaKey::Format.key()), FORMAT.to_be_bytes());
        let mut batch = WriteBatch::default();
        batch.put(format.0, format.1);
        generation.write(batch)?;
        Ok(generation)
    }

    fn open(&self, path: Option<PathBuf>, number: u64) -> Result<Generation, Error> {
        let generation = Generation::open(&self.options()?, path, number)?;
        generation.check_format()?;
        generation.durable_as_read()
    }

    pub(super) fn make_current(
        &self,
        number: u64,
        step: &mut dyn FnMut(&'static str),
    ) -> Result<(), Error> {
        match &self.place {
            Where::Directory(directory) => directory.make_current(number, step),
            Where::Memory => Ok(()),
        }
    }

    fn options(&self) -> Result<Options, Error> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_block_size(16 << 10);
        blocks.set_format_version(5);

        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(WRITE_BUFFERS);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        options.set_level_compaction_dynamic_level_bytes(true);
        // The first levels are rewritten soon, so compressing them costs more than it saves.
        let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
        options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
        options.set_bytes_per_sync(1 << 20);
        options.set_max_log_file_size(16 << 20);
        options.set_keep_log_file_num(4);
        if matches!(self.place, Where::Memory) {
            options.set_env(&Env::mem_env().map_err(engine_error)?);
        }
        Ok(options)
    }
}

impl Generation {
    fn open(options: &Options, path: Option<PathBuf>, number: u64) -> Result<Generation, Error> {
        let place = path.as_deref().unwrap_or(Path::new("/state"));
        let rows = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors(options, place, [rows])
            .map_err(|error| Error::Files { path: place.into(), what: error.to_string() })?;
        Ok(Generation::of(db, path, number))
    }

    /// Changes no file.
    fn look(options: &Options, path: PathBuf, number: u64) -> Result<Generation, Error> {
        let rows = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors_read_only(options, &path, [rows], false)
            .map_err(|error| Error::Files { path: path.clone(), what: error.to_string() })?;
        Ok(Generation::of(db, Some(path), number))
    }

    fn of(db: DB, path: Option<PathBuf>, number: u64) -> Generation {
        let files = Files { path, retired: AtomicBool::new(false) };
        let (account, durable) = (Account::default(), Mutex::new(None));
        Generation { db, files, number, account, durable }
    }

    /// For one that was just opened: there is no write-ahead log, so what can be read now has come
    /// from files.
    fn durable_as_read(self) -> Result<Generation, Error> {
        let applied = self.read_applied()?;
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = applied;
        Ok(self)
    }

    /// The only column family, which some of RocksDB's calls want named.
    pub(super) fn rows(&self) -> &ColumnFamily {
        self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).expect("it was opened by this name")
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Writes without a log of its own: the Raft log holds what a crash takes from here.
    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let counted = Counted::of(&batch);
        self.write_counted(batch, counted)
    }

    pub(super) fn write_counted(&self, batch: WriteBatch, rows: Counted) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        observed(|| self.db.write_opt(batch, &options)).map_err(engine_error)?;
        self.account.wrote(rows);
        self.check_background()
    }

    /// A flush or compaction that failed in the background would otherwise show only once all
    /// buffers are full.
    fn check_background(&self) -> Result<(), Error> {
        match self.db.property_int_value(properties::BACKGROUND_ERRORS).map_err(engine_error)? {
            None | Some(0) => Ok(()),
            Some(count) => Err(Error::Engine(format!("{count} background jobs have failed"))),
        }
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        let applied = self.read_applied()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(engine_error)?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let index = |id: &Option<LogId>| id.map(|id| id.index);
        if index(&applied) > index(&durable) {
            *durable = applied;
        }
        Ok(())
    }

    pub(super) fn durable(&self) -> Option<LogId> {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.account.sizes(&self.db)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.db.property_int_value(properties::TOTAL_SST_FILES_SIZE).ok().flatten().unwrap_or(0)
    }

    pub(super) fn reclaim(&self) -> Result<(), Error> {
        self.flush()?;
        let mut options = CompactOptions::default();
        // Others may go on meanwhile, and the last level is rewritten, too: most of what is gone is
        // there.
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        self.check_background()
    }

    pub(super) fn let_compact(&self, allowed: bool) -> Result<(), Error> {
        let disabled = if allowed { "false" } else { "true" };
        let set = self.db.set_options(&[("disable_auto_compactions", disabled)]);
        set.map_err(engine_error)
    }

    /// Snapshots that are open now.
    pub(super) fn open_snapshots(&self) -> u64 {
        self.db.property_int_value(properties::NUM_SNAPSHOTS).ok().flatten().unwrap_or(0)
    }

    /// Nobody will open this generation again: its files go when its last reader does.
    pub(super) fn retire(&self) {
        self.files.retired.store(true, Ordering::Relaxed);
    }

    fn read_applied(&self) -> Result<Option<LogId>, Error> {
        let key = Table::Meta.key(&MetaKey::Applied.key());
        let Some(row) = self.db.get(key).map_err(engine_error)? else { return Ok(None) };
        let (id, _) = tables::decode_log_id(&row).ok_or_else(|| Table::Meta.corrupt("log id"))?;
        Ok(Some(id))
    }

    pub(super) fn check_format(&self) -> Result<(), Error> {
        let path = self.files.path.clone().unwrap_or_default();
        let row = self.db.get(Table::Meta.key(&MetaKey::Format.key())).map_err(engine_error)?;
        let number = row.as_deref().and_then(|row| row.try_into().ok()).map(u64::from_be_bytes);
        match number {
            Some(FORMAT) => Ok(()),
            Some(other) => Err(Error::Files {
                path,
                what: format!("is of format {other}; this program reads format {FORMAT}"),
            }),
            None => Err(Error::Files { path, what: "does not say which format it is of".into() }),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && self.retired.load(Ordering::Relaxed)
        {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_dir_all(path);
        }
    }
}

pub(super) fn engine_error(error: rocksdb::Error) -> Error {
    Error::Engine(error.to_string())
}

pub(super) fn files_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Files { path: path.into(), what: error.to_string() }
}
