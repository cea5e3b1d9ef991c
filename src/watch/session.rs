//! A stream with what drives it: waiting for the apply loop, and reading the store.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    mvcc,
    proto::etcdserverpb::{WatchRequest, WatchResponse},
    storage::off_thread,
    watch::{
        WatchHub,
        history::{Chunk, Read},
        published::Published,
        stream::Stream,
    },
};

/// Previous versions that are looked up on the spot. The apply loop has just read them to write the
/// versions that replace them, so that each takes microseconds; more are looked up off the thread.
const LOOK_UPS_AT_ONCE: usize = 64;

/// One client's watch stream. Dropping it ends it.
pub struct Session {
    hub: WatchHub,
    stream: Stream,
    /// Reading the store. New revisions wait for it: a watcher that is about to have caught up is
    /// not overtaken by them again and again, and reads are short.
    reading: Option<BoxFuture<'static, Result<Found, mvcc::Error>>>,
    /// Waiting in line to read the history. New revisions are delivered meanwhile.
    turn: Option<BoxFuture<'static, OwnedSemaphorePermit>>,
}

enum Found {
    /// What was to be delivered next has its previous versions now.
    Previous,
    History(Read, Chunk),
}

impl Session {
    pub(super) fn new(hub: WatchHub, stream: Stream) -> Session {
        Session { hub, stream, reading: None, turn: None }
    }

    /// Takes a request from the client. Hand in no other while [`Session::has_responses`].
    pub fn request(&mut self, request: WatchRequest) {
        self.stream.request(request);
    }

    /// Answers a request for a watcher that its caller may not have, with the reason.
    pub fn refuse(&mut self, reason: String) {
        self.stream.refuse(reason);
    }

    /// An interval ended after which idle watchers that asked for it are told of their progress.
    pub fn tick(&mut self) {
        self.stream.tick();
    }

    /// Whether the client has yet to take the responses to what came in before.
    pub fn has_responses(&self) -> bool {
        self.stream.has_responses()
    }

    /// The next response; headers have a revision and nothing else. Nothing is lost when the future
    /// is dropped.
    ///
    /// # Errors
    /// This member can't read its store; the stream can't go on.
    pub async fn next_response(&mut self) -> Result<WatchResponse, mvcc::Error> {
        loop {
            if let Some(response) = self.stream.next_response() {
                return Ok(response);
            }
            if let Some(reading) = &mut self.reading {
                let found = reading.await;
                self.reading = None;
                match found? {
                    Found::Previous => (),
                    Found::History(read, chunk) => self.stream.read(&read, chunk),
                }
            } else if let Some(published) = self.stream.advance() {
                self.reading = Some(Box::pin(self.hub.clone().load_previous(published)));
            } else if !self.stream.has_responses() {
                self.wait().await;
            }
        }
    }

    /// Waits for new revisions, and for a turn to read the history if there is need of one.
    async fn wait(&mut self) {
        if self.turn.is_none() && self.stream.is_catching_up() {
            let turn = Arc::clone(&self.hub.shared.turns).acquire_owned();
            self.turn = Some(Box::pin(async { turn.await.expect("the line is never closed") }));
        }
        let Some(turn) = &mut self.turn else {
            return self.stream.changed().await;
        };
        tokio::select! {
            permit = turn => {
                self.turn = None;
                if let Some(read) = self.stream.next_read() {
                    self.reading = Some(Box::pin(self.hub.clone().read(read, permit)));
                }
            }
            () = self.stream.changed() => (),
        }
    }
}

impl WatchHub {
    /// Runs a read on a fresh view; the permit is given back when it is done.
    async fn read(self, read: Read, permit: OwnedSemaphorePermit) -> Result<Found, mvcc::Error> {
        off_thread(move || {
            let _permit = permit;
            let view = (self.shared.open)()?;
            let chunk = read.run(view.as_ref())?;
            Ok(Found::History(read, chunk))
        })
        .await
    }

    /// Looks previous versions up once, however many streams want them.
    async fn load_previous(self, published: Arc<Published>) -> Result<Found, mvcc::Error> {
        let look_up = async || {
            let (hub, owned) = (self.clone(), Arc::clone(&published));
            let look_up = move || owned.look_up((hub.shared.open)()?.as_ref());
            if published.missing() <= LOOK_UPS_AT_ONCE {
                look_up()
            } else {
                off_thread(look_up).await
            }
        };
        published.load_previous(look_up).await?;
        Ok(Found::Previous)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, thread};

    use super::*;
    use crate::{
        proto::etcdserverpb::{WatchCreateRequest, watch_request::RequestUnion},
        watch::{Bounds, feed::FeedBounds, memory::Memory},
    };

    /// Watches everything, with previous versions.
    async fn watch_everything(hub: &WatchHub) -> Session {
        let mut session = hub.open(1 << 20);
        let create = WatchCreateRequest {
            range_end: "\0".into(),
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        session.request(WatchRequest { request_union });
        assert!(session.next_response().await.unwrap().created);
        session
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn streams_that_are_overrun_again_and_again_miss_and_repeat_nothing() {
        const REVISIONS: i64 = 500;
        let memory = Memory::default();
        let hub = memory.bounded_hub(Bounds {
            feed: FeedBounds { batches: 3, bytes: 1000 },
            read_bytes: 1000,
            response_revisions: 10,
            reads: 2,
        });
        let mut readers = Vec::new();
        for _ in 0..4 {
            let mut session = watch_everything(&hub).await;
            readers.push(tokio::spawn(async move {
                let mut newest = 1;
                while newest < REVISIONS {
                    for event in session.next_response().await.unwrap().events {
                        newest += 1;
                        assert_eq!(event.kv.as_ref().unwrap().mod_revision, newest);
                        let before = event.prev_kv.as_ref().map_or(1, |kv| kv.mod_revision);
                        assert_eq!(before, newest - 1);
                    }
                }
            }));
        }
        let publisher = hub.clone();
        let writer = thread::spawn(move || {
            for revision in 2..=REVISIONS {
                publisher.publish(memory.write(&[("k", Some("value"))]).into_iter().collect());
                if revision % 5 == 0 {
                    thread::yield_now();
                }
            }
        });
        for reader in readers {
            reader.await.unwrap();
        }
        writer.join().unwrap();
        let counts = hub.counts();
        assert_eq!((counts.streams, counts.watchers, counts.catching_up), (0, 0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_version_before_is_looked_up_once_for_all_streams() {
        let memory = Memory::default();
        let hub = memory.hub();
        let keys: Vec<String> = (0..LOOK_UPS_AT_ONCE + 1).map(|key| key.to_string()).collect();
        let put = |value| {
            let operations: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(value))).collect();
            hub.publish(memory.write(&operations).into_iter().collect());
        };
        put("created");
        let mut sessions = Vec::new();
        for _ in 0..8 {
            let mut session = watch_everything(&hub).await;
            sessions.push(tokio::spawn(async move { session.next_response().await.unwrap() }));
        }
        put("changed");
        for session in sessions {
            let response = session.await.unwrap();
            let before = |event: &crate::proto::SharedEvent| {
                event.prev_kv.as_ref().is_some_and(|kv| kv.value == "created")
            };
            assert_eq!(response.events.len(), keys.len());
            assert!(response.events.iter().all(before));
        }
        assert_eq!(memory.past().looked_up.load(Ordering::Relaxed), keys.len());
    }
}
