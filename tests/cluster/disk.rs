//! A disk that can lose its power: an ext4 image on a loop device, shut down by the kernel.
//!
//! The shutdown drops what was not synced, and the journal is replayed at the next mount, as after
//! a real loss of power. Killing a process alone never shows a missing fsync: the page cache stays.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Sparse, so it takes only what is written.
const IMAGE_SIZE: &str = "2G";

/// `FS_IOC_SHUTDOWN` without flushing the journal, on the directory given. Perl is part of every
/// Debian, and the call from Rust would need `unsafe`.
const SHUTDOWN: &str = r#"
    sysopen(my $directory, $ARGV[0], 0) or die $!;
    my $without_flushing = pack("I", 2);
    ioctl($directory, 0x8004587d, $without_flushing) or die $!;
"#;

/// Mounted from its making until it is dropped.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// The error says what this machine lacks.
    pub(crate) fn make(directory: &Path, name: &str) -> Result<Disk, String> {
        let image = directory.join(format!("{name}.ext4"));
        let mount = directory.join(name);
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        run(Command::new("truncate").args(["--size", IMAGE_SIZE]).arg(&image))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let disk = Disk { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on every operation fails, and what was not synced is gone.
    pub(crate) fn cut_power(&self) {
        run(Command::new("perl").args(["-e", SHUTDOWN]).arg(&self.mount)).unwrap();
    }

    /// Mounts the disk again. No process may have a file of it open.
    pub(crate) fn restore_power(&self) {
        run(Command::new("umount").arg(&self.mount)).unwrap();
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.mount)) {
            eprintln!("a disk stays mounted: {error}");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or(format!("{command:?}: {complaint}"))
}
