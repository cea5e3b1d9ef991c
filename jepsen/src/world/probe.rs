//! What this machine can do to members, found by trying.

use std::path::Path;

use anyhow::Result;

use super::{World, packets::Packets};
use crate::tool::run;

/// One ability, and why it is not there.
#[derive(Debug)]
pub struct Ability {
    pub name: &'static str,
    pub missing: Option<String>,
}

/// Tries each way to break something, in hosts made for it.
///
/// # Errors There can be no hosts at all, and so no runs.
pub fn probe(directory: &Path, clock_shim: Option<&Path>) -> Result<Vec<Ability>> {
    let world = World::make(directory, 2)?;
    let disk = &world.disks[0];
    let ability = |name, tried: Result<()>| Ability {
        name,
        missing: tried.err().map(|error| format!("{error:#}")),
    };
    let mut found = vec![
        ability("networks of their own: partitions, loss, resets", Ok(())),
        ability("bandwidth", {
            world.network.limit(0, Some(1000)).and_then(|()| {
                run("tc", &["-n", "m0", "qdisc", "show"]).map(drop)?;
                world.network.limit(0, None)
            })
        }),
        ability("delay, reordering and duplication", Packets::start(1).map(drop)),
        ability("power loss", disk.cut_power().and_then(|()| disk.restore_power())),
        ability("full disks", disk.fill(1 << 20).and_then(|()| disk.empty())),
        ability("slow disks", disk.throttle(20).and_then(|()| disk.throttle(0))),
        ability("monotonic clocks with other bases", {
            run("unshare", &["-T", "--monotonic", "1000", "true"]).map(drop)
        }),
    ];
    found.push(Ability {
        name: "wall clocks that jump",
        missing: match clock_shim {
            Some(_) => None,
            None => Some("the preloaded library is not built".to_owned()),
        },
    });
    Ok(found)
}
