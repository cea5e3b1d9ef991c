//! A history that keeps everything in a list: what watchers are tested on, and compared with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use prost::Message;

use crate::{
    mvcc::{self, Change},
    proto::{
        SharedEvent,
        mvccpb::{Event, KeyValue, event::EventType},
    },
    types::{KeyRange, Revision},
    watch::{BOUNDS, Batch, Bounds, WatchHub, history::History, published::key},
};

/// A key space without a store behind it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Past>>);

#[derive(Clone, Default)]
pub(crate) struct Past {
    /// Everything that ever happened, compacted or not.
    pub(crate) changes: Vec<Change>,
    current: BTreeMap<Bytes, KeyValue>,
    floor: Option<Revision>,
    /// How often somebody asked for a version before.
    pub(crate) looked_up: Arc<AtomicUsize>,
}

impl Memory {
    pub(crate) fn hub(&self) -> WatchHub {
        self.bounded_hub(BOUNDS)
    }

    pub(crate) fn bounded_hub(&self, bounds: Bounds) -> WatchHub {
        let memory = self.clone();
        let open = move || Ok(Box::new(memory.past().clone()) as Box<dyn History>);
        WatchHub::with_history(Box::new(open), self.past().revision(), bounds)
    }

    /// One transaction: puts where there is a value, deletes where there is none. `None` when it
    /// changed nothing.
    pub(crate) fn write(&self, operations: &[(&str, Option<&str>)]) -> Option<Batch> {
        let mut past = self.past();
        let revision = past.revision().next();
        let mut events = Vec::new();
        for (key, value) in operations {
            events.extend(past.apply(revision, Bytes::copy_from_slice(key.as_bytes()), *value));
        }
        if events.is_empty() {
            return None;
        }
        past.changes.push(Change { revision, events: events.clone() });
        Some(Batch { revision, events: events.into_iter().map(SharedEvent::new).collect() })
    }

    pub(crate) fn compact(&self, floor: Revision) {
        self.past().floor = Some(floor);
    }

    pub(crate) fn past(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap()
    }
}

impl Past {
    fn apply(&mut self, revision: Revision, key: Bytes, value: Option<&str>) -> Option<Event> {
        let revision = revision.get();
        let Some(value) = value else {
            self.current.remove(&key)?;
            let kv = Some(KeyValue { key, mod_revision: revision, ..KeyValue::default() });
            return Some(Event { r#type: EventType::Delete.into(), kv, prev_kv: None });
        };
        let old = self.current.get(&key);
        let kv = KeyValue {
            key: key.clone(),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: 0,
        };
        self.current.insert(key, kv.clone());
        Some(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None })
    }

    /// The version before a revision, compacted or not.
    pub(crate) fn version_before(&self, wanted: &[u8], revision: Revision) -> Option<KeyValue> {
        let earlier = self.changes.iter().rev().filter(|change| change.revision < revision);
        let newest =
            earlier.flat_map(|change| &change.events).find(|event| key(event) == wanted)?;
        match newest.r#type() {
            EventType::Put => newest.kv.clone(),
            EventType::Delete => None,
        }
    }
}

impl History for Past {
    fn revision(&self) -> Revision {
        self.changes.last().map_or(Revision::EMPTY_STORE, |change| change.revision)
    }

    fn floor(&self) -> Option<Revision> {
        self.floor
    }

    fn history(
        &self,
        ranges: &[KeyRange],
        from: Revision,
        max_bytes: usize,
    ) -> Result<(Vec<Change>, Revision), mvcc::Error> {
        assert!(self.floor.is_none_or(|floor| floor <= from), "a read below the floor");
        let (mut found, mut bytes) = (Vec::new(), 0);
        for change in self.changes.iter().filter(|change| change.revision >= from) {
            if bytes >= max_bytes {
                return Ok((found, change.revision));
            }
            bytes += change.events.iter().map(Message::encoded_len).sum::<usize>();
            let inside = |event: &&Event| ranges.iter().any(|range| range.contains(key(event)));
            let events: Vec<Event> = change.events.iter().filter(inside).cloned().collect();
            if !events.is_empty() {
                found.push(Change { revision: change.revision, events });
            }
        }
        Ok((found, self.revision().next()))
    }

    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, mvcc::Error> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        let compacted = self.floor.is_some_and(|floor| revision <= floor);
        Ok(if compacted { None } else { self.version_before(key, revision) })
    }
}
