//! Clients that write and watch while members fail, and the record of what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use etcd_client::{Client, EventType, WatchOptions};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::members::client;

/// Everything that traffic writes is under here.
pub(crate) const PREFIX: &str = "writes/";

const WRITERS_PER_ENDPOINT: usize = 3;

/// Few, so that keys are overwritten all the time.
const KEYS_PER_WRITER: u64 = 8;

/// After this the outcome of a request is taken to be unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Between attempts at a member that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Traffic must flow again this long after a fault that leaves a majority.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

/// A watcher must have seen everything this long after the last write.
const WATCH_DEADLINE: Duration = Duration::from_secs(20);

/// One change of one key, as a write was told or a watcher saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    pub revision: i64,
    pub key: String,
    /// Each value is written once. Deletes do not occur.
    pub value: String,
}

/// What clients were told.
#[derive(Default)]
pub(crate) struct Record {
    pub acknowledged: Vec<Change>,
    /// What each watcher saw, in its order.
    pub watched: Vec<Vec<Change>>,
    /// Requests that failed or timed out: done or not, nobody knows.
    pub unknown: u64,
    /// Revision of the last write, which was acknowledged after all others had ended.
    pub last_revision: i64,
    /// What clients saw that must never be seen.
    pub faults: Vec<String>,
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    /// The highest revision that any client was told.
    highest: AtomicI64,
}

/// Writers on every endpoint, and as many watchers that move on to another member when theirs dies.
pub(crate) struct Traffic {
    endpoints: Vec<String>,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
    last_revision: watch::Sender<i64>,
    writers: JoinSet<Record>,
    watchers: JoinSet<Vec<Change>>,
}

impl Traffic {
    pub(crate) fn start(endpoints: Vec<String>) -> Traffic {
        let mut traffic = Traffic {
            endpoints,
            progress: Arc::default(),
            stop: watch::Sender::new(false),
            last_revision: watch::Sender::new(i64::MAX),
            writers: JoinSet::new(),
            watchers: JoinSet::new(),
        };
        for (at, endpoint) in traffic.endpoints.iter().enumerate() {
            for writer in 0..WRITERS_PER_ENDPOINT {
                let (name, endpoint) = (format!("{at}-{writer}"), endpoint.clone());
                let writer = Writer {
                    name,
                    endpoint,
                    progress: Arc::clone(&traffic.progress),
                    record: Record::default(),
                };
                traffic.writers.spawn(writer.run(traffic.stop.subscribe()));
            }
            let mut preferred = traffic.endpoints.clone();
            preferred.rotate_left(at);
            traffic.watchers.spawn(watch_on(preferred, traffic.last_revision.subscribe()));
        }
        traffic
    }

    /// Waits until that many more writes are acknowledged.
    pub(crate) async fn flows(&self, more: u64) -> Result<(), String> {
        let goal = self.progress.acknowledged.load(SeqCst) + more;
        let begin = Instant::now();
        while self.progress.acknowledged.load(SeqCst) < goal {
            if begin.elapsed() > RECOVERY_DEADLINE {
                return Err(format!("no {more} writes acknowledged in {RECOVERY_DEADLINE:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends the writers, then lets the watchers see everything.
    pub(crate) async fn finish(mut self) -> Record {
        self.stop.send_replace(true);
        let mut record = Record::default();
        while let Some(written) = self.writers.join_next().await {
            let written = written.expect("a writer does not panic");
            record.acknowledged.extend(written.acknowledged);
            record.unknown += written.unknown;
            record.faults.extend(written.faults);
        }
        let mut last = Writer {
            name: "last".to_owned(),
            endpoint: self.endpoints[0].clone(),
            progress: Arc::clone(&self.progress),
            record: Record::default(),
        };
        record.last_revision = last.write_until_acknowledged().await;
        record.acknowledged.append(&mut last.record.acknowledged);
        self.last_revision.send_replace(record.last_revision);
        while let Ok(Some(seen)) = timeout(WATCH_DEADLINE, self.watchers.join_next()).await {
            record.watched.push(seen.expect("a watcher does not panic"));
        }
        for _ in 0..self.watchers.len() {
            record.faults.push(format!("a watcher did not reach the end in {WATCH_DEADLINE:?}"));
        }
        record
    }
}

struct Writer {
    name: String,
    endpoint: String,
    progress: Arc<Progress>,
    record: Record,
}

impl Writer {
    async fn run(mut self, stop: watch::Receiver<bool>) -> Record {
        let mut client = client(&self.endpoint).await;
        let mut sequence = 0;
        while !*stop.borrow() {
            if self.write(&mut client, sequence).await.is_none() {
                self.record.unknown += 1;
                sleep(RETRY_PAUSE).await;
            } else if sequence % KEYS_PER_WRITER == 0 {
                self.read(&mut client).await;
            }
            sequence += 1;
        }
        self.record
    }

    async fn write_until_acknowledged(&mut self) -> i64 {
        let mut client = client(&self.endpoint).await;
        for sequence in 0..1000 {
            if let Some(revision) = self.write(&mut client, sequence).await {
                return revision;
            }
            sleep(RETRY_PAUSE).await;
        }
        panic!("the last write is never acknowledged");
    }

    /// The revision, if the write was acknowledged.
    async fn write(&mut self, client: &mut Client, sequence: u64) -> Option<i64> {
        let key = format!("{PREFIX}{}/{}", self.name, sequence % KEYS_PER_WRITER);
        let value = format!("{}-{sequence}", self.name);
        let before = self.progress.highest.load(SeqCst);
        let request = client.put(key.clone(), value.clone(), None);
        let reply = timeout(REQUEST_TIMEOUT, request).await.ok()?.ok()?;
        let revision = reply.header().expect("a reply has a header").revision();
        if revision <= before {
            let fault = format!("revision went back: {key} written at {revision} after {before}");
            self.record.faults.push(fault);
        }
        self.progress.highest.fetch_max(revision, SeqCst);
        self.progress.acknowledged.fetch_add(1, SeqCst);
        self.record.acknowledged.push(Change { revision, key, value });
        Some(revision)
    }

    /// A linearizable read must not show a store older than any answer given before it began.
    async fn read(&mut self, client: &mut Client) {
        let before = self.progress.highest.load(SeqCst);
        let Ok(Ok(reply)) = timeout(REQUEST_TIMEOUT, client.get(PREFIX, None)).await else {
            return;
        };
        let revision = reply.header().expect("a reply has a header").revision();
        if revision < before {
            self.record.faults.push(format!("stale read: saw {revision} after {before}"));
        }
        self.progress.highest.fetch_max(revision, SeqCst);
    }
}

/// Watches everything from the first revision to the last, across the deaths of members.
///
/// Takes the last revision from outside, because nobody knows it until the writers have ended.
pub(crate) async fn watch_on(
    endpoints: Vec<String>,
    mut last: watch::Receiver<i64>,
) -> Vec<Change> {
    let mut seen: Vec<Change> = Vec::new();
    for attempt in 0.. {
        let endpoint = &endpoints[attempt % endpoints.len()];
        let until = last.clone();
        tokio::select! {
            // It ends when the stream does; then the next member is asked.
            () = watch_once(endpoint, &mut seen, &until) => {}
            // The last revision has just become known, and may already have been seen.
            _ = last.changed() => {}
        }
        if seen.last().is_some_and(|change| change.revision >= *last.borrow()) {
            break;
        }
        sleep(RETRY_PAUSE).await;
    }
    seen
}

async fn watch_once(endpoint: &str, seen: &mut Vec<Change>, last: &watch::Receiver<i64>) {
    let mut client = client(endpoint).await;
    let from = seen.last().map_or(1, |change| change.revision + 1);
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let opened = timeout(REQUEST_TIMEOUT, client.watch(PREFIX, Some(options))).await;
    let Ok(Ok(mut stream)) = opened else { return };
    while let Ok(Some(response)) = stream.message().await {
        for event in response.events() {
            let kv = event.kv().expect("an event has a key");
            assert_eq!(event.event_type(), EventType::Put, "nobody deletes");
            seen.push(Change {
                revision: kv.mod_revision(),
                key: kv.key_str().unwrap().to_owned(),
                value: kv.value_str().unwrap().to_owned(),
            });
        }
        if response.canceled() || seen.last().is_some_and(|it| it.revision >= *last.borrow()) {
            return;
        }
    }
}
