//! What happened, by revision, as the watchers of everything saw it.

use std::collections::BTreeMap;

use orrery::proto::mvccpb::Event;

use super::{Fault, RECORD};
use crate::history::{History, Nanos};

/// The events of each revision from 2 on, with the time at which they were first seen.
pub(in crate::check) struct Story {
    revisions: BTreeMap<i64, (Nanos, Vec<Event>)>,
    last: i64,
}

impl Story {
    /// Puts together what the records saw; each alone may have begun anew and overlapped.
    pub(in crate::check) fn of(history: &History) -> Result<Story, Fault> {
        let mut revisions: BTreeMap<i64, (Nanos, Vec<Event>)> = BTreeMap::new();
        let records = history.watches.iter().filter(|watch| watch.name.starts_with(RECORD));
        let mut any = false;
        for watch in records {
            any = true;
            let mut seen: BTreeMap<i64, (Nanos, Vec<Event>)> = BTreeMap::new();
            for (at, response) in &watch.received {
                for event in &response.events {
                    let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                    let entry = seen.entry(revision).or_insert_with(|| (*at, Vec::new()));
                    entry.1.push(Event::clone(event));
                }
            }
            for (revision, (at, events)) in seen {
                match revisions.get_mut(&revision) {
                    // The last revision of a stream that broke may lack some of its events.
                    Some(known) => {
                        known.0 = known.0.min(at);
                        if known.1.len() < events.len() {
                            known.1 = events;
                        }
                    }
                    None => drop(revisions.insert(revision, (at, events))),
                }
            }
        }
        if !any {
            return Err(Fault::Unknown("nobody watched everything".to_owned()));
        }
        let last = revisions.keys().next_back().copied().unwrap_or(1);
        let known = history.ending.hash_revision;
        if known > 0 && last < known {
            let text = format!("the records saw {last} revisions of {known}");
            return Err(Fault::Unknown(text));
        }
        for revision in 2..=last {
            if !revisions.contains_key(&revision) {
                let text = format!("revision {revision} of {last} was told to no record");
                return Err(Fault::Violated(text));
            }
        }
        Ok(Story { revisions, last })
    }

    pub(in crate::check) fn last(&self) -> i64 {
        self.last
    }

    pub(in crate::check) fn events(&self, revision: i64) -> (&[Event], Nanos) {
        let (at, events) = &self.revisions[&revision];
        (events, *at)
    }
}
