//! A log file that is replaced when it is full, by the rules of lumberjack, which etcd uses.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Local, NaiveDateTime, TimeDelta, Utc};
use flate2::{Compression, write::GzEncoder};

use super::Rotation;

/// Between the file's name and its extension: when it was replaced.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

const COMPRESSED: &str = ".gz";

pub(crate) struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

impl Rotated {
    /// Goes on where the file ends.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<Rotated> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Rotated { path: path.to_owned(), rotation, file, size })
    }

    /// Writes one line, to a new file if it does not fit into this one.
    pub(crate) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.rotation.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let backup = self.backup_path(Utc::now());
        fs::rename(&self.path, &backup)?;
        self.file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        self.size = 0;
        let (path, rotation) = (self.path.clone(), self.rotation);
        // Compressing takes a while, and whoever logs does not wait for it.
        let tidy = move || {
            // What is left over is tried again with the next file.
            let _ = tidy(&path, rotation, Utc::now());
        };
        std::thread::Builder::new().name("log-backups".to_owned()).spawn(tidy).map(drop)
    }

    fn backup_path(&self, now: DateTime<Utc>) -> PathBuf {
        let stamp = if self.rotation.local_time {
            now.with_timezone(&Local).format(STAMP).to_string()
        } else {
            now.format(STAMP).to_string()
        };
        let (stem, extension) = split(&self.path);
        self.path.with_file_name(format!("{stem}-{stamp}{extension}"))
    }
}

/// Name and extension, the latter with its dot.
fn split(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|it| format!(".{}", it.to_string_lossy()));
    (stem, extension.unwrap_or_default())
}

/// A replaced file.
struct Backup {
    path: PathBuf,
    replaced: NaiveDateTime,
}

/// Removes backups that are too many or too old, and compresses the others.
fn tidy(path: &Path, rotation: Rotation, now: DateTime<Utc>) -> io::Result<()> {
    let mut backups = backups(path)?;
    backups.sort_by_key(|backup| std::cmp::Reverse(backup.replaced));
    let now =
        if rotation.local_time { now.with_timezone(&Local).naive_local() } else { now.naive_utc() };
    let days = rotation.max_days.and_then(|days| TimeDelta::try_days(i64::try_from(days).ok()?));
    let oldest = days.and_then(|days| now.checked_sub_signed(days));
    for (position, backup) in backups.iter().enumerate() {
        let is_surplus = rotation.max_backups.is_some_and(|most| position >= most);
        let is_too_old = oldest.is_some_and(|oldest| backup.replaced < oldest);
        if is_surplus || is_too_old {
            fs::remove_file(&backup.path)?;
        } else if rotation.compress && !is_compressed(&backup.path) {
            compress(&backup.path)?;
        }
    }
    Ok(())
}

fn backups(path: &Path) -> io::Result<Vec<Backup>> {
    let (stem, extension) = split(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stamp = name
            .strip_suffix(COMPRESSED)
            .unwrap_or(&name)
            .strip_prefix(&format!("{stem}-"))
            .and_then(|rest| rest.strip_suffix(&extension))
            .and_then(|stamp| NaiveDateTime::parse_from_str(stamp, STAMP).ok());
        found.extend(stamp.map(|replaced| Backup { path, replaced }));
    }
    Ok(found)
}

fn is_compressed(path: &Path) -> bool {
    path.to_string_lossy().ends_with(COMPRESSED)
}

/// Beside it, and then in its place.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    let written = (|| {
        let mut encoder = GzEncoder::new(File::create(&name)?, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_all()
    })();
    match written {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&name); // half of it is of no use
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ROTATION: Rotation = Rotation {
        max_bytes: 10,
        max_days: None,
        max_backups: None,
        local_time: false,
        compress: false,
    };

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_line_that_does_not_fit_begins_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/a.log");
        let mut file = Rotated::open(&path, ROTATION).unwrap();
        file.write(b"12345\n").unwrap();
        file.write(b"789\n").unwrap();
        assert_eq!(names(path.parent().unwrap()), ["a.log"]);
        file.write(b"longer than a whole file\n").unwrap();
        let names = names(path.parent().unwrap());
        let [backup, current] = names.as_slice() else { panic!("{names:?}") };
        assert_eq!(current, "a.log");
        assert!(backup.starts_with("a-20") && backup.ends_with(".log"), "{backup}");
        assert_eq!(fs::read(path.with_file_name(backup)).unwrap(), b"12345\n789\n");
        assert_eq!(fs::read(&path).unwrap(), b"longer than a whole file\n");
        drop(file);
        let mut again = Rotated::open(&path, Rotation { max_bytes: 100, ..ROTATION }).unwrap();
        again.write(b"more\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"longer than a whole file\nmore\n");
    }

    #[test]
    fn backups_that_are_too_many_or_too_old_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let make = |day: u32| {
            let name = format!("a-2026-01-{day:02}T00-00-00.000.log");
            fs::write(dir.path().join(name), "x").unwrap();
        };
        (1..=5).for_each(make);
        for other in ["a.log", "ab-2026-01-01T00-00-00.000.log", "a-old.log"] {
            fs::write(dir.path().join(other), "y").unwrap();
        }
        let now = NaiveDateTime::parse_from_str("2026-01-06T00-00-00.000", STAMP).unwrap();
        tidy(&path, Rotation { max_days: Some(3), ..ROTATION }, now.and_utc()).unwrap();
        assert_eq!(names(dir.path()).len(), 3 + 3);
        let few = Rotation { max_backups: Some(1), compress: true, ..ROTATION };
        tidy(&path, few, now.and_utc()).unwrap();
        let left = [
            "a-2026-01-05T00-00-00.000.log.gz",
            "a-old.log",
            "a.log",
            "ab-2026-01-01T00-00-00.000.log",
        ];
        assert_eq!(names(dir.path()), left);
        let compressed = File::open(dir.path().join(left[0])).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        tidy(&path, few, now.and_utc()).unwrap();
        assert_eq!(names(dir.path()), left, "what is compressed stays as it is");
    }
}
