//! One watcher: what it was asked to deliver, and how far it has come.

use std::mem;

use prost::{Message, encoding};

use crate::{
    proto::{
        SharedEvent,
        etcdserverpb::{
            ResponseHeader, WatchCreateRequest, WatchResponse, watch_create_request::FilterType,
        },
        mvccpb::{Event, event::EventType},
    },
    types::{KeyRange, Revision},
    watch::published::Published,
};

/// What a request that could not be served is answered with, and answers about many watchers at
/// once.
pub(crate) const NO_WATCHER: i64 = -1;

#[derive(Debug)]
pub(crate) struct Watcher {
    /// Tells watchers of one stream apart that had the same id, one after the other.
    pub(crate) serial: u64,
    pub(crate) range: KeyRange,
    /// As asked; `None` for what comes after the creation. Nothing may be said about revisions
    /// below.
    start: Option<Revision>,
    /// What comes after this revision comes through the feed; before, it was not fed.
    pub(crate) registered: Revision,
    /// The watcher has been sent all that is below, and nothing that is not.
    ///
    /// For a live watcher this is where its being live began: from there on it gets what comes.
    pub(crate) next: Revision,
    pub(crate) prev_kv: bool,
    fragment: bool,
    progress: Progress,
    without_puts: bool,
    without_deletes: bool,
}

/// Whether a watcher is told how far it has come when nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    OnRequest,
    /// At the end of each interval that it was idle in.
    WhenIdle {
        idle: bool,
    },
}

impl Watcher {
    /// `head` is the newest revision when the watcher was registered.
    pub(crate) fn new(
        request: &WatchCreateRequest,
        range: KeyRange,
        head: Revision,
        serial: u64,
    ) -> Watcher {
        let start = Revision::from_wire(request.start_revision);
        Watcher {
            serial,
            range,
            start,
            registered: head,
            next: start.unwrap_or(head.next()),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: match request.progress_notify {
                true => Progress::WhenIdle { idle: true },
                false => Progress::OnRequest,
            },
            without_puts: request.filters().any(|filter| filter == FilterType::Noput),
            without_deletes: request.filters().any(|filter| filter == FilterType::Nodelete),
        }
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        match event.r#type() {
            EventType::Put => !self.without_puts,
            EventType::Delete => !self.without_deletes,
        }
    }

    /// The events at these places, as this watcher is to see them; it was not idle then.
    pub(crate) fn take(&mut self, published: &Published, places: Vec<usize>) -> Vec<SharedEvent> {
        if let Progress::WhenIdle { idle } = &mut self.progress {
            *idle = false;
        }
        places.into_iter().map(|place| published.event(place, self.prev_kv)).collect()
    }

    /// Begins another interval; whether the watcher was idle in the one before and wants to know.
    pub(crate) fn ends_interval_idle(&mut self) -> bool {
        match &mut self.progress {
            Progress::OnRequest => false,
            Progress::WhenIdle { idle } => mem::replace(idle, true),
        }
    }

    /// A watcher that was to begin at a later revision can't be told that it has seen this one.
    pub(crate) fn may_hear_of(&self, revision: Revision) -> bool {
        self.start.is_none_or(|start| start <= revision)
    }

    /// The responses that carry these events: one, or several when the client takes fragments of at
    /// most `max_bytes`.
    pub(crate) fn responses(
        &self,
        id: i64,
        revision: Revision,
        events: Vec<SharedEvent>,
        max_bytes: usize,
    ) -> Vec<WatchResponse> {
        let whole = WatchResponse { events, ..response(id, Some(revision)) };
        if self.fragment { fragments(whole, max_bytes) } else { vec![whole] }
    }
}

/// A response without events. Without a revision the header says 0.
pub(crate) fn response(id: i64, revision: Option<Revision>) -> WatchResponse {
    let revision = revision.map_or(0, Revision::get);
    WatchResponse {
        header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
        watch_id: id,
        ..WatchResponse::default()
    }
}

/// Splits a response that is not below `max_bytes`; no part has less than one event.
fn fragments(whole: WatchResponse, max_bytes: usize) -> Vec<WatchResponse> {
    if whole.encoded_len() < max_bytes || whole.events.len() < 2 {
        return vec![whole];
    }
    let empty = WatchResponse { events: Vec::new(), fragment: true, ..whole };
    let empty_size = empty.encoded_len();
    let (mut parts, mut part, mut size) = (Vec::new(), empty.clone(), empty_size);
    for event in whole.events {
        let added = field_size(event.encoded_len());
        if !part.events.is_empty() && size + added >= max_bytes {
            parts.push(mem::replace(&mut part, empty.clone()));
            size = empty_size;
        }
        size += added;
        part.events.push(event);
    }
    parts.push(WatchResponse { fragment: false, ..part });
    parts
}

/// Bytes that a message of `length` bytes takes as one of a response's events.
fn field_size(length: usize) -> usize {
    const EVENTS_FIELD: u32 = 11;
    encoding::key_len(EVENTS_FIELD) + encoding::encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb::KeyValue;

    /// Splits events with values of the given sizes; sizes of the values in each part.
    #[track_caller]
    fn check(max_bytes: usize, values: &[usize], parts: &[&[usize]]) {
        let event = |bytes: &usize| {
            let kv = KeyValue { value: vec![b'v'; *bytes].into(), ..KeyValue::default() };
            SharedEvent::new(Event { kv: Some(kv), ..Event::default() })
        };
        let events = values.iter().map(event).collect();
        let whole = WatchResponse { events, ..response(7, Some(Revision::EMPTY_STORE)) };
        let split = fragments(whole, max_bytes);
        let value = |event: &SharedEvent| event.kv.as_ref().unwrap().value.len();
        let sizes: Vec<Vec<usize>> =
            split.iter().map(|part| part.events.iter().map(value).collect()).collect();
        assert_eq!(sizes, parts);
        for (at, part) in split.iter().enumerate() {
            assert_eq!(
                part.fragment,
                at + 1 < split.len(),
                "all but the last say that more follows"
            );
            assert_eq!(part.watch_id, 7);
            assert!(part.encoded_len() < max_bytes || part.events.len() == 1);
        }
    }

    #[test]
    fn a_response_is_split_below_the_limit_and_never_to_nothing() {
        check(1000, &[100, 100, 100], &[&[100, 100, 100]]);
        check(300, &[100, 100, 100], &[&[100, 100], &[100]]);
        check(50, &[100, 100, 100], &[&[100], &[100], &[100]]);
        check(150, &[10, 10, 500, 10], &[&[10, 10], &[500], &[10]]);
        check(50, &[100], &[&[100]]);
    }
}
