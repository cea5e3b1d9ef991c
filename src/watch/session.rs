//! A stream with what drives it: waiting for the apply loop, and reading the store.

use std::{future, panic, sync::Arc};

use futures::future::BoxFuture;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::OwnedSemaphorePermit,
    task,
};

use crate::{
    mvcc,
    proto::etcdserverpb::{WatchRequest, WatchResponse},
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
    /// Reading the store. New revisions wait for it: a watcher that is about to have caught up is not
    /// overtaken by them again and again, and reads are short.
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

    /// An interval ended after which idle watchers that asked for it are told of their progress.
    pub fn tick(&mut self) {
        self.stream.tick();
    }

    /// Whether the client has yet to take the responses to what came in before.
    pub fn has_responses(&self) -> bool {
        self.stream.has_responses()
    }

    /// The next response; headers have a revision and nothing else. Nothing is lost when the future is
    /// dropped.
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

/// Runs a read of the store where it holds up no other task.
///
/// A runtime with one thread has no such place, and reads where it is: so a simulation stays exact.
async fn off_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if !matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        return read();
    }
    match task::spawn_blocking(read).await {
        Ok(found) => found,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            Err(_) => future::pending().await, // the runtime is shutting down, and this task with it
        },
    }
}
