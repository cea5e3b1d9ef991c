//! The events of one revision as all watchers share them, with previous versions on demand.

use std::sync::Arc;

use prost::Message;
use tokio::sync::OnceCell;

use crate::{
    mvcc,
    proto::{
        SharedEvent,
        mvccpb::{Event, event::EventType},
    },
    types::Revision,
    watch::history::History,
};

/// All events of one revision.
///
/// Each event exists at most twice, encoded, however many watchers it goes to: as it is, and with
/// the previous version of its key for watchers that asked for `prev_kv`.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) revision: Revision,
    pub(crate) events: Arc<[SharedEvent]>,
    /// Bytes that the events take when encoded.
    pub(crate) size: usize,
    /// Which events somebody wants with the previous version, in order. Those that made their key
    /// are not among them: there is no version before.
    wanted: Vec<usize>,
    /// The events of `wanted`, in the same order.
    previous: OnceCell<Vec<SharedEvent>>,
}

impl Published {
    /// `wants_previous` tells for which keys a watcher has asked for `prev_kv`.
    pub(crate) fn new(
        revision: Revision,
        events: Arc<[SharedEvent]>,
        mut wants_previous: impl FnMut(&[u8]) -> bool,
    ) -> Published {
        let wanted = events
            .iter()
            .enumerate()
            .filter(|(_, event)| !creates(event) && wants_previous(key(event)))
            .map(|(at, _)| at)
            .collect();
        let size = events.iter().map(Message::encoded_len).sum();
        Published { revision, events, size, wanted, previous: OnceCell::new() }
    }

    /// Keys that are still to be looked up before [`Published::event`] can show previous versions.
    pub(crate) fn missing(&self) -> usize {
        if self.previous.initialized() { 0 } else { self.wanted.len() }
    }

    /// The event at a place, sharing its bytes.
    ///
    /// With `previous`, the event shows the version before it, if it has been loaded.
    pub(crate) fn event(&self, at: usize, previous: bool) -> SharedEvent {
        let with_previous = || {
            let wanted = self.wanted.binary_search(&at).ok()?;
            self.previous.get()?.get(wanted)
        };
        let loaded = if previous { with_previous() } else { None };
        loaded.unwrap_or(&self.events[at]).clone()
    }

    /// Looks up the previous versions.
    pub(crate) fn look_up(&self, view: &dyn History) -> Result<Vec<SharedEvent>, mvcc::Error> {
        let look_up = |at: &usize| {
            let event = &self.events[*at];
            let prev_kv = view.before(key(event), self.revision)?;
            Ok(match prev_kv {
                Some(_) => SharedEvent::new(Event { prev_kv, ..Event::clone(event) }),
                None => event.clone(),
            })
        };
        self.wanted.iter().map(look_up).collect()
    }

    /// Looks the previous versions up with `look_up`, unless somebody else did or is at it.
    pub(crate) async fn load_previous<F>(
        &self,
        look_up: impl FnOnce() -> F,
    ) -> Result<(), mvcc::Error>
    where
        F: Future<Output = Result<Vec<SharedEvent>, mvcc::Error>>,
    {
        self.previous.get_or_try_init(look_up).await.map(|_| ())
    }

    /// [`Published::load_previous`] for one who owns it.
    pub(crate) fn with_previous(self, view: &dyn History) -> Result<Published, mvcc::Error> {
        let previous = OnceCell::new_with(Some(self.look_up(view)?));
        Ok(Published { previous, ..self })
    }
}

/// The key that an event is about.
pub(crate) fn key(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

/// There was no such key before the event.
fn creates(event: &Event) -> bool {
    event.r#type() == EventType::Put
        && event.kv.as_ref().is_some_and(|kv| kv.create_revision == kv.mod_revision)
}
