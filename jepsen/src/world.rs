//! What a run takes place in: networks, disks and clocks that are the harness's own, and end with
//! it.

pub mod disk;
pub mod isolate;
pub mod network;
pub mod packets;
pub mod probe;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use disk::Disk;
pub use network::{Network, Side, Weather};

/// Hosts for members, without anything that runs on them.
#[derive(Debug)]
pub struct World {
    /// For logs, images and whatever else the run leaves.
    pub directory: PathBuf,
    pub network: Network,
    pub disks: Vec<Disk>,
}

impl World {
    /// Hosts for so many members, below a directory that exists.
    ///
    /// # Errors This machine can't do it; the tool that failed says why.
    pub fn make(directory: &Path, hosts: usize) -> Result<World> {
        let network = Network::make(hosts)?;
        let disks: Result<Vec<Disk>> =
            (0..hosts).map(|host| Disk::make(directory, &format!("disk{host}"))).collect();
        Ok(World { directory: directory.to_owned(), network, disks: disks? })
    }
}
