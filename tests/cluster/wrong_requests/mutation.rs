//! Small damage to a good message.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Longest run of bytes that one step inserts.
const LONGEST_INSERT: usize = 16;

/// From `ORRERY_FUZZ_SEED`, or a fresh one; a failure prints it.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("ORRERY_FUZZ_SEED").ok();
    given.map_or_else(|| u64::from(rand::random::<u32>()), |text| text.parse().unwrap())
}

/// The same message and seed give the same damage.
pub(crate) fn mutate(message: &[u8], seed: u64) -> Bytes {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = message.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => {
                let inserted = (0..random.random_range(1..=LONGEST_INSERT)).map(|_| 0xff);
                bytes.splice(at..at, inserted.collect::<Vec<u8>>());
            }
            _ => {
                let inserted: Vec<u8> =
                    (0..random.random_range(1..=LONGEST_INSERT)).map(|_| random.random()).collect();
                bytes.splice(at..at, inserted);
            }
        }
    }
    bytes.into()
}
