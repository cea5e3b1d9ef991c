//! Faults of disks: power lost, full, slow, dead, and bytes that are not what was written.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rand::{Rng, seq::IndexedRandom};
use tokio::time::sleep;

use super::{Breaker, Broken, Nemesis, START_DEADLINE};
use crate::history::MemberIndex;

/// Room that a full disk leaves.
const BYTES_LEFT: u64 = 64 << 10;

/// Writes a second of a slow disk.
const WRITES: std::ops::Range<u32> = 10..60;

/// Longer than a member takes to notice that its disk is gone.
const NOTICE: Duration = Duration::from_secs(2);

impl Breaker {
    pub(super) fn break_disk(
        &mut self,
        nemesis: Nemesis,
        led: Option<MemberIndex>,
    ) -> Result<Broken> {
        let members = match nemesis {
            Nemesis::PowerAll => self.cluster.all(),
            _ => self.minority(led),
        };
        let (detail, evidence) = match nemesis {
            Nemesis::Power | Nemesis::PowerAll => {
                self.cluster.lose_power(&members)?;
                ("lost power".to_owned(), Some("disks shut down and mounted again".to_owned()))
            }
            Nemesis::DiskFull => {
                for at in &members {
                    self.cluster.world.disks[*at].fill(BYTES_LEFT)?;
                }
                (format!("{BYTES_LEFT} bytes left"), Some("the disk is full".to_owned()))
            }
            Nemesis::DiskSlow => {
                let writes = self.random.random_range(WRITES);
                for at in &members {
                    self.cluster.world.disks[*at].throttle(writes)?;
                }
                (format!("{writes} writes a second"), Some("the device is throttled".to_owned()))
            }
            Nemesis::DiskDead => {
                for at in &members {
                    self.cluster.world.disks[*at].cut_power()?;
                }
                ("every operation fails".to_owned(), Some("the disk is shut down".to_owned()))
            }
            _ => self.corrupt(members[0])?,
        };
        let corrupts = nemesis == Nemesis::Corrupt;
        let members = if corrupts { vec![members[0]] } else { members };
        Ok(Broken {
            detail: format!("{members:?}: {detail}"),
            quorum_lives: nemesis != Nemesis::PowerAll,
            evidence,
            members,
        })
    }

    pub(super) async fn mend_disk(
        &mut self,
        nemesis: Nemesis,
        broken: &Broken,
    ) -> Result<Option<String>> {
        for at in &broken.members {
            match nemesis {
                Nemesis::DiskFull => self.cluster.world.disks[*at].empty()?,
                Nemesis::DiskSlow => self.cluster.world.disks[*at].throttle(0)?,
                _ => {
                    // A member whose disk is gone has to end; one that idles has not noticed.
                    sleep(NOTICE).await;
                    self.cluster.kill(*at);
                    self.cluster.world.disks[*at].restore_power()?;
                }
            }
        }
        // A member may end when it can't write.
        self.restart(&broken.members).await
    }

    /// Flips a bit of a stopped member's data, or cuts a file short. It must refuse to start, or
    /// know better; then it gets its data back, as from the other members.
    fn corrupt(&mut self, at: MemberIndex) -> Result<(String, Option<String>)> {
        self.cluster.kill(at);
        let directory = self.cluster.world.disks[at].path().join("data");
        let kept = self.cluster.world.disks[at].path().join("kept");
        copy(&directory, &kept)?;
        let mut files = Vec::new();
        list(&directory, &mut files)?;
        files.retain(|file| fs::metadata(file).is_ok_and(|found| found.len() > 0));
        let file = files.choose(&mut self.random).context("a member has files")?.clone();
        let length = fs::metadata(&file)?.len();
        let place = self.random.random_range(0..length);
        let cuts = self.random.random_bool(0.3);
        let data = OpenOptions::new().read(true).write(true).open(&file)?;
        if cuts {
            data.set_len(place)?;
        } else {
            let mut byte = [0];
            data.read_exact_at(&mut byte, place)?;
            byte[0] ^= 1 << self.random.random_range(0..8);
            data.write_all_at(&byte, place)?;
        }
        let name = file.strip_prefix(&directory).unwrap_or(&file).display().to_string();
        let what = if cuts { "cut short at" } else { "a bit flipped at" };
        Ok((format!("{name} {what} {place}"), Some("the file is changed".to_owned())))
    }

    /// A member with wrong bytes may refuse to start, and then has its old data back. If it serves,
    /// the checkers judge it. One that ends later may have promised things that its old data do not
    /// know, so it is replaced.
    pub(super) async fn start_corrupted(&mut self, at: MemberIndex) -> Result<Option<String>> {
        self.cluster.start(at)?;
        match self.cluster.ready(at, START_DEADLINE).await {
            Ok(()) => return Ok(Some("it starts nevertheless".to_owned())),
            Err(_) if self.cluster.ended(at).is_some() => {}
            Err(_) => {
                self.cluster.kill(at);
                let led = Some(at);
                return self.replace_a_member(led).await.map(|replaced| replaced.evidence);
            }
        }
        self.cluster.kill(at);
        let disk = self.cluster.world.disks[at].path();
        let (directory, kept) = (disk.join("data"), disk.join("kept"));
        fs::remove_dir_all(&directory)?;
        fs::rename(&kept, &directory)?;
        self.restart(&[at]).await?;
        Ok(Some("it refused to start".to_owned()))
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    crate::tool::run("cp", &["-a", &from.display().to_string(), &to.display().to_string()])
        .map(drop)
}
