//! Which streams there are and what they watch, so that each revision goes where it is wanted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    types::KeyRange,
    watch::{
        Batch,
        feed::{Feed, FeedBounds, Missed},
        key_index::KeyIndex,
        published::{Published, key},
    },
};

/// Names a stream on this member, never again used.
pub(crate) type StreamId = u64;

/// Ranges taken out at once, each of which takes a few microseconds.
const UNSUBSCRIBED_AT_ONCE: usize = 64;

#[derive(Default)]
pub(crate) struct Registry {
    next_id: StreamId,
    /// In order, so that streams are woken in the same order in every run of a simulation.
    subscribers: BTreeMap<StreamId, Subscriber>,
    interests: KeyIndex<StreamId>,
    /// The part of `interests` that asks for `prev_kv`.
    previous: KeyIndex<StreamId>,
    watchers: usize,
}

struct Subscriber {
    feed: Arc<Feed>,
    ranges: HashMap<KeyRange, Uses>,
}

/// How many watchers of a stream watch a range.
#[derive(Clone, Copy, Default)]
struct Uses {
    all: usize,
    /// Those of them that ask for `prev_kv`.
    previous: usize,
}

impl Registry {
    pub(crate) fn subscribe(&mut self, feed: Arc<Feed>) -> StreamId {
        let id = self.next_id;
        self.next_id += 1;
        self.subscribers.insert(id, Subscriber { feed, ranges: HashMap::new() });
        id
    }

    /// Takes a stream out, or some of its ranges when it has more; whether it is out.
    ///
    /// The apply loop waits meanwhile, and a stream may have thousands.
    pub(crate) fn unsubscribe(&mut self, id: StreamId) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return true };
        let some: Vec<KeyRange> =
            subscriber.ranges.keys().take(UNSUBSCRIBED_AT_ONCE).cloned().collect();
        for range in some {
            self.interests.remove(&range, id);
            self.previous.remove(&range, id);
            self.watchers -= subscriber.ranges.remove(&range).map_or(0, |uses| uses.all);
        }
        let out = subscriber.ranges.is_empty();
        if out {
            self.subscribers.remove(&id);
        }
        out
    }

    /// Adds one watcher of a stream.
    pub(crate) fn add(&mut self, id: StreamId, range: &KeyRange, prev_kv: bool) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let uses = subscriber.ranges.entry(range.clone()).or_default();
        uses.all += 1;
        self.watchers += 1;
        self.interests.add(range, id);
        if prev_kv {
            uses.previous += 1;
            self.previous.add(range, id);
        }
    }

    /// Takes back one [`Registry::add`].
    pub(crate) fn remove(&mut self, id: StreamId, range: &KeyRange, prev_kv: bool) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let Some(uses) = subscriber.ranges.get_mut(range) else { return };
        uses.all -= 1;
        self.watchers -= 1;
        if prev_kv {
            uses.previous -= 1;
        }
        if uses.previous == 0 {
            self.previous.remove(range, id);
        }
        if uses.all == 0 {
            self.interests.remove(range, id);
            subscriber.ranges.remove(range);
        }
    }

    /// Puts a revision into the queues of the streams that watch one of its keys.
    pub(crate) fn publish(&mut self, batch: Batch, bounds: FeedBounds) {
        fail::fail_point!("event-dropped", |_| ());
        let mut receivers = BTreeSet::new();
        for event in batch.events.iter() {
            self.interests.each_match(key(event), |id| {
                receivers.insert(id);
            });
        }
        if receivers.is_empty() {
            return;
        }
        let wants_previous = |key: &[u8]| {
            let mut wanted = false;
            self.previous.each_match(key, |_| wanted = true);
            wanted
        };
        let published = Arc::new(Published::new(batch.revision, batch.events, wants_previous));
        for id in receivers {
            if let Some(subscriber) = self.subscribers.get(&id) {
                subscriber.feed.push(&published, bounds);
            }
        }
    }

    /// Tells all streams that the store has moved on by itself.
    pub(crate) fn miss(&self, missed: Missed) {
        for subscriber in self.subscribers.values() {
            subscriber.feed.miss(missed);
        }
    }

    /// Those of all streams.
    pub(crate) fn feeds(&self) -> Vec<Arc<Feed>> {
        self.subscribers.values().map(|subscriber| Arc::clone(&subscriber.feed)).collect()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.watchers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_streams_and_watchers_that_are_gone() {
        let (mut registry, range) = (Registry::default(), KeyRange::One("k".into()));
        let (one, other) = (Arc::new(Feed::default()), Arc::new(Feed::default()));
        let (one, other) = (registry.subscribe(one), registry.subscribe(other));
        registry.add(one, &range, false);
        registry.add(one, &range, true);
        registry.add(other, &range, true);
        assert_eq!((registry.feeds().len(), registry.watchers()), (2, 3));

        registry.remove(one, &range, true);
        let interested = |index: &KeyIndex<StreamId>| {
            let mut ids = Vec::new();
            index.each_match(b"k", |id| ids.push(id));
            ids
        };
        assert_eq!(interested(&registry.interests), [one, other]);
        assert_eq!(interested(&registry.previous), [other]);

        assert!(registry.unsubscribe(other));
        registry.remove(one, &range, false);
        assert!(interested(&registry.interests).is_empty());
        assert!(interested(&registry.previous).is_empty());
        assert_eq!((registry.feeds().len(), registry.watchers()), (1, 0));
    }

    #[test]
    fn a_stream_with_many_ranges_is_taken_out_in_parts() {
        let mut registry = Registry::default();
        let id = registry.subscribe(Arc::default());
        for start in 0..=UNSUBSCRIBED_AT_ONCE {
            registry.add(id, &KeyRange::From(start.to_string().into()), true);
        }
        assert!(!registry.unsubscribe(id));
        assert_eq!((registry.feeds().len(), registry.watchers()), (1, 1));
        assert!(registry.unsubscribe(id));
        assert_eq!((registry.feeds().len(), registry.watchers()), (0, 0));
    }
}
