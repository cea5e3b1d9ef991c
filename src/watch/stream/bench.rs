//! A stream that tests feed by hand, and responses as lines that a person can read.

use super::*;
use crate::{
    proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest},
    watch::{Bounds, WatchHub, feed::FeedBounds, memory::Memory},
};

pub(super) const BOUNDS: Bounds = Bounds {
    feed: FeedBounds { batches: 2, bytes: 1 << 20 },
    read_bytes: 1 << 20,
    response_revisions: 1000,
    reads: 1,
};

/// A stream over a key space of its own. Responses are written as one line each: `watch_id
/// @revision what`, with events as `+key=value/mod` and `-key/mod`, and what was before an event as
/// `(was value)`.
pub(super) struct Bench {
    pub(super) memory: Memory,
    pub(super) hub: WatchHub,
    pub(super) stream: Stream,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::bounded(BOUNDS)
    }

    pub(super) fn bounded(bounds: Bounds) -> Bench {
        let memory = Memory::default();
        let hub = memory.bounded_hub(bounds);
        let stream = Stream::new(hub.subscribe(), 1 << 20);
        Bench { memory, hub, stream }
    }

    pub(super) fn put(&self, key: &str, value: &str) {
        self.write(&[(key, Some(value))]);
    }

    pub(super) fn delete(&self, key: &str) {
        self.write(&[(key, None)]);
    }

    pub(super) fn write(&self, operations: &[(&str, Option<&str>)]) {
        self.hub.publish(self.memory.write(operations).into_iter().collect());
    }

    /// As if a snapshot had brought a write.
    pub(super) fn install(&self, key: &str, value: &str) {
        let batch = self.memory.write(&[(key, Some(value))]).unwrap();
        self.hub.reset(batch.revision);
    }

    pub(super) fn watch(&mut self, key: &str, change: impl FnOnce(&mut WatchCreateRequest)) {
        let mut create =
            WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() };
        change(&mut create);
        self.request(RequestUnion::CreateRequest(create));
    }

    pub(super) fn cancel(&mut self, watch_id: i64) {
        self.request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(super) fn ask_for_progress(&mut self) {
        self.request(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn request(&mut self, request: RequestUnion) {
        self.stream.request(WatchRequest { request_union: Some(request) });
    }

    /// Delivers what has been published, without reading the history.
    pub(super) fn advance(&mut self) -> Vec<WatchResponse> {
        let mut responses = Vec::new();
        loop {
            responses.extend(std::iter::from_fn(|| self.stream.next_response()));
            match self.stream.advance() {
                Some(published) => {
                    let previous = published.look_up(&*self.memory.past());
                    let load = published.load_previous(|| std::future::ready(previous));
                    futures::executor::block_on(load).unwrap();
                }
                None if self.stream.has_responses() => (),
                None => return responses,
            }
        }
    }

    /// Everything that comes until nothing more does.
    pub(super) fn receive(&mut self) -> Vec<WatchResponse> {
        let mut responses = self.advance();
        while let Some(read) = self.stream.next_read() {
            let chunk = read.run(&*self.memory.past()).unwrap();
            self.stream.read(&read, chunk);
            responses.extend(self.advance());
        }
        responses
    }

    #[track_caller]
    pub(super) fn check(&mut self, expected: &[&str]) {
        let responses: Vec<String> = self.receive().iter().map(line).collect();
        assert_eq!(responses, expected);
    }
}

pub(super) fn line(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().unwrap().revision;
    let mut line = format!("{} @{revision}", response.watch_id);
    let flags = [
        (response.created, "created"),
        (response.canceled, "canceled"),
        (response.fragment, "fragment"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        line += &format!(" {flag}");
    }
    if response.compact_revision != 0 {
        line += &format!(" compacted {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        line += &format!(": {}", response.cancel_reason);
    }
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        let (key, value) = (text(&kv.key), text(&kv.value));
        line += &match kv.version {
            0 => format!(" -{key}/{}", kv.mod_revision),
            _ => format!(" +{key}={value}/{}", kv.mod_revision),
        };
        if let Some(before) = &event.prev_kv {
            line += &format!("(was {})", text(&before.value));
        }
    }
    line
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
