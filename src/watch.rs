//! Watching: events from the apply loop to many watchers, each exactly once and in order.
//!
//! What the apply loop feeds is a *stream*, not a watcher: a client may have thousands of watchers
//! on one stream, and a queue for each would cost the apply loop and the memory thousands of times
//! over.
//! - [`WatchHub`] knows which keys each stream watches, and puts the events of a revision into the
//!   bounded queue of just those streams that watch one of its keys. Publishing costs a look-up per
//!   event and a push per stream that wants it; the other streams are not even woken. All streams
//!   share the same events ([`published`]).
//! - A stream that is too slow loses its queue, not its events: it is told from where on it has to
//!   read the store ([`feed`]). Nobody waits for it, and it costs no more than an empty queue.
//! - [`stream`] is the protocol as a state machine without clocks, tasks or sockets: it matches
//!   events with its watchers, and lets those that are behind read the history in bounded passes.
//! - [`session`] is what drives a stream: it waits, and reads the store.
//!
//! Why nobody misses an event: a watcher's keys are registered under the same lock as revisions are
//! published, so that each revision is either below the head that the watcher is given, and then in
//! the store, or comes through the queue.

mod feed;
mod history;
mod key_index;
#[cfg(test)]
pub(crate) mod memory;
mod published;
mod registry;
mod session;
mod stream;
mod watcher;

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

pub use session::Session;

use crate::{
    mvcc::{self, View},
    proto::SharedEvent,
    storage::Storage,
    types::{KeyRange, Revision},
    watch::{
        feed::{Feed, FeedBounds, Missed},
        history::History,
        registry::{Registry, StreamId},
        stream::Stream,
    },
};

/// All events of one revision, encoded once.
#[derive(Clone, Debug)]
pub struct Batch {
    pub revision: Revision,
    pub events: Arc<[SharedEvent]>,
}

/// How much is watched, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are behind and read the store.
    pub catching_up: usize,
    /// Events in the queues of streams, those of other keys of the same revisions included.
    pub pending_events: usize,
}

/// Where the apply loop publishes and watchers subscribe. Clones share it.
#[derive(Clone)]
pub struct WatchHub {
    shared: Arc<Shared>,
}

struct Shared {
    open: OpenHistory,
    bounds: Bounds,
    /// The newest published revision. Changes under the lock of `registry`, after the queues did.
    head: AtomicI64,
    registry: Mutex<Registry>,
    catching_up: AtomicUsize,
    turns: Arc<Semaphore>,
}

/// Opens the history as it stands now.
type OpenHistory = Box<dyn Fn() -> Result<Box<dyn History>, mvcc::Error> + Send + Sync>;

/// What keeps a slow watcher from costing others anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    feed: FeedBounds,
    /// Bytes of stored versions that one read of the history may look at.
    read_bytes: usize,
    /// Revisions in one response to a watcher that catches up.
    response_revisions: usize,
    /// Reads of the history at the same time, over all streams.
    reads: usize,
}

/// - 4,096 batches are 0.2 s of 20,000 writes per second: a stream whose task was held up that long
///   need not read the store. 4 MiB bound what one stalled stream keeps alive of large values.
/// - 512 KiB are read and sorted out in a few milliseconds, which is how long the live watchers of
///   the same stream wait.
/// - 1,000 revisions are etcd's number.
/// - 4 reads keep a disk busy. After a snapshot all streams want to read at once; the rest of the
///   server goes on meanwhile.
const BOUNDS: Bounds = Bounds {
    feed: FeedBounds { batches: 4096, bytes: 4 << 20 },
    read_bytes: 512 << 10,
    response_revisions: 1000,
    reads: 4,
};

impl WatchHub {
    /// `head` is the newest revision in `storage`.
    pub fn new(storage: Storage, head: Revision) -> WatchHub {
        let open = move || Ok(Box::new(View::new(storage.snapshot())?) as Box<dyn History>);
        WatchHub::with_history(Box::new(open), head, BOUNDS)
    }

    fn with_history(open: OpenHistory, head: Revision, bounds: Bounds) -> WatchHub {
        let shared = Shared {
            open,
            bounds,
            head: AtomicI64::new(head.get()),
            registry: Mutex::default(),
            catching_up: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(bounds.reads)),
        };
        WatchHub { shared: Arc::new(shared) }
    }

    /// Called by the apply loop after the batches have been written, in order of revision. Never
    /// waits: a stream that is behind is demoted to reading the store.
    pub fn publish(&self, batches: Vec<Batch>) {
        let mut registry = self.registry();
        for batch in batches {
            let revision = batch.revision;
            registry.publish(batch, self.shared.bounds.feed);
            self.shared.head.store(revision.get(), Ordering::Release);
        }
    }

    /// Called after a snapshot has replaced the store: every watcher reads on by itself from its
    /// own next revision.
    pub fn reset(&self, head: Revision) {
        let registry = self.registry();
        registry.miss(Missed { from: self.head().next(), through: head });
        self.shared.head.store(head.get(), Ordering::Release);
    }

    /// The newest revision that watchers are told of.
    pub fn head(&self) -> Revision {
        Revision::from_wire(self.shared.head.load(Ordering::Acquire))
            .expect("only revisions are stored")
    }

    /// Opens a stream. A client that takes fragments gets responses below `max_response_bytes`.
    pub fn open(&self, max_response_bytes: usize) -> Session {
        Session::new(self.clone(), Stream::new(self.subscribe(), max_response_bytes))
    }

    pub fn counts(&self) -> Counts {
        let (watchers, feeds) = {
            let registry = self.registry();
            (registry.watchers(), registry.feeds())
        };
        Counts {
            streams: feeds.len(),
            watchers,
            catching_up: self.shared.catching_up.load(Ordering::Relaxed),
            // The apply loop has the registry again meanwhile.
            pending_events: feeds.iter().map(|feed| feed.pending_events()).sum(),
        }
    }

    fn subscribe(&self) -> Subscription {
        let feed = Arc::new(Feed::default());
        let id = self.registry().subscribe(Arc::clone(&feed));
        Subscription { hub: self.clone(), id, feed, catching_up: 0 }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.shared.registry.lock().expect("nothing panics while it holds the registry")
    }
}

/// One stream's place in the hub. Dropping it gives the place up.
struct Subscription {
    hub: WatchHub,
    id: StreamId,
    feed: Arc<Feed>,
    /// What this stream has added to the hub's number.
    catching_up: usize,
}

impl Subscription {
    /// Registers a watcher. Every later revision than the one returned that has an event in the
    /// range comes through the feed; every other is in the store.
    fn add(&self, range: &KeyRange, prev_kv: bool) -> Revision {
        let mut registry = self.hub.registry();
        registry.add(self.id, range, prev_kv);
        self.hub.head()
    }

    fn remove(&self, range: &KeyRange, prev_kv: bool) {
        self.hub.registry().remove(self.id, range, prev_kv);
    }

    fn count_catching_up(&mut self, watchers: usize) {
        let total = &self.hub.shared.catching_up;
        total.fetch_add(watchers, Ordering::Relaxed);
        total.fetch_sub(self.catching_up, Ordering::Relaxed);
        self.catching_up = watchers;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.count_catching_up(0);
        while !self.hub.registry().unsubscribe(self.id) {}
    }
}
