//! A file system in memory that fails on request and loses what was not synced.
//!
//! It is meaner than a real one: after [`FaultyFiles::lose_power`] each sector of each file has any
//! of the contents that it had since the last successful sync, independently of all others, and
//! each change of a name that was not synced has happened or not. After a failed sync the unsynced
//! bytes read as written but no later sync makes them durable, until they are written again.
//! Everything follows from the seed and the order of the calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use nix::errno::Errno;

use super::{File, Files};

/// What a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;

/// How an operation fails. All but [`Fault::Power`] strike once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO, and nothing has been done.
    Io,
    /// ENOSPC, and nothing has been done.
    NoSpace,
    /// EIO, and some sectors of the write have been written.
    Torn,
    /// As torn, and every operation after it fails until [`FaultyFiles::lose_power`].
    Power,
}

/// Files in memory. Clones are the same file system.
#[derive(Clone)]
pub struct FaultyFiles(Arc<Mutex<Disk>>);

struct Disk {
    random: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    /// As they are on disk.
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<(PathBuf, NameChange)>,
    /// Operations that change something, so far.
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// The operation that has just failed was to be done in part.
    torn: bool,
    powered: bool,
    limit: Option<u64>,
    /// Handles from before a loss of power are dead.
    boots: u64,
}

#[derive(Default, Clone)]
struct Inode {
    content: Vec<u8>,
    /// Open ones, since the last loss of power.
    handles: u32,
    durable_size: usize,
    /// Sectors that differ from the disk, as they are there.
    originals: BTreeMap<usize, Vec<u8>>,
    /// Unsynced writes in their order.
    writes: Vec<(usize, Vec<u8>)>,
    /// Sectors that a failed sync has left clean in memory and wrong on disk.
    stuck: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Create(u64),
    RenameTo(PathBuf),
    Remove,
}

struct Handle {
    disk: FaultyFiles,
    inode: u64,
    boot: u64,
}

impl FaultyFiles {
    pub fn new(seed: u64) -> FaultyFiles {
        FaultyFiles(Arc::new(Mutex::new(Disk {
            random: seed,
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            operations: 0,
            fault: None,
            torn: false,
            powered: true,
            limit: None,
            boots: 0,
        })))
    }

    /// Operations so far that change something: all but reading, listing and opening.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Makes an operation fail: 0 is the next one that changes something.
    pub fn fail_after(&self, operations: u64, fault: Fault) {
        let mut disk = self.disk();
        disk.fault = Some((disk.operations + operations, fault));
    }

    /// Takes back what [`Self::fail_after`] has ordered and not yet got.
    pub fn fail_no_more(&self) {
        self.disk().fault = None;
    }

    /// Whether the power has not gone by [`Fault::Power`] since the start.
    pub fn has_power(&self) -> bool {
        self.disk().powered
    }

    /// Bytes that all files together may have; what would need more fails with ENOSPC.
    pub fn set_limit(&self, bytes: Option<u64>) {
        self.disk().limit = bytes;
    }

    /// Loses what was not synced, or parts of it, and starts again: handles from before fail.
    pub fn lose_power(&self) {
        let disk = &mut *self.disk();
        disk.boots += 1;
        disk.powered = true;
        disk.fault = None;
        for (path, change) in std::mem::take(&mut disk.pending_names) {
            if next_random(&mut disk.random).is_multiple_of(2) {
                apply(&mut disk.durable_names, &path, change);
            }
        }
        disk.names = disk.durable_names.clone();
        for inode in disk.inodes.values_mut() {
            inode.lose_power(&mut disk.random);
        }
        disk.collect_garbage();
    }

    /// What a file reads as.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(path).map(|inode| disk.inodes[inode].content.clone())
    }

    /// Puts a file there, durably, in the place of what was there.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.next_inode;
        disk.next_inode += 1;
        let durable_size = content.len();
        disk.inodes.insert(inode, Inode { content, durable_size, ..Inode::default() });
        disk.names.insert(path.to_owned(), inode);
        disk.durable_names.insert(path.to_owned(), inode);
    }

    /// A copy that lives on its own, with the same unsynced state and the same randomness.
    pub fn copy(&self) -> FaultyFiles {
        let disk = self.disk();
        let mut inodes = disk.inodes.clone();
        inodes.values_mut().for_each(|inode| inode.handles = 0);
        FaultyFiles(Arc::new(Mutex::new(Disk {
            inodes,
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            ..*disk
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("nothing panics while holding the lock")
    }

    fn handle(&self, disk: &mut Disk, number: u64) -> Arc<dyn File> {
        let boot = disk.boots;
        if let Some(inode) = disk.inodes.get_mut(&number) {
            inode.handles += 1;
        }
        Arc::new(Handle { disk: self.clone(), inode: number, boot })
    }
}

impl Files for FaultyFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        // Directories are there by themselves.
        self.disk().check_power()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        disk.check_power()?;
        let names = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.check_power()?;
        let inode = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&mut disk, inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.operate()?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.next_inode;
        disk.next_inode += 1;
        disk.inodes.insert(inode, Inode::default());
        disk.change_name(path, NameChange::Create(inode));
        Ok(self.handle(&mut disk, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(from, NameChange::RenameTo(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(path, NameChange::Remove);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let disk = &mut *self.disk();
        disk.operate()?;
        for (path, change) in std::mem::take(&mut disk.pending_names) {
            if path.parent() == Some(dir) {
                apply(&mut disk.durable_names, &path, change);
            } else {
                disk.pending_names.push((path, change));
            }
        }
        Ok(())
    }

    fn random(&self) -> u64 {
        next_random(&mut self.disk().random)
    }
}

impl File for Handle {
    fn size(&self) -> io::Result<u64> {
        self.read(|inode| Ok(inode.content.len() as u64))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.operate()?;
        let more = (size as usize).saturating_sub(self.inode(&mut disk)?.content.len());
        disk.check_space(more)?;
        let inode = self.inode(&mut disk)?;
        inode.content.resize(inode.content.len() + more, 0);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.operate()?;
        self.inode(&mut disk)?.cut(size as usize);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(|inode| {
            let offset = offset as usize;
            let bytes = inode.content.get(offset..offset + buffer.len());
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let disk = &mut *self.disk.disk();
        let allowed = disk.operate();
        let (torn, mut random) = (disk.torn, disk.random);
        let inode = self.inode(disk)?;
        if torn {
            inode.write_torn(bytes, offset as usize, &mut random);
        }
        let more = (offset as usize + bytes.len()).saturating_sub(inode.content.len());
        disk.random = random;
        allowed?;
        disk.check_space(more)?;
        self.inode(disk)?.write(bytes, offset as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let allowed = disk.operate();
        let inode = self.inode(&mut disk)?;
        match &allowed {
            Ok(()) => inode.sync(),
            Err(_) => inode.stuck.extend(inode.originals.keys()),
        }
        allowed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        if let Ok(inode) = self.inode(&mut disk) {
            inode.handles -= 1;
        }
        disk.collect_garbage();
    }
}

impl Handle {
    fn inode<'a>(&self, disk: &'a mut Disk) -> io::Result<&'a mut Inode> {
        if self.boot != disk.boots {
            return Err(Errno::EIO.into());
        }
        disk.inodes.get_mut(&self.inode).ok_or(Errno::EIO.into())
    }

    fn read<T>(&self, read: impl FnOnce(&Inode) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.disk();
        disk.check_power()?;
        read(self.inode(&mut disk)?)
    }
}

impl Disk {
    fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(Errno::EIO.into()) }
    }

    /// Counts an operation and says whether it works.
    fn operate(&mut self) -> io::Result<()> {
        self.torn = false;
        self.check_power()?;
        let number = self.operations;
        self.operations += 1;
        let Some((_, fault)) = self.fault.take_if(|(at, _)| *at == number) else { return Ok(()) };
        self.torn = matches!(fault, Fault::Torn | Fault::Power);
        self.powered = fault != Fault::Power;
        Err(if fault == Fault::NoSpace { Errno::ENOSPC } else { Errno::EIO }.into())
    }

    /// Whether the files would fit if they had this much more.
    fn check_space(&self, more: usize) -> io::Result<()> {
        let sizes = self.names.values().filter_map(|inode| self.inodes.get(inode));
        let used: usize = sizes.map(|inode| inode.content.len()).sum();
        let full = self.limit.is_some_and(|limit| (used + more) as u64 > limit);
        if full && more > 0 { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    /// Gives back the files that have no name and that nobody has open.
    fn collect_garbage(&mut self) {
        let named: BTreeSet<_> = self.names.values().chain(self.durable_names.values()).collect();
        self.inodes.retain(|number, inode| named.contains(number) || inode.handles > 0);
    }

    fn change_name(&mut self, path: &Path, change: NameChange) {
        apply(&mut self.names, path, change.clone());
        self.pending_names.push((path.to_owned(), change));
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, path: &Path, change: NameChange) {
    match change {
        NameChange::Create(inode) => {
            names.insert(path.to_owned(), inode);
        }
        NameChange::RenameTo(to) => {
            if let Some(inode) = names.remove(path) {
                names.insert(to, inode);
            }
        }
        NameChange::Remove => {
            names.remove(path);
        }
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.content.len() {
            self.content.resize(end, 0);
        }
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.keep_original(sector);
            self.stuck.remove(&sector);
        }
        self.content[offset..end].copy_from_slice(bytes);
        self.writes.push((offset, bytes.to_vec()));
    }

    /// Some sectors of a write, each as a write of its own.
    fn write_torn(&mut self, bytes: &[u8], offset: usize, random: &mut u64) {
        let end = offset + bytes.len();
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = (sector * SECTOR_BYTES).max(offset);
            let to = ((sector + 1) * SECTOR_BYTES).min(end);
            if next_random(random).is_multiple_of(2) && to <= self.content.len() {
                self.write(&bytes[from - offset..to - offset], from);
            }
        }
    }

    fn cut(&mut self, size: usize) {
        for sector in size / SECTOR_BYTES..self.content.len().div_ceil(SECTOR_BYTES) {
            self.keep_original(sector);
        }
        self.content.truncate(size);
    }

    fn keep_original(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.content.len());
        let content = &self.content;
        self.originals.entry(sector).or_insert_with(|| content[start.min(end)..end].to_vec());
    }

    fn sync(&mut self) {
        self.durable_size = self.content.len();
        let Inode { originals, writes, stuck, .. } = self;
        originals.retain(|sector, _| stuck.contains(sector));
        writes.retain(|(offset, bytes)| {
            let mut sectors = offset / SECTOR_BYTES..(offset + bytes.len()).div_ceil(SECTOR_BYTES);
            sectors.any(|sector| stuck.contains(&sector))
        });
    }

    fn lose_power(&mut self, random: &mut u64) {
        self.handles = 0;
        if next_random(random).is_multiple_of(2) {
            self.content.resize(self.durable_size, 0);
        }
        // All lost, all kept, or each sector as it comes.
        let mood = next_random(random) % 4;
        for (sector, original) in std::mem::take(&mut self.originals) {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            let touching: Vec<_> = self
                .writes
                .iter()
                .filter(|(offset, bytes)| *offset < range.end && offset + bytes.len() > range.start)
                .collect();
            let kept = match mood {
                0 => 0,
                1 => touching.len(),
                _ => next_random(random) as usize % (touching.len() + 1),
            };
            let mut image = original;
            image.resize(SECTOR_BYTES, 0);
            for (offset, bytes) in &touching[..kept] {
                let (from, to) =
                    ((*offset).max(range.start), (offset + bytes.len()).min(range.end));
                image[from - range.start..to - range.start]
                    .copy_from_slice(&bytes[from - offset..to - offset]);
            }
            let end = range.end.min(self.content.len());
            if range.start < end {
                self.content[range.start..end].copy_from_slice(&image[..end - range.start]);
            }
        }
        self.writes.clear();
        self.stuck.clear();
        self.durable_size = self.content.len();
    }
}

/// The next number of the splitmix64 sequence.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
