//! The rules of the protocol, one by one. `src/watch/stream/model_tests.rs` mixes them.

use super::{
    bench::{BOUNDS, Bench, line},
    *,
};
use crate::{proto::etcdserverpb::watch_create_request::FilterType, watch::Bounds};

fn filters(filters: &[FilterType]) -> Vec<i32> {
    filters.iter().map(|filter| (*filter).into()).collect()
}

#[test]
fn a_watcher_is_created_before_it_is_sent_anything_and_begins_after_the_revision_it_is_told() {
    let mut bench = Bench::new();
    bench.put("k", "before");
    bench.watch("k", |_| ());
    bench.put("k", "after");
    bench.check(&["0 @2 created", "0 @3 +k=after/3"]);
    bench.put("other", "");
    bench.delete("k");
    bench.check(&["0 @5 -k/5"]);
}

#[test]
fn a_start_in_the_past_replays_from_the_history_and_then_goes_on() {
    let mut bench = Bench::new();
    for value in ["a", "b", "c"] {
        bench.put("k", value);
    }
    bench.watch("k", |create| create.start_revision = 3);
    bench.put("k", "d");
    bench.check(&["0 @4 created", "0 @5 +k=b/3 +k=c/4 +k=d/5"]);
    bench.put("k", "e");
    bench.check(&["0 @6 +k=e/6"]);
}

#[test]
fn a_start_in_the_future_gets_neither_older_events_nor_progress_below_it() {
    let mut bench = Bench::new();
    bench.watch("k", |create| (create.start_revision, create.progress_notify) = (4, true));
    bench.put("k", "too early");
    bench.ask_for_progress();
    bench.stream.tick();
    bench.check(&["0 @1 created"]);
    bench.install("k", "too early, and by a snapshot");
    bench.check(&[]);
    bench.put("k", "now");
    bench.check(&["0 @4 +k=now/4"]);
    bench.ask_for_progress();
    bench.check(&["-1 @4"]);
}

#[test]
fn a_start_below_the_compaction_floor_is_canceled_and_one_at_it_is_not() {
    let mut bench = Bench::new();
    bench.put("k", "a");
    bench.put("k", "b");
    bench.delete("k");
    bench.memory.compact(Revision::from_wire(4).unwrap());
    bench.watch("k", |create| create.start_revision = 3);
    bench.check(&["0 @4 created", "0 @0 canceled compacted 4"]);
    bench.watch("k", |create| create.start_revision = 4);
    bench.check(&["1 @4 created", "1 @4 -k/4"]);
    assert_eq!(bench.hub.counts().watchers, 1);
    // Its id is not free until the client has canceled it as well.
    bench.watch("k", |create| create.watch_id = 5);
    bench.check(&["5 @4 created"]);
    bench.watch("k", |create| (create.watch_id, create.start_revision) = (6, 3));
    bench.check(&["6 @4 created", "6 @0 canceled compacted 4"]);
    bench.watch("k", |create| create.watch_id = 6);
    bench.check(&["-1 @4 created canceled: mvcc: duplicate watch ID provided on the WatchStream"]);
    bench.cancel(6);
    bench.check(&["6 @4 canceled"]);
    bench.cancel(6);
    bench.check(&[]);
}

#[test]
fn a_compaction_that_overtakes_a_watcher_cancels_it_and_no_other() {
    let mut bench = Bench::new();
    bench.watch("k", |_| ());
    bench.watch("quiet", |_| ());
    bench.check(&["0 @1 created", "1 @1 created"]);
    for value in ["a", "b", "c"] {
        bench.put("k", value); // the third is one too many for the feed
    }
    bench.memory.compact(Revision::from_wire(3).unwrap());
    bench.check(&["0 @0 canceled compacted 3", "1 @0 canceled compacted 3"]);

    let mut bench = Bench::new();
    bench.watch("k", |_| ());
    bench.put("k", "a");
    bench.check(&["0 @1 created", "0 @2 +k=a/2"]);
    for value in ["b", "c", "d"] {
        bench.put("other", value);
    }
    bench.put("k", "e");
    bench.memory.compact(Revision::from_wire(6).unwrap());
    bench.check(&["0 @6 +k=e/6"]);
}

#[test]
fn what_can_not_be_watched_is_refused_in_the_words_of_etcd() {
    let mut bench = Bench::new();
    bench.put("k", "");
    bench.watch("k", |create| create.start_revision = -1);
    bench.watch("k", |create| create.range_end = "a".into());
    bench.watch("k", |create| create.range_end = "k".into());
    bench.watch("", |create| create.range_end = "\0".into());
    bench.watch("k", |create| create.watch_id = 7);
    bench.watch("k", |create| create.watch_id = 7);
    bench.check(&[
        "-1 @2 created canceled: etcdserver: mvcc: required revision has been compacted",
        "-1 @2 created canceled: mvcc: watcher range is empty",
        "-1 @2 created canceled: mvcc: watcher range is empty",
        "0 @2 created",
        "7 @2 created",
        "-1 @2 created canceled: mvcc: duplicate watch ID provided on the WatchStream",
    ]);
}

#[test]
fn ranges_are_read_as_etcd_reads_them() {
    let mut bench = Bench::new();
    bench.watch("b", |create| create.range_end = "d".into());
    bench.watch("b", |create| create.range_end = "\0".into());
    bench.watch("", |create| create.range_end = "\0".into());
    bench.watch("", |_| ());
    bench.receive();
    bench.write(&[("a", Some("")), ("b", Some("")), ("c", Some("")), ("d", Some(""))]);
    bench.check(&["0 @2 +b=/2 +c=/2", "1 @2 +b=/2 +c=/2 +d=/2", "2 @2 +a=/2 +b=/2 +c=/2 +d=/2"]);
    bench.put("\0", "");
    bench.check(&["2 @3 +\0=/3", "3 @3 +\0=/3"]);
}

#[test]
fn ids_are_counted_up_and_skip_those_that_the_client_chose() {
    let mut bench = Bench::new();
    for id in [1, 0, 0, -5, 0] {
        bench.watch("k", |create| create.watch_id = id);
    }
    bench.cancel(0);
    bench.watch("k", |_| ());
    bench.watch("k", |create| create.watch_id = 1);
    bench.cancel(1);
    bench.watch("k", |create| create.watch_id = 1);
    bench.check(&[
        "1 @1 created",
        "0 @1 created",
        "2 @1 created",
        "-5 @1 created",
        "3 @1 created",
        "0 @1 canceled",
        "4 @1 created",
        "-1 @1 created canceled: mvcc: duplicate watch ID provided on the WatchStream",
        "1 @1 canceled",
        "1 @1 created",
    ]);
}

#[test]
fn nothing_comes_after_a_cancel_and_an_unknown_id_is_ignored() {
    let mut bench = Bench::new();
    bench.put("k", "a");
    bench.watch("k", |_| ());
    bench.watch("k", |create| create.start_revision = 2);
    bench.put("k", "b");
    bench.cancel(0);
    bench.cancel(1);
    bench.cancel(1);
    bench.cancel(99);
    bench.stream.request(WatchRequest { request_union: None });
    bench.check(&["0 @2 created", "1 @2 created", "0 @3 canceled", "1 @3 canceled"]);
    assert_eq!(bench.hub.counts().watchers, 0);
}

#[test]
fn a_read_that_was_under_way_is_not_taken_for_a_new_watcher_with_the_old_id() {
    let mut bench = Bench::new();
    bench.put("old", "a");
    bench.put("new", "a");
    bench.watch("old", |create| (create.watch_id, create.start_revision) = (7, 2));
    let read = bench.stream.next_read().unwrap();
    let chunk = read.run(&*bench.memory.past()).unwrap();
    bench.cancel(7);
    bench.watch("new", |create| (create.watch_id, create.start_revision) = (7, 2));
    bench.stream.read(&read, chunk);
    bench.check(&["7 @3 created", "7 @3 canceled", "7 @3 created", "7 @3 +new=a/3"]);
}

#[test]
fn filters_hold_back_puts_or_deletes_and_what_is_filtered_out_whole_is_not_sent() {
    let mut bench = Bench::new();
    bench.watch("k", |create| create.filters = filters(&[FilterType::Noput]));
    bench.watch("k", |create| create.filters = filters(&[FilterType::Nodelete]));
    bench.watch("k", |create| create.filters = filters(&[FilterType::Noput, FilterType::Nodelete]));
    bench.watch("k", |create| create.filters = vec![17]);
    bench.receive();
    bench.put("k", "a");
    bench.delete("k");
    bench.check(&["1 @2 +k=a/2", "3 @2 +k=a/2", "0 @3 -k/3", "3 @3 -k/3"]);
    bench.watch("k", |create| {
        (create.filters, create.start_revision) = (filters(&[FilterType::Noput]), 1);
    });
    bench.check(&["4 @3 created", "4 @3 -k/3"]);
}

#[test]
fn the_version_before_is_shown_to_those_who_ask_live_and_from_the_history() {
    let mut bench = Bench::new();
    bench.watch("k", |create| create.prev_kv = true);
    bench.watch("k", |_| ());
    bench.receive();
    bench.put("k", "a");
    bench.put("k", "b");
    bench.check(&["0 @2 +k=a/2", "1 @2 +k=a/2", "0 @3 +k=b/3(was a)", "1 @3 +k=b/3"]);
    bench.delete("k");
    bench.put("k", "c");
    bench.check(&["0 @4 -k/4(was b)", "1 @4 -k/4", "0 @5 +k=c/5", "1 @5 +k=c/5"]);
    bench.watch("k", |create| (create.prev_kv, create.start_revision) = (true, 3));
    bench.check(&["2 @5 created", "2 @5 +k=b/3(was a) -k/4(was b) +k=c/5"]);
    bench.memory.compact(Revision::from_wire(3).unwrap());
    bench.watch("k", |create| (create.prev_kv, create.start_revision) = (true, 3));
    bench.check(&["3 @5 created", "3 @5 +k=b/3 -k/4(was b) +k=c/5"]);
}

#[test]
fn a_revision_is_one_response_and_an_event_is_encoded_once_for_all_watchers() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.watch("a", |create| create.range_end = "z".into());
    }
    bench.receive();
    bench.write(&[("a", Some("1")), ("b", Some("2"))]);
    let responses = bench.receive();
    assert_eq!(
        responses.iter().map(line).collect::<Vec<_>>(),
        ["0 @2 +a=1/2 +b=2/2", "1 @2 +a=1/2 +b=2/2",]
    );
    let address = |at: usize| std::ptr::from_ref(responses[at].events[0].kv.as_ref().unwrap());
    assert_eq!(address(0), address(1));
}

#[test]
fn a_revision_is_split_only_for_those_who_take_fragments() {
    let mut bench = Bench::new();
    bench.stream.max_response_bytes = 50;
    bench.watch("a", |create| (create.range_end, create.fragment) = ("z".into(), true));
    bench.watch("a", |create| create.range_end = "z".into());
    bench.receive();
    bench.write(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]);
    bench.check(&["0 @2 fragment +a=1/2 +b=2/2", "0 @2 +c=3/2", "1 @2 +a=1/2 +b=2/2 +c=3/2"]);
}

#[test]
fn a_response_from_the_history_has_whole_revisions_and_not_more_than_so_many() {
    let mut bench = Bench::bounded(Bounds { response_revisions: 2, ..BOUNDS });
    for value in ["1", "2", "3", "4", "5"] {
        bench.write(&[("a", Some(value)), ("b", Some(value))]);
    }
    bench.watch("a", |create| (create.range_end, create.start_revision) = ("z".into(), 2));
    bench.check(&[
        "0 @6 created",
        "0 @6 +a=1/2 +b=1/2 +a=2/3 +b=2/3",
        "0 @6 +a=3/4 +b=3/4 +a=4/5 +b=4/5",
        "0 @6 +a=5/6 +b=5/6",
    ]);
}

#[test]
fn watchers_that_are_equally_far_behind_read_together_and_others_wait_their_turn() {
    let mut bench = Bench::new();
    for _ in 0..SHARED_READ_REVISIONS + 10 {
        bench.put("k", "");
    }
    for start in [2, 5, 1005, 1006] {
        bench.watch("k", |create| create.start_revision = start);
    }
    assert_eq!(bench.hub.counts().catching_up, 4);
    let ids = |read: Read| read.watchers.iter().map(|reader| reader.id).collect::<Vec<_>>();
    let mut turns = || ids(bench.stream.next_read().unwrap());
    assert_eq!(
        [turns(), turns(), turns(), turns()],
        [vec![1, 2], vec![2, 3], vec![3], vec![0, 1],]
    );
}

#[test]
fn progress_is_told_once_for_all_watchers_and_only_when_all_have_everything() {
    let mut bench = Bench::new();
    bench.ask_for_progress();
    bench.check(&[]);
    bench.put("k", "a");
    bench.watch("k", |_| ());
    bench.watch("k", |create| create.start_revision = 1);
    bench.ask_for_progress();
    bench.ask_for_progress();
    let told: Vec<String> = bench.advance().iter().map(line).collect();
    assert_eq!(told, ["0 @2 created", "1 @2 created"]);
    bench.put("other", "a");
    bench.check(&["1 @3 +k=a/2", "-1 @3"]);
    bench.ask_for_progress();
    bench.put("k", "b");
    bench.check(&["0 @4 +k=b/4", "1 @4 +k=b/4", "-1 @4"]);
    bench.check(&[]);
    bench.ask_for_progress();
    bench.ask_for_progress();
    bench.check(&["-1 @4", "-1 @4"]);
}

#[test]
fn a_watcher_that_a_compaction_canceled_keeps_its_stream_from_telling_progress() {
    let mut bench = Bench::new();
    bench.put("k", "a");
    bench.put("k", "b");
    bench.memory.compact(Revision::from_wire(3).unwrap());
    bench.watch("k", |_| ());
    bench.watch("k", |create| create.start_revision = 2);
    bench.check(&["0 @3 created", "1 @3 created", "1 @0 canceled compacted 3"]);
    bench.ask_for_progress();
    bench.check(&[]);
    bench.cancel(1);
    bench.check(&["1 @3 canceled"]);
    bench.ask_for_progress();
    bench.check(&["-1 @3"]);
}

#[test]
fn idle_watchers_that_asked_for_it_are_told_of_their_progress_at_the_end_of_an_interval() {
    let mut bench = Bench::new();
    bench.watch("k", |create| create.progress_notify = true);
    bench.watch("quiet", |create| create.progress_notify = true);
    bench.watch("silent", |_| ());
    bench.receive();
    bench.put("k", "a");
    bench.stream.tick();
    bench.check(&["0 @2 +k=a/2", "1 @2"]);
    bench.stream.tick();
    bench.check(&["0 @2", "1 @2"]);
    bench.check(&[]);
}

#[test]
fn a_full_feed_loses_no_event_and_holds_nothing() {
    let mut bench = Bench::new();
    bench.watch("k", |_| ());
    bench.receive();
    for value in ["a", "b", "c", "d"] {
        bench.put("k", value);
    }
    let queued = bench.stream.subscription.feed.take();
    assert_eq!(queued.0.len(), 0);
    bench.stream.subscription.feed.miss(queued.1.unwrap());
    bench.check(&["0 @5 +k=a/2 +k=b/3 +k=c/4 +k=d/5"]);
    bench.put("k", "e");
    bench.check(&["0 @6 +k=e/6"]);
}

#[test]
fn a_slow_stream_demotes_no_other() {
    let mut bench = Bench::new();
    let mut slow = Stream::new(bench.hub.subscribe(), 1 << 20);
    std::mem::swap(&mut bench.stream, &mut slow);
    bench.watch("k", |_| ());
    std::mem::swap(&mut bench.stream, &mut slow);
    bench.watch("k", |_| ());
    bench.receive();
    for (at, value) in ["a", "b", "c", "d"].into_iter().enumerate() {
        bench.put("k", value);
        bench.check(&[&format!("0 @{0} +k={value}/{0}", at + 2)]);
        assert_eq!(bench.hub.counts().catching_up, 0);
    }
    slow.next_response();
    slow.advance();
    assert!(slow.is_catching_up());
    assert_eq!(bench.hub.counts().catching_up, 1);
    drop(slow);
    let counts = bench.hub.counts();
    assert_eq!((counts.streams, counts.watchers, counts.catching_up), (1, 1, 0));
}

#[test]
fn a_stream_is_not_woken_for_keys_that_it_does_not_watch() {
    let mut bench = Bench::new();
    bench.watch("k", |_| ());
    bench.receive();
    for value in ["a", "b", "c", "d"] {
        bench.put("other", value);
    }
    let (queue, missed) = bench.stream.subscription.feed.take();
    assert_eq!((queue.len(), missed), (0, None));
    bench.ask_for_progress();
    bench.check(&["-1 @5"]);
}

#[test]
fn after_a_snapshot_every_watcher_goes_on_from_its_own_next_revision() {
    let mut bench = Bench::new();
    bench.watch("k", |_| ());
    bench.put("k", "a");
    bench.watch("k", |_| ());
    bench.put("k", "b");
    bench.install("k", "c");
    bench.put("k", "d");
    bench.check(&[
        "0 @1 created",
        "1 @2 created",
        "0 @2 +k=a/2",
        "0 @3 +k=b/3",
        "1 @3 +k=b/3",
        "0 @5 +k=c/4 +k=d/5",
        "1 @5 +k=c/4 +k=d/5",
    ]);
    bench.put("k", "e");
    bench.check(&["0 @6 +k=e/6", "1 @6 +k=e/6"]);
}
