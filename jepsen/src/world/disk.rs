//! A member's disk: an ext4 image on a loop device, which can lose its power, fill up, be slow and
//! die.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::tool::run;

/// Sparse, so it takes only what is written.
const IMAGE_SIZE: &str = "1G";

/// `FS_IOC_SHUTDOWN` without flushing the journal, on the directory given. Perl is part of every
/// Debian, and the call from Rust would need `unsafe`.
const SHUTDOWN: &str = r#"
    sysopen(my $directory, $ARGV[0], 0) or die $!;
    my $without_flushing = pack("I", 2);
    ioctl($directory, 0x8004587d, $without_flushing) or die $!;
"#;

/// Where version 1 of control groups bounds the writes of a device.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";

/// The mount is the harness's own, so it ends with the harness.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    pub(super) fn make(directory: &Path, name: &str) -> Result<Disk> {
        let image = directory.join(format!("{name}.ext4"));
        let mount = directory.join(name);
        fs::create_dir(&mount).with_context(|| mount.display().to_string())?;
        run("truncate", &["--size", IMAGE_SIZE, text(&image)])?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Disk { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on every operation fails, and what was not synced is gone.
    pub fn cut_power(&self) -> Result<()> {
        run("perl", &["-e", SHUTDOWN, text(&self.mount)]).map(drop)
    }

    /// Mounts the disk again. No process may have a file of it open.
    pub fn restore_power(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Takes all space that is left but so many bytes.
    pub fn fill(&self, bytes_left: u64) -> Result<()> {
        let free = run("stat", &["-f", "-c", "%a %S", text(&self.mount)])?;
        let (blocks, size) = free.trim().split_once(' ').context("stat -f prints two numbers")?;
        let free = blocks.parse::<u64>()? * size.parse::<u64>()?;
        let length = free.saturating_sub(bytes_left).to_string();
        run("fallocate", &["-l", &length, text(&self.ballast())]).map(drop)
    }

    pub fn empty(&self) -> Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Allows so many writes a second; 0 allows all.
    pub fn throttle(&self, writes: u32) -> Result<()> {
        let device = run("findmnt", &["-n", "-o", "MAJ:MIN", text(&self.mount)])?;
        let rule = format!("{} {writes}", device.trim());
        fs::write(THROTTLE, rule).with_context(|| THROTTLE.to_owned())
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    fn mount(&self) -> Result<()> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mount)]).map(drop)
    }

    fn unmount(&self) -> Result<()> {
        run("umount", &[text(&self.mount)]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays mounted ends with the harness's own mounts.
        let _ = self.throttle(0);
        let _ = self.unmount();
    }
}

/// The harness makes these paths itself.
fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's own paths are text")
}
