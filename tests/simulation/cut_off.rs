//! A member that is cut off from the others serves what its level allows, and refuses the rest.

use std::time::Duration;

use orrery::{
    node::{Error, Freshness},
    proto::{command::command::Operation, etcdserverpb::RangeRequest},
    types::Revision,
};

use super::{
    clients::put,
    door::{Reply, Request, Trouble},
    history::History,
    machine::{Broken, MEMBERS, REQUEST_TIMEOUT},
    readers::within,
    world::World,
};

/// What a read of a member came to.
type Outcome = Result<i64, Error>;

/// A world with a follower that can be cut off.
struct Scene {
    world: World,
    leader: usize,
    follower: usize,
    others: Vec<(usize, usize)>,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut world = World::new(seed, Broken::Not, History::default());
        world.start();
        let leader = loop {
            world.step().unwrap();
            if let Some(leader) = world.leader() {
                break leader;
            }
        };
        let follower = (leader + 1) % MEMBERS;
        let others = (0..MEMBERS).filter(|other| *other != follower);
        let others = others.flat_map(|other| [(follower, other), (other, follower)]).collect();
        Scene { world, leader, follower, others }
    }

    fn pass(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.world.step().unwrap());
    }

    /// Writes at the leader; the new revision.
    fn write(&mut self, value: &str) -> i64 {
        let (shared, leader) = (self.world.shared(), self.leader);
        let operation = Operation::Put(put("a", value.to_owned(), 0));
        self.world.carry_out(async move { shared.write(leader, operation).await }).unwrap()
    }

    /// Reads at the follower; what came of it, and how many milliseconds it took.
    fn read(&mut self, freshness: Freshness) -> (Outcome, u64) {
        let (shared, follower) = (self.world.shared(), self.follower);
        let began = shared.history.ms();
        let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
        let history = shared.history.clone();
        let outcome = self.world.carry_out(async move {
            match shared.call(follower, Request::Range(range, freshness)).await {
                Ok(Reply::Range(_, revision)) => Ok(revision),
                Err(Trouble::Error(error)) => Err(error),
                other => panic!("{other:?}"),
            }
        });
        (outcome, history.ms() - began)
    }

    #[track_caller]
    fn check_at_once(&mut self, freshness: Freshness, revision: i64) {
        let (outcome, took) = self.read(freshness);
        assert_eq!(outcome, Ok(revision), "{freshness:?}");
        assert!(took <= 3, "{freshness:?} took {took} ms");
    }

    #[track_caller]
    fn check_refused(&mut self, freshness: Freshness) -> Error {
        let (outcome, took) = self.read(freshness);
        let least = u64::try_from(REQUEST_TIMEOUT.as_millis()).unwrap();
        assert!((least..least + 10).contains(&took), "{freshness:?} took {took} ms: {outcome:?}");
        outcome.unwrap_err()
    }
}

fn session(revision: i64) -> Freshness {
    Freshness::AtLeast(Revision::from_wire(revision).unwrap())
}

#[test]
fn a_member_that_is_cut_off_serves_what_its_level_allows() {
    for seed in 1..=10 {
        let mut scene = Scene::new(seed);
        let first = scene.write("one");
        // Nothing is known of its age, so the first bounded read waits for a round.
        let (outcome, took) = scene.read(within(Some(1000), None));
        assert_eq!(outcome, Ok(first));
        assert!(took <= 200, "{took} ms");
        scene.pass(3000);
        // From then on the beacon has it ready.
        scene.check_at_once(within(Some(1000), None), first);

        scene.world.block(&scene.others.clone(), true);
        scene.pass(300);
        let second = scene.write("two");
        scene.check_at_once(within(Some(1000), None), first);
        scene.check_at_once(within(Some(1000), Some(5)), first);
        scene.check_at_once(Freshness::Any, first);
        scene.check_at_once(session(first), first);
        assert_eq!(scene.check_refused(Freshness::Linearizable), Error::Timeout);
        let not_available = Error::SessionNotAvailable {
            asked: Revision::from_wire(second).unwrap(),
            newest: Revision::from_wire(first).unwrap(),
        };
        assert_eq!(scene.check_refused(session(second)), not_available);
        match scene.check_refused(within(Some(1000), None)) {
            Error::TooStale(Some(age)) => {
                assert!((6000..8000).contains(&age.as_millis()), "{age:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(scene.check_refused(within(None, Some(100))), Error::TooStale(_)));
        // A wider bound still holds.
        scene.check_at_once(within(Some(30_000), None), first);

        scene.world.block(&scene.others.clone(), false);
        for freshness in [session(second), within(Some(100), None), Freshness::Linearizable] {
            assert_eq!(scene.read(freshness).0, Ok(second), "{freshness:?}");
        }
        scene.pass(Duration::from_secs(2).as_millis() as u64);
        scene.check_at_once(within(Some(1000), None), second);
    }
}
