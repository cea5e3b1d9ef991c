//! Random histories, watchers and readers: every watcher gets what a list of all events says, each
//! exactly once and in order, and is never told that it has more than it was sent.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::{
    proto::{etcdserverpb::WatchProgressRequest, mvccpb::Event},
    watch::{Batch, Bounds, WatchHub, feed::FeedBounds, history::History, memory::Memory},
};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const STREAMS: usize = 2;

#[derive(Clone, Debug)]
enum Action {
    /// A transaction on these keys (delete or put), applied but not published yet.
    Write(Vec<(usize, bool)>),
    /// All that was applied is published.
    Publish,
    /// What was applied came by a snapshot.
    Install,
    /// Compacts this far of the way from the old floor to the newest revision, in eighths.
    Compact(i64),
    Create(usize, Wish),
    Cancel(usize, i64),
    AskForProgress(usize),
    Tick(usize),
    /// The client takes this many responses, as far as there are any.
    Receive(usize, usize),
    /// A read of the history begins, or the one that is under way ends.
    Read(usize),
}

#[derive(Clone, Debug)]
struct Wish {
    range: (usize, usize),
    start: Start,
    id: i64,
    filter: Option<i32>,
    prev_kv: bool,
    progress_notify: bool,
    fragment: bool,
}

#[derive(Clone, Debug)]
enum Start {
    Now,
    /// This many revisions from the newest: past, present or future.
    At(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let stream = 0..STREAMS;
    let write = || prop::collection::vec((0..KEYS.len(), any::<bool>()), 1..4);
    prop_oneof![
        10 => write().prop_map(Action::Write),
        10 => Just(Action::Publish),
        2 => Just(Action::Install),
        1 => (0i64..9).prop_map(Action::Compact),
        5 => (stream.clone(), wish()).prop_map(|(at, wish)| Action::Create(at, wish)),
        1 => (stream.clone(), 0i64..5).prop_map(|(at, id)| Action::Cancel(at, id)),
        2 => stream.clone().prop_map(Action::AskForProgress),
        2 => stream.clone().prop_map(Action::Tick),
        12 => (stream.clone(), 1usize..8).prop_map(|(at, times)| Action::Receive(at, times)),
        8 => stream.prop_map(Action::Read),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let start = prop_oneof![Just(Start::Now), (-8i64..4).prop_map(Start::At)];
    let filter = prop_oneof![3 => Just(None), 1 => (0i32..2).prop_map(Some)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    ((0..KEYS.len(), 0..=KEYS.len()), start, 0i64..4, filter, flags).prop_map(
        |(range, start, id, filter, (prev_kv, progress_notify, fragment))| Wish {
            range,
            start,
            id,
            filter,
            prev_kv,
            progress_notify,
            fragment,
        },
    )
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1usize..4, 1usize..200, 1usize..200, 1usize..4).prop_map(
        |(batches, bytes, read_bytes, response_revisions)| Bounds {
            feed: FeedBounds { batches, bytes },
            read_bytes,
            response_revisions,
            reads: 1,
        },
    )
}

/// The server's side, with what is under way on it.
struct Server {
    memory: Memory,
    hub: WatchHub,
    unpublished: Vec<Batch>,
    streams: Vec<Line>,
}

/// A stream with its two ends.
struct Line {
    stream: Stream,
    client: Client,
    /// A read of the history that is not done.
    under_way: Option<(Read, Chunk)>,
}

/// What a client was promised and what it got.
#[derive(Default)]
struct Client {
    wishes: VecDeque<(WatchCreateRequest, Wish)>,
    watchers: HashMap<i64, Promise>,
    /// Canceled by a compaction, and not yet by the client.
    compacted: HashSet<i64>,
}

struct Promise {
    wish: Wish,
    range: KeyRange,
    start: Revision,
    /// How many of the events it should get it has got.
    received: usize,
    /// All below has been sent, by what the client was told.
    complete_below: Revision,
    /// A fragment has come and the rest is due.
    due: bool,
}

impl Server {
    fn act(&mut self, action: Action) {
        match action {
            Action::Write(keys) => {
                let mut operations = BTreeMap::new();
                for (key, put) in keys {
                    operations.insert(KEYS[key], put.then_some("value"));
                }
                let operations: Vec<_> = operations.into_iter().collect();
                self.unpublished.extend(self.memory.write(&operations));
            }
            Action::Publish => self.hub.publish(mem::take(&mut self.unpublished)),
            Action::Install => {
                self.unpublished.clear();
                self.hub.reset(self.memory.past().revision());
            }
            Action::Compact(eighths) => {
                let (newest, floor) = {
                    let past = self.memory.past();
                    (past.revision().get(), past.floor().map_or(1, Revision::get))
                };
                self.memory.compact(revision(floor + (newest - floor) * eighths.min(8) / 8));
            }
            Action::Create(at, wish) => self.create(at, wish),
            Action::Cancel(at, watch_id) => {
                let cancel = crate::proto::etcdserverpb::WatchCancelRequest { watch_id };
                self.request(at, RequestUnion::CancelRequest(cancel));
            }
            Action::AskForProgress(at) => self.ask_for_progress(at),
            Action::Tick(at) => self.streams[at].stream.tick(),
            Action::Receive(at, times) => (0..times).for_each(|_| {
                self.receive(at);
            }),
            Action::Read(at) => self.read(at),
        }
    }

    fn request(&mut self, at: usize, request: RequestUnion) {
        self.streams[at].stream.request(WatchRequest { request_union: Some(request) });
    }

    fn ask_for_progress(&mut self, at: usize) {
        self.request(at, RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn create(&mut self, at: usize, wish: Wish) {
        let newest = self.memory.past().revision().get();
        let (first, last) = wish.range;
        let range_end = match last.cmp(&first) {
            std::cmp::Ordering::Less => "",
            std::cmp::Ordering::Equal => "\0",
            std::cmp::Ordering::Greater => KEYS.get(last).copied().unwrap_or("e"),
        };
        let create = WatchCreateRequest {
            key: KEYS[first].into(),
            range_end: range_end.into(),
            start_revision: match wish.start {
                Start::Now => 0,
                Start::At(distance) => (newest + distance).max(1),
            },
            progress_notify: wish.progress_notify,
            filters: wish.filter.into_iter().collect(),
            prev_kv: wish.prev_kv,
            watch_id: wish.id,
            fragment: wish.fragment,
        };
        self.streams[at].client.wishes.push_back((create.clone(), wish));
        self.request(at, RequestUnion::CreateRequest(create));
    }

    fn read(&mut self, at: usize) {
        let Line { stream, under_way, .. } = &mut self.streams[at];
        match under_way.take() {
            Some((read, chunk)) => stream.read(&read, chunk),
            None => {
                *under_way = stream.next_read().map(|read| {
                    let chunk = read.run(&*self.memory.past()).unwrap();
                    (read, chunk)
                });
            }
        }
    }

    /// The client takes one response, if there is one.
    fn receive(&mut self, at: usize) -> Option<WatchResponse> {
        let Line { stream, client, .. } = &mut self.streams[at];
        while let Some(published) = stream.advance() {
            let previous = published.look_up(&*self.memory.past());
            let load = published.load_previous(|| std::future::ready(previous));
            futures::executor::block_on(load).unwrap();
        }
        let response = stream.next_response()?;
        client.take(&self.memory, &response);
        Some(response)
    }

    /// Everything is published, read and received.
    fn settle(&mut self) {
        self.act(Action::Publish);
        for at in 0..STREAMS {
            let mut rounds = 0;
            loop {
                let received = self.receive(at).is_some();
                if !received && !self.streams[at].stream.is_catching_up() {
                    break;
                }
                self.read(at);
                rounds += 1;
                assert!(rounds < 10_000, "it comes to an end");
            }
            self.streams[at].client.check_complete(&self.memory);
            self.ask_for_progress(at);
            let answer = self.receive(at);
            let head = self.memory.past().revision();
            let client = &self.streams[at].client;
            let all_began = client.watchers.values().all(|promise| promise.may_hear_of(head));
            if all_began && !client.watchers.is_empty() && client.compacted.is_empty() {
                let answer = answer.expect("an answer to the request for progress");
                assert_eq!((answer.watch_id, header(&answer)), (NO_WATCHER, head));
            } else {
                assert_eq!(answer, None);
            }
        }
    }
}

impl Client {
    fn take(&mut self, memory: &Memory, response: &WatchResponse) {
        let header_revision = response.header.as_ref().unwrap().revision;
        assert!(header_revision <= memory.past().revision().get());
        if response.created {
            return self.take_created(response);
        }
        if response.canceled {
            if self.compacted.remove(&response.watch_id) {
                return assert_eq!(response.compact_revision, 0, "it is said once");
            }
            let promise = self.watchers.remove(&response.watch_id).expect("it was created");
            if let Some(floor) = Revision::from_wire(response.compact_revision) {
                assert_eq!(header_revision, 0);
                assert!(Some(floor) <= memory.past().floor(), "there was such a compaction");
                assert!(floor > promise.complete_below, "{floor} has what it waits for");
                self.compacted.insert(response.watch_id);
            }
            return;
        }
        if response.events.is_empty() {
            for (id, promise) in &mut self.watchers {
                if response.watch_id == NO_WATCHER || response.watch_id == *id {
                    promise.take_progress(memory, header(response));
                }
            }
            return;
        }
        let promise = self.watchers.get_mut(&response.watch_id).expect("it was created");
        promise.take_events(memory, response);
    }

    fn take_created(&mut self, response: &WatchResponse) {
        let (create, wish) = self.wishes.pop_front().expect("it was asked for");
        if response.canceled {
            assert_eq!(response.watch_id, NO_WATCHER);
            assert_eq!(response.cancel_reason, refusal::DUPLICATE_ID);
            return;
        }
        let start = match Revision::from_wire(create.start_revision) {
            Some(start) => start,
            None => header(response).next(),
        };
        let range = KeyRange::from_wire(create.key, create.range_end);
        let (received, due) = (0, false);
        let promise = Promise { wish, range, start, received, complete_below: start, due };
        assert!(create.watch_id == 0 || create.watch_id == response.watch_id);
        assert!(self.watchers.insert(response.watch_id, promise).is_none(), "the id was free");
    }

    fn check_complete(&self, memory: &Memory) {
        for (id, promise) in &self.watchers {
            assert!(!promise.due, "the rest of a fragment did not come");
            assert_eq!(promise.received, promise.events(memory).len(), "all events of {id}");
        }
    }
}

impl Promise {
    /// All events that the watcher should ever get.
    fn events(&self, memory: &Memory) -> Vec<(Revision, Event)> {
        let past = memory.past();
        let changes = past.changes.iter().filter(|change| change.revision >= self.start);
        let events = changes
            .flat_map(|change| change.events.iter().map(|event| (change.revision, event.clone())));
        events
            .filter(|(_, event)| self.range.contains(key(event)))
            .filter(|(_, event)| self.wish.filter != Some(event.r#type))
            .collect()
    }

    fn take_events(&mut self, memory: &Memory, response: &WatchResponse) {
        let expected = self.events(memory);
        let upto = self.received + response.events.len();
        assert!(upto <= expected.len(), "no more events than there are: {response:?}");
        for ((at, expected), event) in expected[self.received..upto].iter().zip(&response.events) {
            assert_eq!((&event.kv, event.r#type), (&expected.kv, expected.r#type));
            self.check_previous(memory, *at, event);
        }
        let last = expected[upto - 1].0;
        assert!(last <= header(response));
        assert!(!response.fragment || self.wish.fragment, "fragments were not asked for");
        let whole = expected.get(upto).is_none_or(|(next, _)| *next > last);
        assert!(whole || response.fragment, "a revision is in one response: {response:?}");
        self.due = response.fragment;
        self.received = upto;
        self.complete_below = if response.fragment { last } else { last.next() };
    }

    fn check_previous(&self, memory: &Memory, at: Revision, event: &Event) {
        let past = memory.past();
        let previous = past.version_before(key(event), at);
        match &event.prev_kv {
            Some(_) => {
                assert!(self.wish.prev_kv);
                assert_eq!(event.prev_kv, previous);
            }
            None => {
                let compacted = past.floor().is_some_and(|floor| at <= floor);
                assert!(!self.wish.prev_kv || previous.is_none() || compacted);
            }
        }
    }

    /// Progress below the start that was asked for says nothing.
    fn may_hear_of(&self, revision: Revision) -> bool {
        matches!(self.wish.start, Start::Now) || self.start <= revision
    }

    fn take_progress(&mut self, memory: &Memory, upto: Revision) {
        assert!(!self.due, "progress between fragments");
        assert!(self.may_hear_of(upto), "progress below the start");
        let due = self.events(memory).iter().filter(|(revision, _)| *revision <= upto).count();
        assert!(due <= self.received, "told of {upto}, {} of {due} events sent", self.received);
        self.complete_below = self.complete_below.max(upto.next());
    }
}

fn header(response: &WatchResponse) -> Revision {
    revision(response.header.as_ref().unwrap().revision)
}

fn revision(raw: i64) -> Revision {
    Revision::from_wire(raw).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_gets_each_event_once_and_in_order(
        bounds in bounds(),
        max_response_bytes in 1usize..200,
        actions in prop::collection::vec(action(), 0..150),
    ) {
        let memory = Memory::default();
        let hub = memory.bounded_hub(bounds);
        let line = |_| Line {
            stream: Stream::new(hub.subscribe(), max_response_bytes),
            client: Client::default(),
            under_way: None,
        };
        let streams = (0..STREAMS).map(line).collect();
        let mut server = Server { memory, hub: hub.clone(), unpublished: Vec::new(), streams };
        for action in actions {
            server.act(action);
        }
        server.settle();
        let counts = hub.counts();
        let watchers: usize = server.streams.iter().map(|line| line.client.watchers.len()).sum();
        prop_assert_eq!((counts.watchers, counts.catching_up), (watchers, 0));
        drop(server);
        prop_assert_eq!(hub.counts(), crate::watch::Counts::default());
    }
}
