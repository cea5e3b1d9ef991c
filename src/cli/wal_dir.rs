//! `--wal-dir`: the Raft log on a disk of its own.
//!
//! The data directory keeps a symbolic link to it, so that the log is found again without the flag,
//! and the place says whose log it is: a disk that is not mounted is not taken for an empty log.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::node::data_dir::DataDir;

/// Holds the number that was made with the data directory, in hex.
const OWNER_FILE: &str = "member";

/// Prepares the place of the log: makes it and links to it, or checks that it is still the one.
pub(super) fn prepare(data_dir: &DataDir, asked: Option<&Path>) -> anyhow::Result<()> {
    let owner = format!("{:016x}\n", data_dir.incarnation());
    prepare_at(&data_dir.log(), asked, &owner)
}

fn prepare_at(log: &Path, asked: Option<&Path>, owner: &str) -> anyhow::Result<()> {
    match (fs::symlink_metadata(log), asked) {
        (Ok(there), _) if there.is_symlink() => {
            let place = fs::read_link(log)?;
            if let Some(asked) = asked {
                let asked_place = made(asked)?;
                if asked_place != place {
                    bail!("--wal-dir {}: the log is in {}", asked.display(), place.display());
                }
            }
            check_owner(&place, owner)
        }
        (_, None) => Ok(()),
        (Ok(_), Some(asked)) if !is_empty(log)? => bail!(
            "--wal-dir {}: the log is in {}; stop the member and move its files there",
            asked.display(),
            log.display()
        ),
        (Ok(_), Some(asked)) => {
            fs::remove_dir(log)?;
            link(log, asked, owner)
        }
        (Err(error), Some(asked)) if error.kind() == io::ErrorKind::NotFound => {
            link(log, asked, owner)
        }
        (Err(error), Some(_)) => Err(error).with_context(|| log.display().to_string()),
    }
}

fn made(dir: &Path) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| fs::canonicalize(dir))
        .with_context(|| format!("--wal-dir {}", dir.display()))
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

/// Its own mark alone is what a start that was cut short leaves.
fn link(log: &Path, asked: &Path, owner: &str) -> anyhow::Result<()> {
    let place = made(asked)?;
    if !is_empty(&place)? && check_owner(&place, owner).is_err() {
        bail!("--wal-dir {} is not empty, and nothing in it is this member's", asked.display());
    }
    let write = || {
        let path = place.join(OWNER_FILE);
        fs::write(&path, owner)?;
        File::open(&path)?.sync_all()?;
        File::open(&place)?.sync_all()?;
        symlink(&place, log)?;
        File::open(log.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("--wal-dir {}", asked.display()))
}

fn check_owner(place: &Path, owner: &str) -> anyhow::Result<()> {
    match fs::read_to_string(place.join(OWNER_FILE)) {
        Ok(found) if found == owner => Ok(()),
        Ok(_) => bail!("--wal-dir {} holds the log of another member", place.display()),
        Err(error) => Err(error).with_context(|| {
            format!("--wal-dir {}: the log of this member is not there", place.display())
        }),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[track_caller]
    fn refuses(log: &Path, asked: Option<&Path>, owner: &str, words: &str) {
        let error = format!("{:#}", prepare_at(log, asked, owner).unwrap_err());
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_log_has_one_place_which_knows_whose_it_is() {
        let dir = TempDir::new().unwrap();
        let (log, place) = (dir.path().join("log"), dir.path().join("disk/wal"));
        prepare_at(&log, None, "1\n").unwrap();
        assert!(!log.exists());

        prepare_at(&log, Some(&place), "1\n").unwrap();
        fs::write(log.join("segment"), "x").unwrap();
        assert!(place.join("segment").exists());
        prepare_at(&log, Some(&place), "1\n").unwrap();
        prepare_at(&log, None, "1\n").unwrap();

        let other = dir.path().join("other");
        refuses(&log, Some(&other), "1\n", "the log is in");
        refuses(&dir.path().join("log2"), Some(&place), "2\n", "nothing in it is this member's");
        refuses(&log, None, "2\n", "holds the log of another member");
        fs::rename(&place, dir.path().join("gone")).unwrap();
        refuses(&log, None, "1\n", "the log of this member is not there");
        fs::create_dir(&place).unwrap();
        refuses(&log, Some(&place), "1\n", "the log of this member is not there");
    }

    #[test]
    fn a_log_that_is_in_the_data_directory_stays_there() {
        let dir = TempDir::new().unwrap();
        let (log, place) = (dir.path().join("log"), dir.path().join("wal"));
        fs::create_dir(&log).unwrap();
        fs::write(log.join("segment"), "x").unwrap();
        refuses(&log, Some(&place), "1\n", "move its files there");
        fs::remove_file(log.join("segment")).unwrap();
        prepare_at(&log, Some(&place), "1\n").unwrap();
        assert!(log.is_symlink());
    }
}
