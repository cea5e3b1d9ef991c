//! The network between regions, by itself: pipes in time that is paused, proxies on loopback.

mod pipes;
mod proxies;

use super::fault::{Effect, Fault, Part, Spot, Ways};

fn region(name: &str) -> Spot {
    Spot { region: name.to_owned(), zone: None, member: None }
}

fn fault(from: &str, to: &str, ways: Ways, effect: Effect) -> Fault {
    let part = |name: &str| Part::Region(name.to_owned());
    Fault { from: part(from), to: part(to), ways, effect }
}
