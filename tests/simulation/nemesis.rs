//! What goes wrong, from the seed: which kinds of faults a run has, when they strike and whom.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::machine::{Death, MEMBERS};

/// One thing that happens to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Members die, and start again after so many milliseconds.
    Die { members: Vec<usize>, death: Death, down_ms: u64 },
    /// Power goes at the n-th operation of a disk from now on.
    PowerAt { member: usize, operation: u64 },
    /// Nothing gets through from one to the other.
    Cut { ways: Vec<(usize, usize)>, for_ms: u64 },
    /// A member stands still.
    Pause { member: usize, for_ms: u64 },
    /// Messages between two members take up to so long.
    Slow { pair: (usize, usize), latency_ms: u64, for_ms: u64 },
    /// Whoever leads hands over to this member. It may be deaf for so long from then on: until it
    /// finds out, it takes itself for the leader although another one has been elected.
    Transfer { to: usize, deaf_ms: Option<u64> },
    /// All but so many of the newest revisions are compacted.
    Compact { keep: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    PowerLoss,
    PowerAt,
    Isolate,
    CutOneWay,
    CutPair,
    Pause,
    Slow,
    Transfer,
    Compact,
}

const KINDS: [Kind; 10] = [
    Kind::Kill,
    Kind::PowerLoss,
    Kind::PowerAt,
    Kind::Isolate,
    Kind::CutOneWay,
    Kind::CutPair,
    Kind::Pause,
    Kind::Slow,
    Kind::Transfer,
    Kind::Compact,
];

/// The faults of one run. Some kinds are left out, so that others are seen undisturbed.
#[derive(Debug)]
pub(crate) struct Nemesis {
    kinds: Vec<Kind>,
    pause_max_ms: u64,
}

impl Nemesis {
    pub(crate) fn new(random: &mut StdRng) -> Nemesis {
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| random.random_bool(0.6)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::PowerLoss);
        }
        Nemesis { kinds, pause_max_ms: *[300, 700, 1500].choose(random).unwrap() }
    }

    /// Milliseconds until the next fault.
    pub(crate) fn pause(&self, random: &mut StdRng) -> u64 {
        random.random_range(20..self.pause_max_ms)
    }

    pub(crate) fn next(&self, random: &mut StdRng) -> Fault {
        let member = random.random_range(0..MEMBERS);
        let other = (member + random.random_range(1..MEMBERS)) % MEMBERS;
        let longest_ms = *[300, 1000, 2500].choose(random).unwrap();
        let for_ms = random.random_range(50..longest_ms);
        let others = (0..MEMBERS).filter(|other| *other != member);
        match self.kinds.choose(random).unwrap() {
            Kind::Kill => die(random, member, Death::Kill),
            Kind::PowerLoss => die(random, member, Death::PowerLoss),
            Kind::PowerAt => Fault::PowerAt { member, operation: random.random_range(0..20) },
            Kind::Isolate => {
                let ways = others.flat_map(|other| [(member, other), (other, member)]);
                Fault::Cut { ways: ways.collect(), for_ms }
            }
            Kind::CutOneWay => {
                let out = random.random_bool(0.5);
                let way = |other| if out { (member, other) } else { (other, member) };
                Fault::Cut { ways: others.map(way).collect(), for_ms }
            }
            Kind::CutPair => Fault::Cut { ways: vec![(member, other), (other, member)], for_ms },
            Kind::Pause => Fault::Pause { member, for_ms },
            Kind::Slow => {
                let latency_ms = random.random_range(20..200);
                Fault::Slow { pair: (member, other), latency_ms, for_ms }
            }
            Kind::Transfer => {
                Fault::Transfer { to: member, deaf_ms: random.random_bool(0.5).then_some(for_ms) }
            }
            Kind::Compact => Fault::Compact { keep: random.random_range(0..40) },
        }
    }
}

/// One member most of the time, sometimes two or all.
fn die(random: &mut StdRng, member: usize, death: Death) -> Fault {
    let count = *[1, 1, 1, 1, 2, MEMBERS, MEMBERS].choose(random).unwrap();
    let members = (0..count).map(|next| (member + next) % MEMBERS).collect();
    let longest_ms = *[50, 500, 2000].choose(random).unwrap();
    let down_ms = random.random_range(1..longest_ms);
    Fault::Die { members, death, down_ms }
}
