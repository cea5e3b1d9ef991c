//! One watch stream as a state machine: requests, events and history in, responses out.
//!
//! It has no clock, no task and no socket; [`super::session`] feeds it. A watcher is in one of two
//! places: *live*, where it is sent what comes through the feed, or *catching up*, where it is sent
//! what reads of the history find. `position` is how far the feed has been delivered; a watcher
//! that has read past it goes live, and from there on nothing can slip between the two.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    proto::{
        SharedEvent,
        etcdserverpb::{
            WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
        },
    },
    types::{KeyRange, Revision},
    watch::{
        Subscription,
        feed::Missed,
        history::{Chunk, Participant, Read},
        key_index::KeyIndex,
        published::{Published, key},
        watcher::{NO_WATCHER, Watcher, response},
    },
};

/// Refusals of a new watcher, in etcd's words: clients compare them.
mod refusal {
    pub(super) const BEFORE_HISTORY: &str =
        "etcdserver: mvcc: required revision has been compacted";
    pub(super) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
}

/// Watchers this close behind the one whose turn it is, in revisions, read with it. After a
/// snapshot that is all of them; one that is far behind does not hold up those that are nearly
/// there.
const SHARED_READ_REVISIONS: i64 = 1000;

/// Ids that are kept for a client that never cancels what was canceled.
const CANCELED_MAX: usize = 4096;

/// Requests for progress that wait for their answers; etcd's stream holds as many responses.
const PROGRESS_REQUESTS_MAX: usize = 128;

pub(crate) struct Stream {
    subscription: Subscription,
    max_response_bytes: usize,
    live: BTreeMap<i64, Watcher>,
    catching_up: BTreeMap<i64, Watcher>,
    /// The watchers' ids, whichever place they are in.
    index: KeyIndex<i64>,
    /// Ids of watchers that a compaction canceled: as in etcd they are not free until the client
    /// cancels them as well.
    canceled: BTreeSet<i64>,
    next_id: i64,
    next_serial: u64,
    /// Whose turn it was to read the history.
    last_turn: i64,
    /// All watchers have been sent what they want up to here, but those that catch up.
    position: Revision,
    /// What was taken from the feed, with what was missed after it, and the head it leads to.
    inbox: VecDeque<Arc<Published>>,
    missed: Option<Missed>,
    upcoming: Revision,
    outbox: VecDeque<WatchResponse>,
    progress_requests: usize,
    interval_ended: bool,
}

impl Stream {
    pub(crate) fn new(subscription: Subscription, max_response_bytes: usize) -> Stream {
        let head = subscription.hub.head();
        Stream {
            subscription,
            max_response_bytes,
            live: BTreeMap::new(),
            catching_up: BTreeMap::new(),
            index: KeyIndex::default(),
            canceled: BTreeSet::new(),
            next_id: 0,
            next_serial: 0,
            last_turn: 0,
            position: head,
            inbox: VecDeque::new(),
            missed: None,
            upcoming: head,
            outbox: VecDeque::new(),
            progress_requests: 0,
            interval_ended: false,
        }
    }

    /// The next response to send. Headers have a revision and nothing else.
    ///
    /// Nothing else should go in before all are out, which bounds them to what one input brings
    /// about.
    pub(crate) fn next_response(&mut self) -> Option<WatchResponse> {
        self.outbox.pop_front()
    }

    pub(crate) fn has_responses(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Requests that say nothing are ignored.
    pub(crate) fn request(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            None => (),
        }
    }

    /// Answers a request for a watcher that its caller may not have.
    pub(crate) fn refuse(&mut self, reason: String) {
        let mut refused = response(NO_WATCHER, Some(self.subscription.hub.head()));
        (refused.created, refused.canceled) = (true, true);
        refused.cancel_reason = reason;
        self.outbox.push_back(refused);
    }

    /// Each request has its answer, but where watchers catch up one answer is for all.
    fn request_progress(&mut self) {
        self.progress_requests = match self.catching_up.is_empty() {
            true => (self.progress_requests + 1).min(PROGRESS_REQUESTS_MAX),
            false => 1,
        };
    }

    /// An interval of progress notification has ended.
    pub(crate) fn tick(&mut self) {
        self.interval_ended = true;
    }

    /// Delivers what came through the feed, until there are responses to send or nothing is left.
    ///
    /// Returns a revision that can't go on before its previous versions have been loaded.
    pub(crate) fn advance(&mut self) -> Option<Arc<Published>> {
        while self.outbox.is_empty() {
            let Some(published) = self.next_published() else {
                self.report_progress();
                break;
            };
            let matches = matches(&self.index, &self.live, &published);
            if published.missing() > 0 && matches.keys().any(|id| self.live[id].prev_kv) {
                return Some(published);
            }
            self.inbox.pop_front();
            self.position = self.position.max(published.revision);
            for (id, places) in matches {
                if let Some(watcher) = self.live.get_mut(&id) {
                    let events = watcher.take(&published, places);
                    let (revision, max_bytes) = (published.revision, self.max_response_bytes);
                    self.outbox.extend(watcher.responses(id, revision, events, max_bytes));
                }
            }
        }
        None
    }

    /// Returns when [`Stream::advance`] may have more to deliver.
    pub(crate) async fn changed(&self) {
        self.subscription.feed.changed().await;
    }

    /// Whether some watcher waits for a [`Stream::next_read`].
    pub(crate) fn is_catching_up(&self) -> bool {
        !self.catching_up.is_empty()
    }

    /// What to read next from the history, by turns; hand the outcome to [`Stream::read`].
    ///
    /// As long as nothing is delivered in between, a watcher that reads up to the newest revision
    /// goes live: what was delivered before the read is in it.
    pub(crate) fn next_read(&mut self) -> Option<Read> {
        let after = (Bound::Excluded(self.last_turn), Bound::Unbounded);
        let mut turns = self.catching_up.range(after).chain(&self.catching_up);
        let (turn, from) = turns.next().map(|(id, watcher)| (*id, watcher.next))?;
        self.last_turn = turn;
        let mut read = Read::new(from, self.subscription.hub.shared.bounds.read_bytes);
        for (&id, watcher) in &self.catching_up {
            let ahead = watcher.next.get() - from.get();
            if (0..=SHARED_READ_REVISIONS).contains(&ahead) {
                let participant = Participant { id, serial: watcher.serial };
                read.add(participant, &watcher.range, watcher.prev_kv);
            }
        }
        Some(read)
    }

    /// Delivers what a read found to the watchers that took part and are still there.
    pub(crate) fn read(&mut self, read: &Read, chunk: Chunk) {
        match chunk {
            Chunk::Compacted { floor } => self.cancel_below(floor),
            Chunk::Read { changes, until, revision } => {
                // Out of the place for a moment, so that just those who took part are matched.
                let mut readers = BTreeMap::new();
                for Participant { id, serial } in &read.watchers {
                    if self.catching_up.get(id).is_some_and(|watcher| watcher.serial == *serial) {
                        readers.extend(self.catching_up.remove_entry(id));
                    }
                }
                self.catch_up(&mut readers, &changes, revision);
                for (id, mut watcher) in readers {
                    watcher.next = watcher.next.max(until);
                    // What it still needs has neither passed it by nor come before it was there.
                    let fed = watcher.next > self.position.max(watcher.registered);
                    let place = match fed {
                        true => &mut self.live,
                        false => &mut self.catching_up,
                    };
                    place.insert(id, watcher);
                }
            }
        }
        self.subscription.count_catching_up(self.catching_up.len());
    }

    fn create(&mut self, mut create: WatchCreateRequest) {
        if create.key.is_empty() {
            create.key = Bytes::from_static(b"\0"); // the smallest key
        }
        let range = KeyRange::from_wire(create.key.clone(), create.range_end.clone());
        let refused = if create.start_revision < 0 {
            Some(refusal::BEFORE_HISTORY)
        } else if is_empty(&range) {
            Some(refusal::EMPTY_RANGE)
        } else if create.watch_id != 0 && self.has(create.watch_id) {
            Some(refusal::DUPLICATE_ID)
        } else {
            None
        };
        if let Some(reason) = refused {
            return self.refuse(reason.into());
        }

        let id = if create.watch_id == 0 { self.free_id() } else { create.watch_id };
        let head = self.subscription.add(&range, create.prev_kv);
        self.index.add(&range, id);
        let watcher = Watcher::new(&create, range, head, self.next_serial);
        self.next_serial += 1;
        let place = if watcher.next > head { &mut self.live } else { &mut self.catching_up };
        place.insert(id, watcher);
        self.subscription.count_catching_up(self.catching_up.len());
        self.outbox.push_back(WatchResponse { created: true, ..response(id, Some(head)) });
    }

    /// An id that nobody has is ignored.
    fn cancel(&mut self, id: i64) {
        if self.remove(id).is_some() || self.canceled.remove(&id) {
            let head = self.subscription.hub.head();
            self.outbox.push_back(WatchResponse { canceled: true, ..response(id, Some(head)) });
        }
    }

    fn has(&self, id: i64) -> bool {
        self.live.contains_key(&id)
            || self.catching_up.contains_key(&id)
            || self.canceled.contains(&id)
    }

    fn free_id(&mut self) -> i64 {
        while self.has(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn remove(&mut self, id: i64) -> Option<Watcher> {
        let watcher = self.live.remove(&id).or_else(|| self.catching_up.remove(&id))?;
        self.index.remove(&watcher.range, id);
        self.subscription.remove(&watcher.range, watcher.prev_kv);
        self.subscription.count_catching_up(self.catching_up.len());
        Some(watcher)
    }

    /// The front of the inbox, which is filled from the feed when it is empty.
    fn next_published(&mut self) -> Option<Arc<Published>> {
        if self.inbox.is_empty() {
            self.finish_inbox();
            // In this order: what is published up to this head is in the feed by now.
            self.upcoming = self.subscription.hub.head();
            (self.inbox, self.missed) = self.subscription.feed.take();
        }
        if self.inbox.is_empty() {
            self.finish_inbox();
        }
        self.inbox.front().cloned()
    }

    /// All that was taken from the feed is delivered: what comes after it was missed or is
    /// nobody's.
    fn finish_inbox(&mut self) {
        if let Some(missed) = self.missed.take() {
            self.demote(missed);
        }
        self.position = self.position.max(self.upcoming);
    }

    /// Lets the watchers that may have missed something read it from the history.
    fn demote(&mut self, missed: Missed) {
        let behind = self.live.extract_if(.., |_, watcher| watcher.next <= missed.through);
        for (id, mut watcher) in behind {
            watcher.next = watcher.next.max(missed.from);
            self.catching_up.insert(id, watcher);
        }
        self.position = self.position.max(missed.through);
        self.subscription.count_catching_up(self.catching_up.len());
    }

    fn catch_up(
        &mut self,
        readers: &mut BTreeMap<i64, Watcher>,
        changes: &[Published],
        revision: Revision,
    ) {
        let revisions_max = self.subscription.hub.shared.bounds.response_revisions;
        let mut gathered: BTreeMap<i64, (usize, Vec<SharedEvent>)> = BTreeMap::new();
        let mut send = |id: i64, watcher: &Watcher, events: Vec<SharedEvent>| {
            let responses = watcher.responses(id, revision, events, self.max_response_bytes);
            self.outbox.extend(responses);
        };
        for published in changes {
            for (id, places) in matches(&self.index, readers, published) {
                let Some(watcher) = readers.get_mut(&id) else { continue };
                let (revisions, events) = gathered.entry(id).or_default();
                events.extend(watcher.take(published, places));
                *revisions += 1;
                if *revisions == revisions_max {
                    send(id, watcher, mem::take(events));
                    gathered.remove(&id);
                }
            }
        }
        for (id, (_, events)) in gathered {
            if let Some(watcher) = readers.get(&id) {
                send(id, watcher, events);
            }
        }
    }

    /// Cancels the watchers whose history is gone.
    fn cancel_below(&mut self, floor: Revision) {
        let below = self.catching_up.iter().filter(|(_, watcher)| watcher.next < floor);
        let ids: Vec<i64> = below.map(|(id, _)| *id).collect();
        for id in ids {
            self.remove(id);
            self.keep_canceled(id);
            let mut canceled = response(id, None);
            canceled.canceled = true;
            canceled.compact_revision = floor.get();
            self.outbox.push_back(canceled);
        }
    }

    fn keep_canceled(&mut self, id: i64) {
        if self.canceled.len() == CANCELED_MAX {
            self.canceled.pop_first();
        }
        self.canceled.insert(id);
    }

    /// Says how far the watchers have come, where that was asked for and all is delivered.
    fn report_progress(&mut self) {
        let position = self.position;
        if mem::take(&mut self.interval_ended) {
            for (id, watcher) in &mut self.live {
                if watcher.ends_interval_idle() && watcher.may_hear_of(position) {
                    self.outbox.push_back(response(*id, Some(position)));
                }
            }
        }
        if self.catching_up.is_empty() {
            let requests = mem::take(&mut self.progress_requests);
            // As in etcd, a request is in vain where a watcher is not there yet, or is no more but
            // keeps its id.
            let all_hear = self.live.values().all(|watcher| watcher.may_hear_of(position));
            if !self.live.is_empty() && all_hear && self.canceled.is_empty() {
                let answers = (0..requests).map(|_| response(NO_WATCHER, Some(position)));
                self.outbox.extend(answers);
            }
        }
    }
}

/// For each of these watchers that is to be sent some of the events: the places of those events.
fn matches(
    index: &KeyIndex<i64>,
    watchers: &BTreeMap<i64, Watcher>,
    published: &Published,
) -> BTreeMap<i64, Vec<usize>> {
    let mut matches: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (place, event) in published.events.iter().enumerate() {
        index.each_match(key(event), |id| {
            let wants =
                |watcher: &Watcher| watcher.next <= published.revision && watcher.wants(event);
            if watchers.get(&id).is_some_and(wants) {
                matches.entry(id).or_default().push(place);
            }
        });
    }
    matches
}

fn is_empty(range: &KeyRange) -> bool {
    match range {
        KeyRange::One(_) | KeyRange::From(_) => false,
        KeyRange::Between(start, end) => start >= end,
    }
}

#[cfg(test)]
mod bench;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model_tests;
