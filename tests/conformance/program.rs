//! Random programs: requests that two servers must answer alike, whatever their clocks say and
//! however their tasks take turns.
//!
//! Few keys, values and leases, so that requests meet; and sometimes wrong ones. Remaining time
//! differs by little, so leases live for very different times. Nobody waits for a lock: each
//! lease has its own. There are no more than twelve keys, which etcd sorts stably.

use bytes::Bytes;
use orrery::proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest,
        PutRequest, RangeRequest, WatchCreateRequest,
    },
    v3electionpb::CampaignRequest,
    v3lockpb::LockRequest,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    random_txn,
    request::{CHOSEN, Request},
};

const KEYS: [&[u8]; 7] = [b"a", b"a\0", b"ab", b"b", b"c", b"\0", b"\xff"];
/// Besides a key, the end of everything, and none.
const ENDS: [&[u8]; 4] = [b"b/", b"z", b"a\xff", b"\xff\xff"];
const VALUES: [&[u8]; 5] = [b"", b"1", b"2", b"x y", b"\0"];
/// Leases that may be granted, with their times to live in thousands of seconds.
const LEASES: [(i64, i64); 4] = [(7, 10), (8, 30), (-9, 60), (1 << 40, 90)];
/// Never granted.
const NO_LEASE: i64 = 404;
const CHOSEN_TTL: i64 = 120_000;
const STREAMS: [&str; 2] = ["main", "other"];

/// What is asked, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub seed: u64,
    /// Runs on servers that have never been written to, and ends with the hashes of all revisions.
    pub fresh: bool,
    pub requests: Vec<Request>,
}

impl Program {
    pub(crate) fn new(seed: u64) -> Program {
        let fresh = seed.is_multiple_of(FRESH_EVERY);
        let mut random = Random::new(seed, fresh);
        let length = random.pick(20..=60);
        let mut requests = Vec::new();
        while requests.len() < length {
            let request = random.request();
            random.note(&request);
            requests.push(request);
        }
        if fresh {
            requests.extend((-1..=random.revision + 2).map(Request::HashKv));
        }
        Program { seed, fresh, requests }
    }
}

/// To start servers takes as long as many programs.
const FRESH_EVERY: u64 = 50;

/// Draws requests, and knows roughly where they have led.
pub(super) struct Random {
    dice: StdRng,
    fresh: bool,
    /// At most what the revision is, or a little more.
    revision: i64,
    has_chosen: bool,
    open: Vec<&'static str>,
    /// How often each kind of request comes.
    weights: [u32; 4],
}

impl Random {
    pub(super) fn new(seed: u64, fresh: bool) -> Random {
        let mut dice = StdRng::seed_from_u64(seed);
        // Some programs have no watches, leases or locks at all.
        let weights =
            [20, 6, 6, 4].map(|most| if dice.random_bool(0.6) { most } else { most / 20 });
        Random { dice, fresh, revision: 1, has_chosen: false, open: Vec::new(), weights }
    }

    pub(super) fn pick(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        self.dice.random_range(range)
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_ratio(percent, 100)
    }

    pub(super) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.dice).expect("there are some").clone()
    }

    fn note(&mut self, request: &Request) {
        match request {
            Request::Put(_) | Request::Txn(_) | Request::Lock { .. } => self.revision += 1,
            Request::Delete(_) | Request::Revoke(_) | Request::Unlock(_) => {
                self.revision += i64::from(self.dice.random_bool(0.5));
            }
            Request::Grant(LeaseGrantRequest { id: 0, .. }) => self.has_chosen = true,
            Request::Watch { stream, .. } => {
                self.open.extend(STREAMS.iter().filter(|known| *known == stream));
            }
            _ => (),
        }
    }

    fn request(&mut self) -> Request {
        let kv = self.weights[0] + 10;
        let [_, leases, watches, locks] = self.weights;
        let drawn = self.dice.random_range(0..kv + leases + watches + locks);
        if drawn < kv {
            self.kv()
        } else if drawn < kv + leases {
            self.lease_request()
        } else if drawn < kv + leases + watches {
            self.watch_request()
        } else {
            self.lock_request()
        }
    }

    fn kv(&mut self) -> Request {
        match self.dice.random_range(0..100) {
            0..30 => Request::Put(self.put()),
            30..55 => Request::Range(self.range()),
            55..62 => Request::RangeStream(self.range_stream()),
            62..72 => Request::Delete(self.delete()),
            72..92 => Request::Txn(random_txn::txn(self)),
            92..96 if self.fresh => Request::HashKv(self.revision()),
            _ => Request::Compact(CompactionRequest {
                revision: self.revision(),
                // What a compaction hashes must be done where hashes are asked for.
                physical: self.fresh || self.chance(50),
            }),
        }
    }

    pub(super) fn key(&mut self) -> Bytes {
        if self.chance(1) { Bytes::new() } else { Bytes::from_static(self.one(&KEYS)) }
    }

    pub(super) fn value(&mut self) -> Bytes {
        Bytes::from_static(self.one(&VALUES))
    }

    /// None, a key, everything behind, or something else.
    pub(super) fn end(&mut self) -> Bytes {
        match self.dice.random_range(0..10) {
            0..4 => Bytes::new(),
            4..6 => Bytes::from_static(self.one(&KEYS)),
            6..8 => Bytes::from_static(b"\0"),
            _ => Bytes::from_static(self.one(&ENDS)),
        }
    }

    /// Mostly one that is there to be read.
    pub(super) fn revision(&mut self) -> i64 {
        let now = self.revision;
        match self.dice.random_range(0..100) {
            0..60 => self.dice.random_range(1..=now),
            60..75 => self.dice.random_range((now - 4).max(1)..=now),
            75..90 => self.dice.random_range(now..=now + 3),
            90..94 => 0,
            94..97 => -1,
            97..99 => i64::MIN,
            _ => i64::MAX,
        }
    }

    /// 0 mostly.
    fn revision_option(&mut self, percent: u32) -> i64 {
        if self.chance(percent) { self.revision() } else { 0 }
    }

    pub(super) fn lease(&mut self) -> i64 {
        match self.dice.random_range(0..100) {
            0..8 => NO_LEASE,
            8..30 if self.has_chosen => CHOSEN,
            _ => self.one(&LEASES).0,
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let with_lease = self.weights[1] > 0;
        let ignore_value = self.chance(6);
        let ignore_lease = self.chance(6);
        PutRequest {
            key: self.key(),
            value: if ignore_value && self.chance(80) { Bytes::new() } else { self.value() },
            lease: if with_lease && self.chance(if ignore_lease { 10 } else { 30 }) {
                self.lease()
            } else {
                0
            },
            prev_kv: self.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let odd = |random: &mut Random, known: std::ops::RangeInclusive<i32>| {
            if random.chance(2) {
                random.one(&[-1, 9])
            } else if random.chance(70) {
                0
            } else {
                random.dice.random_range(known)
            }
        };
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: if self.chance(70) { 0 } else { self.one(&[1, 2, 3, 100, -1, i64::MAX]) },
            revision: self.revision_option(40),
            sort_order: odd(self, 1..=2),
            sort_target: odd(self, 1..=4),
            serializable: self.chance(20),
            keys_only: self.chance(15),
            count_only: self.chance(8),
            min_mod_revision: self.revision_option(8),
            max_mod_revision: self.revision_option(8),
            min_create_revision: self.revision_option(8),
            max_create_revision: self.revision_option(8),
        }
    }

    /// Without a target where there is no order: then etcd sorts each part by itself, and goes on
    /// behind whatever key came last.
    fn range_stream(&mut self) -> RangeRequest {
        let range = self.range();
        let unordered = range.sort_order == 0 && range.sort_target < 5;
        RangeRequest { sort_target: if unordered { 0 } else { range.sort_target }, ..range }
    }

    pub(super) fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.chance(40) }
    }

    fn lease_request(&mut self) -> Request {
        match self.dice.random_range(0..100) {
            0..45 => Request::Grant(self.grant()),
            45..55 => Request::Revoke(self.lease()),
            55..65 => Request::KeepAlive(self.lease()),
            65..90 => Request::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.chance(80),
            }),
            _ => Request::Leases,
        }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let (id, thousands) = self.one(&LEASES);
        if self.chance(4) {
            return LeaseGrantRequest { ttl: 9_000_000_001, id };
        }
        // Hashes speak of leases, so that none must be chosen by chance; and one is enough.
        if self.chance(15) && !self.has_chosen && !self.fresh {
            return LeaseGrantRequest { ttl: CHOSEN_TTL, id: 0 };
        }
        LeaseGrantRequest { ttl: thousands * 1_000, id }
    }

    fn watch_request(&mut self) -> Request {
        let stream = match self.open.as_slice() {
            [] => None,
            open => Some(open[self.dice.random_range(0..open.len())].to_owned()),
        };
        match (self.dice.random_range(0..100), stream) {
            (0..15, Some(stream)) => {
                Request::Cancel { stream, id: self.one(&[0, 0, 0, 1, 1, 2, 5, -1]) }
            }
            (15..25, Some(stream)) => Request::Progress { stream },
            _ => {
                let stream = if self.chance(80) { STREAMS[0] } else { STREAMS[1] };
                Request::Watch { stream: stream.to_owned(), create: self.watch() }
            }
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let now = self.revision;
        let start_revision = match self.dice.random_range(0..100) {
            0..50 => 0,
            50..90 => self.dice.random_range(1..=now),
            90..94 => self.dice.random_range(now..=now + 5),
            94..96 => i64::MAX,
            96..98 => -1,
            _ => self.revision(),
        };
        let all_filters: [&[i32]; 5] = [&[0], &[1], &[1], &[0, 1], &[1, 7]];
        WatchCreateRequest {
            key: self.key(),
            range_end: if self.chance(50) { Bytes::from_static(b"\0") } else { self.end() },
            start_revision,
            prev_kv: self.chance(40),
            progress_notify: self.chance(20),
            fragment: self.chance(20),
            filters: if self.chance(20) { self.one(&all_filters).to_vec() } else { Vec::new() },
            watch_id: if self.chance(25) { self.one(&[1, 2, 5, 1 << 40]) } else { 0 },
        }
    }

    /// Locks and elections, each of which has one lease that asks for it.
    fn lock_request(&mut self) -> Request {
        let (id, thousands) = self.one(&LEASES[..2]);
        let lease = if self.chance(5) { NO_LEASE } else { id };
        let lock = Bytes::from(format!("m{id}"));
        let election = Bytes::from(format!("e{id}"));
        let leader = format!("leader{id}");
        match self.dice.random_range(0..100) {
            0..15 => Request::Grant(LeaseGrantRequest { ttl: thousands * 1_000, id }),
            15..35 => Request::Lock { request: LockRequest { name: lock, lease }, aside: None },
            35..45 => Request::Unlock(Bytes::from(format!("m{id}/{id}"))),
            45..65 => Request::Campaign {
                request: CampaignRequest { name: election, lease, value: self.value() },
                aside: None,
                keep: Some(leader),
            },
            65..78 => Request::Proclaim { leader, value: self.value() },
            78..90 => Request::Leader(election),
            _ => Request::Resign { leader },
        }
    }
}
