//! What etcd promises of watches, each watch of a run against what happened: ordered, unique,
//! atomic, reliable, resumable, bookmarkable, filtered, with the previous value, and with what is
//! new told from what is changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use orrery::{
    proto::{
        etcdserverpb::{WatchCreateRequest, WatchResponse, watch_create_request::FilterType},
        mvccpb::{Event, KeyValue, event::EventType},
    },
    types::KeyRange,
};

use super::{Checked, Verdict, replay::story::Story};
use crate::history::{History, Watch};

pub fn check(history: &History) -> Checked {
    let mut counted = Counted::default();
    let verdict = match Story::of(history) {
        Err(fault) => fault.into(),
        Ok(story) => {
            let told = Told::new(&story);
            let mut verdicts = history.watches.iter().map(|watch| told.check(watch, &mut counted));
            match verdicts.find_map(Result::err) {
                Some(proof) => Verdict::Violated(proof),
                None if counted.events == 0 => Verdict::Unknown("nobody saw an event".to_owned()),
                None => Verdict::Valid,
            }
        }
    };
    let Counted { streams, events, bookmarks, compacted } = counted;
    let note = format!("{streams} streams, {bookmarks} bookmarks, {compacted} cut by compaction");
    Checked { name: "watch".to_owned(), verdict, checked: events, notes: vec![note] }
}

#[derive(Default)]
struct Counted {
    streams: u64,
    events: u64,
    bookmarks: u64,
    compacted: u64,
}

/// Everything that can be told, in order, with what each key was before.
struct Told {
    events: Vec<(Event, Option<KeyValue>)>,
}

/// A stream on its way through what it is to be told.
struct Reading<'a> {
    watch: &'a Watch,
    expected: Vec<&'a (Event, Option<KeyValue>)>,
    /// Of the expected, so many were told.
    told: usize,
    is_created: bool,
    is_canceled: bool,
    /// The revision that the last response left unfinished.
    fragmented: Option<i64>,
    bookmark: i64,
}

impl Told {
    fn new(story: &Story) -> Told {
        let mut map: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        let mut events = Vec::new();
        for revision in 2..=story.last() {
            // Within a revision each key changes once; a deletion may come before others.
            for event in story.events(revision).0 {
                let kv = event.kv.clone().unwrap_or_default();
                let before = match event.r#type == EventType::Put as i32 {
                    true => map.insert(kv.key.clone(), kv),
                    false => map.remove(&kv.key),
                };
                events.push((Event { prev_kv: None, ..event.clone() }, before));
            }
        }
        Told { events }
    }

    fn check(&self, watch: &Watch, counted: &mut Counted) -> Result<(), String> {
        let mut reading = Reading {
            watch,
            expected: Vec::new(),
            told: 0,
            is_created: false,
            is_canceled: false,
            fragmented: None,
            bookmark: 0,
        };
        counted.streams += 1;
        for (at, response) in &watch.received {
            let fault = |what: String| {
                let place = format!("{} at {} from {}", watch.name, watch.member, watch.began);
                format!("{place}: {what}\nat {at}: {response:?}\nrequest: {:?}", watch.request)
            };
            if reading.is_canceled {
                return Err(fault("told after it was canceled".to_owned()));
            }
            if response.created {
                reading.is_created = true;
                reading.expected = self.expected(&watch.request, response);
            } else if !reading.is_created {
                return Err(fault("told before it was created".to_owned()));
            }
            reading.is_canceled = response.canceled;
            if response.canceled && response.compact_revision > 0 {
                counted.compacted += 1;
            }
            if response.events.is_empty() && !response.created && !response.canceled {
                counted.bookmarks += 1;
                reading.pass_bookmark(response).map_err(fault)?;
            }
            counted.events += response.events.len() as u64;
            reading.read(response).map_err(fault)?;
        }
        Ok(())
    }

    /// What a watch is to be told from its beginning on.
    fn expected(
        &self,
        request: &WatchCreateRequest,
        created: &WatchResponse,
    ) -> Vec<&(Event, Option<KeyValue>)> {
        let now = crate::history::revision(created.header.as_ref());
        let from = if request.start_revision > 0 { request.start_revision } else { now + 1 };
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let filtered = |event: &Event| {
            request.filters.iter().any(|filter| {
                let is_put = event.r#type == EventType::Put as i32;
                (*filter == FilterType::Noput as i32 && is_put)
                    || (*filter == FilterType::Nodelete as i32 && !is_put)
            })
        };
        let wanted = self.events.iter().filter(|(event, _)| {
            revision(event) >= from && range.contains(&key(event)) && !filtered(event)
        });
        wanted.collect()
    }
}

impl Reading<'_> {
    fn read(&mut self, response: &WatchResponse) -> Result<(), String> {
        let header = crate::history::revision(response.header.as_ref());
        for event in &response.events {
            let Some((expected, before)) = self.expected.get(self.told) else {
                return Err(format!("an event that never happened: {event:?}"));
            };
            let bare = Event { prev_kv: None, ..Event::clone(event) };
            if bare != *expected {
                return Err(format!("told {bare:?}\ninstead of {expected:?}"));
            }
            if revision(event) > header {
                return Err(format!("an event of {} under revision {header}", revision(event)));
            }
            if revision(event) <= self.bookmark {
                return Err(format!("behind the bookmark {}", self.bookmark));
            }
            self.check_before(event, before.as_ref())?;
            self.told += 1;
        }
        self.check_whole(response)
    }

    fn check_before(&self, event: &Event, before: Option<&KeyValue>) -> Result<(), String> {
        let kv = event.kv.clone().unwrap_or_default();
        let is_put = event.r#type == EventType::Put as i32;
        if is_put && (kv.create_revision == kv.mod_revision) != before.is_none() {
            return Err(format!("the key was {before:?} before"));
        }
        match (self.watch.request.prev_kv, &event.prev_kv) {
            (false, Some(_)) => Err("a previous value that was not asked for".to_owned()),
            // What was there may have been compacted away.
            (_, None) => Ok(()),
            (true, Some(told)) if Some(told) == before => Ok(()),
            (true, Some(told)) => Err(format!("before it was {told:?} instead of {before:?}")),
        }
    }

    /// All of a revision comes at once, or in fragments that follow each other.
    fn check_whole(&mut self, response: &WatchResponse) -> Result<(), String> {
        let first = response.events.first().map(|event| revision(event));
        if let (Some(open), Some(first)) = (self.fragmented, first)
            && open != first
            && self.is_cut(open)
        {
            return Err(format!("the rest of revision {open} is missing"));
        }
        let Some(last) = response.events.last().map(|event| revision(event)) else { return Ok(()) };
        self.fragmented = response.fragment.then_some(last);
        if !response.fragment && self.is_cut(last) {
            return Err(format!("only a part of revision {last}"));
        }
        Ok(())
    }

    /// Whether what comes next is of the same revision.
    fn is_cut(&self, at: i64) -> bool {
        self.expected.get(self.told).is_some_and(|(next, _)| revision(next) == at)
    }

    fn pass_bookmark(&mut self, response: &WatchResponse) -> Result<(), String> {
        let bookmark = crate::history::revision(response.header.as_ref());
        if let Some((next, _)) = self.expected.get(self.told)
            && revision(next) <= bookmark
        {
            return Err(format!("a bookmark before {next:?} was told"));
        }
        self.bookmark = self.bookmark.max(bookmark);
        Ok(())
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn key(event: &Event) -> Bytes {
    event.kv.as_ref().map_or_else(Bytes::new, |kv| kv.key.clone())
}
