//! What clients saw, in the order in which they saw it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use orrery::{
    node::Freshness,
    proto::{
        command::command::Operation,
        etcdserverpb::{RangeRequest, RangeResponse},
        mvccpb::{Event, event::EventType},
    },
    state_machine::Reply,
};

/// A point in a run: simulated time, and the place in the order of all that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub order: u64,
    pub ms: u64,
}

#[derive(Debug)]
pub(crate) struct Write {
    pub operation: Operation,
    pub began: Moment,
    pub ended: Moment,
    pub fate: Fate,
}

#[derive(Debug)]
pub(crate) enum Fate {
    /// Acknowledged, with the revision after it.
    Done(Reply, i64),
    /// Certainly without effect.
    Refused,
    /// Nobody can say.
    Unknown,
}

/// A read that was answered.
#[derive(Debug)]
pub(crate) struct Read {
    pub request: RangeRequest,
    pub freshness: Freshness,
    /// The member and how often it had started.
    pub member: (usize, u64),
    pub began: Moment,
    pub ended: Moment,
    pub response: RangeResponse,
    pub revision: i64,
}

/// One watcher through all its streams.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub name: &'static str,
    pub key: &'static str,
    pub range_end: &'static str,
    pub events: Vec<(Moment, Event)>,
    /// Revisions it was told that it can't have: from the first, up to before the second.
    pub gaps: Vec<(i64, i64)>,
    /// The next revision that it waits for.
    pub next: i64,
    pub resumed: u64,
}

impl Watcher {
    /// Leases whose end it has seen.
    pub(crate) fn expiries(&self) -> usize {
        let ended = |event: &Event| {
            let key = &event.kv.as_ref().expect("events have a key").key;
            event.r#type == EventType::Delete as i32 && key.starts_with(b"lease/")
        };
        self.events.iter().filter(|(_, event)| ended(event)).count()
    }
}

/// One lease, from the side of the client that keeps it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    pub ttl_ms: u64,
    /// When each acknowledged grant or renewal was asked for.
    pub renewed: Vec<u64>,
    /// When the newest attempt to renew it was over, whatever came of it.
    pub tried: u64,
    /// When somebody was first told that it is gone.
    pub gone: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Book {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub watchers: Vec<Watcher>,
    pub leases: BTreeMap<i64, Lease>,
    /// Everything as text, to compare two runs and to look at one.
    pub trace: Vec<String>,
}

/// The book of a run. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct History {
    book: Arc<Mutex<Book>>,
    order: Arc<AtomicU64>,
    ms: Arc<AtomicU64>,
}

impl History {
    pub(crate) fn now(&self) -> Moment {
        Moment {
            order: self.order.fetch_add(1, Ordering::Relaxed),
            ms: self.ms.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ms(&self, ms: u64) {
        self.ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        let line = format!("{:>6} {}", self.ms(), text());
        self.book().trace.push(line);
    }
}
