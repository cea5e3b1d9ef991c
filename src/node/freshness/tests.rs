//! What a member may say of its own age.

use tokio::time::{advance, sleep};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn known(rounds: &[(u64, u64)], start: Instant) -> Known {
    let rounds = rounds.iter().map(|(sent, index)| at(start, *sent, *index));
    Known { rounds: rounds.collect(), ..Known::default() }
}

fn at(start: Instant, sent_ms: u64, index: u64) -> Round {
    Round { sent: start + Duration::from_millis(sent_ms), index }
}

fn bound(ms: Option<u64>, revisions: Option<u64>) -> Bound {
    Bound { time: ms.map(Duration::from_millis), revisions }
}

#[tokio::test(start_paused = true)]
async fn the_index_that_keeps_a_bound_is_that_of_the_oldest_round_within_it() {
    let start = Instant::now();
    // Sent at, and the index that was told.
    let known = known(&[(100, 10), (200, 20), (300, 40)], start);
    let arrived = start + Duration::from_millis(400);
    for (bound, expected) in [
        (bound(Some(300), None), Some(10)),
        (bound(Some(1_000_000_000_000), None), Some(10)),
        (bound(Some(299), None), Some(20)),
        (bound(Some(200), None), Some(20)),
        (bound(Some(100), None), Some(40)),
        (bound(Some(99), None), None),
        (bound(Some(0), None), None),
        // However old, it may lack only so many of what was told last.
        (bound(Some(300), Some(100)), Some(10)),
        (bound(Some(300), Some(25)), Some(15)),
        (bound(Some(300), Some(0)), Some(40)),
        // Nobody knows how many there are now.
        (bound(None, Some(5)), None),
    ] {
        assert_eq!(known.target(bound, arrived), expected, "{bound:?}");
    }
    let earlier = start + Duration::from_millis(300);
    assert_eq!(known.target(bound(None, Some(5)), earlier), Some(35));
    assert_eq!(Known::default().target(bound(Some(1000), None), arrived), None);
}

/// Notes the rounds in this order, and compares what is left of them.
#[track_caller]
fn check_noted(noted: &[(u64, u64)], applied: u64, expected: &[(u64, u64)]) {
    let start = Instant::now();
    let mut found = Known::default();
    noted.iter().for_each(|(sent, index)| found.note(at(start, *sent, *index), applied));
    assert_eq!(found.rounds, known(expected, start).rounds, "{noted:?} at {applied}");
}

#[test]
fn a_round_that_another_one_says_more_than_is_forgotten() {
    check_noted(&[(1, 10), (2, 20), (3, 30)], 0, &[(1, 10), (2, 20), (3, 30)]);
    check_noted(&[(1, 10), (2, 10)], 0, &[(2, 10)]);
    // A new leader may know of fewer entries that nobody had committed.
    check_noted(&[(1, 10), (2, 12), (3, 11)], 0, &[(1, 10), (3, 11)]);
    // Of what has been applied only the newest counts.
    check_noted(&[(1, 10), (2, 20), (3, 30)], 20, &[(2, 20), (3, 30)]);
    check_noted(&[(1, 10), (2, 20), (3, 30)], 99, &[(3, 30)]);
}

#[test]
fn a_round_that_is_answered_late_counts_from_when_it_was_sent() {
    check_noted(&[(2, 20), (1, 10)], 0, &[(1, 10), (2, 20)]);
    check_noted(&[(2, 20), (1, 20)], 0, &[(2, 20)]);
    check_noted(&[(2, 20), (1, 10)], 20, &[(2, 20)]);
}

#[test]
fn of_a_member_that_applies_nothing_so_many_rounds_are_kept() {
    let start = Instant::now();
    let mut found = Known::default();
    (0..1000).for_each(|n| found.note(at(start, n, n + 1), 0));
    assert_eq!(found.rounds.len(), ROUNDS_MAX);
    assert_eq!(found.rounds.front(), Some(&at(start, 0, 1)));
    assert_eq!(found.rounds.back(), Some(&at(start, 999, 1000)));
}

#[tokio::test(start_paused = true)]
async fn a_round_tells_how_old_the_state_is_once_it_is_applied() {
    let beacon = Beacon::default();
    let sent = beacon.begin();
    advance(80 * MS).await;
    beacon.end(sent, Some(7), 6);
    let arrived = Instant::now();
    assert_eq!(beacon.staleness(6, arrived), None);
    assert_eq!(beacon.staleness(7, arrived), Some(80 * MS));
    assert_eq!(beacon.staleness(9, arrived + 20 * MS), Some(100 * MS));
    // Asked later than the read arrived: the read lacks nothing.
    let sent = beacon.begin();
    beacon.end(sent, Some(9), 9);
    assert_eq!(beacon.staleness(9, arrived), Some(Duration::ZERO));
    // A round without an answer tells nothing.
    let sent = beacon.begin();
    beacon.end(sent, None, 9);
    assert_eq!(beacon.staleness(9, arrived + 50 * MS), Some(50 * MS));
}

/// How many rounds a beacon makes in `time`, if each takes `round_trip`.
async fn rounds_in(beacon: &Beacon, time: Duration, round_trip: Duration) -> u64 {
    let mut answered = beacon.answered();
    answered.mark_unchanged();
    let before = *answered.borrow();
    let _ = tokio::time::timeout(time, shine(beacon, round_trip)).await;
    *answered.borrow() - before
}

/// Makes rounds that take so long, for ever.
async fn shine(beacon: &Beacon, round_trip: Duration) {
    loop {
        beacon.until_due().await;
        let sent = beacon.begin();
        sleep(round_trip).await;
        beacon.end(sent, Some(1), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_beacon_makes_four_rounds_in_the_tightest_bound_while_it_is_wanted() {
    let beacon = Beacon::default();
    let second = Duration::from_secs(1);
    assert_eq!(rounds_in(&beacon, second, 80 * MS).await, 0);
    beacon.want(2 * second);
    beacon.want(9 * second);
    assert_eq!(rounds_in(&beacon, 4 * second, 80 * MS).await, 8);
    // Nobody has wanted it for ten seconds.
    assert_eq!(rounds_in(&beacon, 60 * second, 80 * MS).await, 12);
    beacon.always_want(4 * second);
    assert_eq!(rounds_in(&beacon, 39_500 * MS, 80 * MS).await, 40);
    beacon.want(2 * second);
    assert_eq!(rounds_in(&beacon, 3900 * MS, 80 * MS).await, 8);
}

#[tokio::test(start_paused = true)]
async fn however_tight_the_bound_the_leader_is_asked_forty_times_a_second_at_most() {
    let beacon = Beacon::default();
    beacon.always_want(MS);
    assert_eq!(rounds_in(&beacon, Duration::from_secs(1), MS).await, 40);
    // One after the other, when they take longer than that.
    assert_eq!(rounds_in(&beacon, Duration::from_secs(2), 200 * MS).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_no_clock_reaches_is_a_bound() {
    let beacon = Beacon::default();
    beacon.want(Duration::MAX);
    beacon.always_want(Duration::MAX);
    assert_eq!(rounds_in(&beacon, Duration::from_secs(60), MS).await, 1);
    let forever = Bound { time: Some(Duration::MAX), revisions: Some(u64::MAX) };
    assert_eq!(beacon.target(forever, Instant::now()), Some(1));
}

/// The oldest that the state was ever known to be, for rounds that take so long.
async fn oldest(bound: Duration, round_trip: Duration) -> Duration {
    let beacon = Beacon::default();
    beacon.always_want(bound);
    let watched = async {
        sleep(round_trip * 2).await;
        let mut oldest = Duration::ZERO;
        for _ in 0..4000 {
            sleep(MS).await;
            oldest = oldest.max(beacon.staleness(1, Instant::now()).unwrap());
        }
        oldest
    };
    tokio::select! {
        oldest = watched => oldest,
        () = shine(&beacon, round_trip) => unreachable!("it shines for ever"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_twice_the_round_trip_is_kept_without_waiting() {
    for (bound_ms, round_trip_ms) in [(5000, 230), (500, 230), (464, 230), (170, 84), (30, 2)] {
        let bound = bound_ms * MS;
        let oldest = oldest(bound, round_trip_ms * MS).await;
        assert!(oldest <= bound, "{bound:?} at {round_trip_ms} ms: {oldest:?}");
    }
}
