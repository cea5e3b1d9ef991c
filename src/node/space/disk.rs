//! A reserve of free space on the disks of the data and of the log.
//!
//! A log or a store that meets a full disk can't go on, and the member ends. So it says that it has
//! no space while there still is some: enough for what is in memory, for the log's next segments
//! and for the deletions that make space. Other programs may fill the disk as well, and faster than
//! anybody looks; against them a file holds a part of the reserve, which is given up last.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{FallocateFlags, fallocate};
use tracing::{info, warn};

use super::SpaceRules;

/// The reserve of a large disk: what the store may hold in memory and must still write (256 MiB), a
/// compaction of files that is under way, and two segments of the log.
const RESERVE_BYTES: u64 = 512 << 20;

/// Of a small disk the reserve is one part in so many.
const RESERVE_SHARE: u64 = 8;

/// The file's part of the reserve: one in so many, and at most one segment of the log.
const HELD_SHARE: u64 = 4;
const HELD_BYTES_MAX: u64 = 64 << 20;

/// The file that holds space.
const FILE: &str = "reserve";

/// How much room a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Less than the reserve.
    Low,
    /// More, but too little to say that it is enough after it was low.
    Between,
    /// Twice the reserve.
    Enough,
}

pub(super) struct Disk {
    dir: PathBuf,
    reserve: u64,
    /// Bytes that the file has.
    held: u64,
    /// Whether the file system promises space at all.
    holds: bool,
    /// As it was looked at; `None` if it could not be.
    free: Option<u64>,
}

impl Disk {
    /// The disks to be watched, each once. One that can't be asked is not watched.
    pub(super) fn all(rules: &SpaceRules) -> Vec<Disk> {
        let mut devices = Vec::new();
        let mut disks = Vec::new();
        for dir in &rules.places {
            let Ok(place) = fs::metadata(dir) else { continue };
            if !devices.contains(&place.dev()) {
                devices.push(place.dev());
                disks.extend(Disk::new(dir.clone(), rules.reserve_bytes));
            }
        }
        disks
    }

    fn new(dir: PathBuf, reserve_bytes: Option<u64>) -> Option<Disk> {
        let reserve = match reserve_bytes {
            Some(0) => return None,
            Some(bytes) => bytes,
            None => RESERVE_BYTES.min(total_bytes(&dir).ok()? / RESERVE_SHARE),
        };
        let held = fs::metadata(dir.join(FILE)).map_or(0, |file| file.len());
        let mut disk = Disk { dir, reserve, held, holds: true, free: None };
        disk.look();
        Some(disk)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn free(&self) -> Option<u64> {
        self.free
    }

    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// As it was when it was looked at.
    pub(super) fn room(&self) -> Room {
        match self.free {
            // A disk that can't be asked is not one to raise an alarm about.
            None => Room::Between,
            Some(free) if free < self.reserve => Room::Low,
            Some(free) if free < 2 * self.reserve => Room::Between,
            Some(_) => Room::Enough,
        }
    }

    /// Looks how much is free, and gives up or takes back what the file holds.
    pub(super) fn look(&mut self) {
        self.free = free_bytes(&self.dir).ok();
        let Some(free) = self.free else { return };
        let wanted = (self.reserve / HELD_SHARE).min(HELD_BYTES_MAX);
        if self.held > 0 && free < wanted {
            self.give_up();
        } else if self.holds && self.held != wanted && free > 2 * self.reserve + wanted {
            self.take(wanted);
        }
    }

    fn give_up(&mut self) {
        match fs::remove_file(self.dir.join(FILE)) {
            Ok(()) => warn!(bytes = self.held, "gave up the space that was held for a full disk"),
            Err(error) => warn!(%error, "could not give up the space held for a full disk"),
        }
        self.held = 0;
    }

    fn take(&mut self, bytes: u64) {
        match hold(&self.dir.join(FILE), bytes) {
            Ok(()) => {
                self.held = bytes;
                info!(bytes, "holding space for the day when the disk is full");
            }
            // A file system that can't promise space: the watch alone must do.
            Err(error) => {
                (self.held, self.holds) = (0, false);
                info!(%error, "this file system holds no space for later");
            }
        }
    }
}

fn hold(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    let held = fallocate(&file, FallocateFlags::empty(), 0, length);
    held.map_err(|error| {
        let _ = fs::remove_file(path);
        io::Error::from(error)
    })
}

/// Bytes that this process may still write.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn total_bytes(dir: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    Ok(found.blocks().saturating_mul(found.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(places: &[&Path], reserve_bytes: Option<u64>) -> SpaceRules {
        let places = places.iter().map(|place| place.to_path_buf()).collect();
        SpaceRules { quota_bytes: 0, places, reserve_bytes, disarms_itself: false }
    }

    #[test]
    fn a_log_beside_the_data_is_on_the_same_disk() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::create_dir(&log).unwrap();
        assert_eq!(Disk::all(&rules(&[dir.path(), &log], None)).len(), 1);
        assert_eq!(Disk::all(&rules(&[dir.path(), &log], Some(0))).len(), 0);
        assert_eq!(Disk::all(&rules(&[&dir.path().join("nowhere")], None)).len(), 0);
    }

    #[test]
    fn a_log_elsewhere_has_a_disk_of_its_own() {
        let (data, log) = (tempfile::tempdir().unwrap(), Path::new("/dev/shm"));
        // No disk has so much: nothing is held on it.
        let disks = Disk::all(&rules(&[data.path(), log], Some(u64::MAX / 4)));
        assert_eq!(disks.iter().map(Disk::dir).collect::<Vec<_>>(), [data.path(), log]);
        assert!(disks.iter().all(|disk| disk.room() == Room::Low));
    }
}
