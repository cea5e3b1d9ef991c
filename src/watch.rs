//! Watching: events from the apply loop to many watchers, each exactly once and in order.

use crate::{
    proto::SharedEvent,
    storage::Storage,
    types::Revision,
};

/// All events of one revision, encoded once.
#[derive(Clone, Debug)]
pub struct Batch {
    pub revision: Revision,
    pub events: std::sync::Arc<[SharedEvent]>,
}

/// Where the apply loop publishes and watchers subscribe. Clones share it.
#[derive(Clone)]
pub struct WatchHub {}

impl WatchHub {
    /// `head` is the newest revision in `storage`.
    pub fn new(storage: Storage, head: Revision) -> WatchHub {
        let _ = (storage, head);
        unimplemented!()
    }

    /// Called by the apply loop after the batches have been written, in order of revision. Never
    /// waits: a watcher that is behind is demoted to reading the store.
    pub fn publish(&self, batches: Vec<Batch>) {
        let _ = batches;
        unimplemented!()
    }

    /// Called after a snapshot has replaced the store: every watcher reads on by itself from its own
    /// next revision.
    pub fn reset(&self, head: Revision) {
        let _ = head;
        unimplemented!()
    }
}
