//! The bounded queue between the apply loop and one stream.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::{types::Revision, watch::published::Published};

/// How far a stream may fall behind before it has to read the store instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedBounds {
    pub(crate) batches: usize,
    pub(crate) bytes: usize,
}

/// What the apply loop has for one stream.
///
/// Invariant: every published revision with an event for the stream was taken, is in the queue, or
/// lies within `missed`; and all that is missed comes after all that is in the queue.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arc<Published>>,
    /// Of the events in the queue.
    bytes: usize,
    /// Events in the queue.
    events: usize,
    missed: Option<Missed>,
}

/// Revisions that did not go through the queue: the stream finds them in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) from: Revision,
    pub(crate) through: Revision,
}

impl Feed {
    /// Never waits. A full queue is let go, as the store has all that is in it: a stream that
    /// nobody reads from holds nothing, and one that does catches up.
    pub(crate) fn push(&self, published: &Arc<Published>, bounds: FeedBounds) {
        let mut state = self.state();
        let (revision, size) = (published.revision, published.size);
        let full = state.queue.len() >= bounds.batches || state.bytes + size > bounds.bytes;
        if let Some(missed) = &mut state.missed {
            missed.through = revision;
        } else if state.queue.is_empty() || !full {
            state.bytes += size;
            state.events += published.events.len();
            state.queue.push_back(Arc::clone(published));
        } else {
            let from = state.queue.front().map_or(revision, |first| first.revision);
            let missed = Some(Missed { from, through: revision });
            *state = State { missed, ..State::default() };
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Says that the store has moved on by itself.
    pub(crate) fn miss(&self, missed: Missed) {
        let mut state = self.state();
        let from = state.missed.map_or(missed.from, |earlier| earlier.from);
        state.missed = Some(Missed { from, through: missed.through });
        drop(state);
        self.changed.notify_one();
    }

    /// All that came since the last call: first what was queued, then what was missed.
    pub(crate) fn take(&self) -> (VecDeque<Arc<Published>>, Option<Missed>) {
        let state = mem::take(&mut *self.state());
        (state.queue, state.missed)
    }

    /// Events that wait here. Some of a revision may be for other streams alone.
    pub(crate) fn pending_events(&self) -> usize {
        self.state().events
    }

    /// Returns when there may be something to take.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds a feed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        SharedEvent,
        mvccpb::{Event, KeyValue},
    };

    const BOUNDS: FeedBounds = FeedBounds { batches: 3, bytes: 100 };

    fn revision(raw: i64) -> Revision {
        Revision::from_wire(raw).unwrap()
    }

    fn published(raw: i64, value_bytes: usize) -> Arc<Published> {
        let kv = KeyValue { value: vec![b'v'; value_bytes].into(), ..KeyValue::default() };
        let event = SharedEvent::new(Event { kv: Some(kv), ..Event::default() });
        Arc::new(Published::new(revision(raw), Arc::new([event]), |_| false))
    }

    /// Pushes `(revision, bytes)` pairs and takes.
    #[track_caller]
    fn check(pushes: &[(i64, usize)], queued: &[i64], missed: Option<(i64, i64)>) {
        let feed = Feed::default();
        for (revision, bytes) in pushes {
            feed.push(&published(*revision, *bytes), BOUNDS);
        }
        let (queue, missed_now) = feed.take();
        let queue: Vec<i64> = queue.iter().map(|published| published.revision.get()).collect();
        assert_eq!(queue, queued);
        assert_eq!(missed_now.map(|m| (m.from.get(), m.through.get())), missed);
    }

    #[test]
    fn a_full_queue_is_let_go_and_nothing_is_forgotten() {
        check(&[], &[], None);
        check(&[(5, 1), (7, 1), (8, 1)], &[5, 7, 8], None);
        check(&[(5, 1), (7, 1), (8, 1), (9, 1)], &[], Some((5, 9)));
        check(&[(5, 1), (7, 1), (8, 1), (9, 1), (12, 1)], &[], Some((5, 12)));
        check(&[(5, 40), (6, 90)], &[], Some((5, 6)));
        check(&[(5, 1000)], &[5], None); // one batch always fits, or it would never be sent
        check(&[(5, 1000), (6, 1)], &[], Some((5, 6)));
    }

    #[test]
    fn what_is_missed_comes_after_what_is_queued() {
        let feed = Feed::default();
        feed.push(&published(5, 1), BOUNDS);
        feed.miss(Missed { from: revision(6), through: revision(20) });
        feed.push(&published(21, 1), BOUNDS);
        feed.miss(Missed { from: revision(22), through: revision(30) });
        let (queue, missed) = feed.take();
        assert_eq!(queue.len(), 1);
        assert_eq!(missed, Some(Missed { from: revision(6), through: revision(30) }));
        feed.push(&published(31, 1), BOUNDS);
        assert_eq!(feed.pending_events(), 1);
        assert_eq!(feed.take().0.len(), 1, "taking makes room");
        assert_eq!(feed.pending_events(), 0);
    }
}
