//! Clients that read at the levels between strong and whatever there is.

use std::{sync::atomic::Ordering, time::Duration};

use orrery::{
    node::{Bound, Freshness},
    proto::etcdserverpb::RangeRequest,
    types::Revision,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use super::{clients::Shared, machine::MEMBERS};

/// From less than a round trip to more than the longest fault.
const BOUNDS_MS: [u64; 6] = [0, 5, 30, 100, 400, 3000];

const MISSING: [u64; 3] = [0, 2, 10];

/// Reads at any member, and in a session of its own wherever it is.
pub(crate) async fn read(shared: Shared, client: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut member = client % MEMBERS;
    let pause_max = random.random_range(5..60u64);
    // A client mostly asks for the same, and then the beacon runs at its pace.
    let usual_ms = *BOUNDS_MS.choose(&mut random).unwrap();
    let mut seen = 1;
    while !shared.finishing.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(random.random_range(1..=pause_max))).await;
        let freshness = match random.random_range(0..10) {
            0..5 => within(Some(usual_ms), None),
            5 => within(Some(*BOUNDS_MS.choose(&mut random).unwrap()), None),
            6 => within(None, MISSING.choose(&mut random).copied()),
            7 => within(Some(usual_ms), MISSING.choose(&mut random).copied()),
            _ => Freshness::AtLeast(Revision::from_wire(seen).unwrap()),
        };
        let everything =
            RangeRequest { key: "a".into(), range_end: "f".into(), ..RangeRequest::default() };
        match shared.read(member, everything, freshness).await {
            Some(revision) => seen = seen.max(revision),
            None => member = random.random_range(0..MEMBERS),
        }
        if random.random_bool(0.1) {
            member = random.random_range(0..MEMBERS);
        }
    }
}

pub(crate) fn within(ms: Option<u64>, revisions: Option<u64>) -> Freshness {
    Freshness::Within(Bound { time: ms.map(Duration::from_millis), revisions })
}
