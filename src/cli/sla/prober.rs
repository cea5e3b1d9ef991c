//! Probes of one region: an open loop at a stated rate, no retries.
//!
//! Each request is sent when it is due, whether or not earlier ones were answered, and its latency
//! counts from then: a service that stands still hides nothing by holding up its prober.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

use super::{
    keys::{Free, Keys},
    probe::{Act, FAILED_AFTER, Outcome, Probe},
};
use crate::{
    proto::etcdserverpb::{
        PutRequest, RangeRequest, StatusRequest, kv_client::KvClient,
        maintenance_client::MaintenanceClient,
    },
    types::Level,
};

/// Values are at most this long: what agreements of the kind speak of are requests of 1 KB.
const VALUE_BYTES: usize = 256;

/// Keys that each region writes in turns.
const KEYS: usize = 16;

/// What is asked for how often, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) acts: Vec<Act>,
    /// Of each act, a second.
    pub(crate) rate: f64,
    pub(crate) lasting: Duration,
    /// What bounded reads ask for.
    pub(crate) max_staleness: Duration,
}

/// Asks the members of its own region.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) region: usize,
    pub(crate) channel: Channel,
    pub(crate) plan: Plan,
    pub(crate) keys: Arc<Keys>,
    /// When the run began; all probers have the same.
    pub(crate) began: Instant,
    pub(crate) found: Arc<Mutex<Vec<Probe>>>,
    /// The greatest revision that the region's clients have been told by writes and session reads.
    session: Arc<AtomicI64>,
}

/// What an answer said.
struct Answered {
    revision: i64,
    counter: u64,
}

impl Prober {
    pub(crate) fn new(
        region: usize,
        channel: Channel,
        plan: Plan,
        keys: Arc<Keys>,
        (began, found): (Instant, Arc<Mutex<Vec<Probe>>>),
    ) -> Prober {
        let session = Arc::new(AtomicI64::new(0));
        Prober { region, channel, plan, keys, began, found, session }
    }

    /// Returns when the last answer is there or is not waited for any more.
    pub(crate) async fn run(self) {
        let period = Duration::from_secs_f64(1.0 / self.plan.rate);
        let acts = self.plan.acts.len().max(1) as u32;
        let mut under_way = tokio::task::JoinSet::new();
        for place in 0.. {
            // Acts and regions take turns within a period, so that they do not wait for each other.
            let act = self.plan.acts[place as usize % acts as usize];
            let shift = period / acts / 7 * (self.region as u32 % 7);
            let due = self.began + shift + period / acts * place;
            if due >= self.began + self.plan.lasting {
                break;
            }
            sleep_until(due).await;
            let prober = self.clone();
            under_way.spawn(async move { prober.probe(act, due).await });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn probe(&self, act: Act, due: Instant) {
        match act {
            Act::Write => {
                let free = self.keys.take(self.region, KEYS);
                let probe = self.ask(act, due, free.key, None, self.write(free)).await;
                match probe.outcome {
                    Outcome::Done => self.keys.acknowledged(self.region, free),
                    Outcome::Failed | Outcome::Excluded => self.keys.retire(free),
                }
                self.note(Probe { counter: Some(free.counter), ..probe });
            }
            Act::Read(level) => {
                let Some(key) = self.keys.any(&mut rand::rng()) else { return };
                let token = (level == Level::Session).then(|| self.session.load(Relaxed));
                let asked = self.read(key, level, token);
                let probe = self.ask(act, due, key, token, asked).await;
                self.note(probe);
            }
        }
    }

    async fn ask(
        &self,
        act: Act,
        due: Instant,
        key: usize,
        token: Option<i64>,
        asked: impl Future<Output = Result<Answered, Status>>,
    ) -> Probe {
        let sent = Instant::now();
        let answer = timeout_at(due + FAILED_AFTER, asked).await;
        let ended = Instant::now();
        let since = |at: Instant| (at - self.began).as_nanos() as u64;
        let (outcome, answered, error) = match answer {
            Err(_) => (Outcome::Failed, None, Some("no answer in time".to_owned())),
            Ok(Ok(answered)) => (Outcome::Done, Some(answered), None),
            Ok(Err(status)) => (outcome(&status), None, Some(told(&status))),
        };
        if let (Some(answered), Act::Write | Act::Read(Level::Session)) = (&answered, act) {
            self.session.fetch_max(answered.revision, Relaxed);
        }
        Probe {
            region: self.region,
            act,
            key,
            due: since(due),
            sent: since(sent),
            ended: since(ended),
            outcome,
            counter: answered.as_ref().map(|answered| answered.counter),
            revision: answered.map(|answered| answered.revision),
            token,
            error,
        }
    }

    async fn write(&self, free: Free) -> Result<Answered, Status> {
        let mut value = free.counter.to_string().into_bytes();
        // What is read is the number before the first space.
        value.resize(VALUE_BYTES, b' ');
        let key = Bytes::from(self.keys.name(free.key));
        let request = PutRequest { key, value: value.into(), ..PutRequest::default() };
        let answer = KvClient::new(self.channel.clone()).put(request).await?.into_inner();
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(Answered { revision, counter: free.counter })
    }

    async fn read(&self, key: usize, level: Level, token: Option<i64>) -> Result<Answered, Status> {
        let request = self.reading(self.keys.name(key), level, token);
        let answer = KvClient::new(self.channel.clone()).range(request).await?.into_inner();
        let revision = answer.header.map_or(0, |header| header.revision);
        let value = answer.kvs.first().map(|kv| kv.value.clone());
        let counter = value.map_or(Some(0), |value| counter(&value));
        // What no prober wrote is greater than all that any could have: it counts as a violation.
        let counter = counter.unwrap_or(u64::MAX);
        Ok(Answered { revision, counter })
    }

    fn reading(&self, key: String, level: Level, token: Option<i64>) -> Request<RangeRequest> {
        // What etcd calls so; for the rest the level is in the metadata.
        let serializable = matches!(level, Level::Prefix | Level::Eventual);
        let range = RangeRequest { key: key.into(), serializable, ..RangeRequest::default() };
        let mut request = Request::new(range);
        let metadata = request.metadata_mut();
        if level != Level::Strong {
            metadata.insert("x-consistency", MetadataValue::from_static(level.name()));
        }
        if level == Level::Bounded {
            let bound = self.plan.max_staleness.as_millis() as u64;
            metadata.insert("x-max-staleness-ms", bound.into());
        }
        if let Some(token) = token {
            metadata.insert("x-min-revision", token.into());
        }
        request
    }

    fn note(&self, probe: Probe) {
        // What is held is whole at every moment.
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
    }
}

/// The number that a value begins with.
pub(crate) fn counter(value: &[u8]) -> Option<u64> {
    str::from_utf8(value).ok()?.trim_end().parse().ok()
}

/// What is refused for what it asks does not count, as 4xx does not for Cosmos DB.
fn outcome(status: &Status) -> Outcome {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated => Outcome::Excluded,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::Failed,
    }
}

fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// What each key holds when all is over, read strongly from any region; `None` for what could not
/// be read before `limit`. Here, and only here, is anything tried again.
pub(crate) async fn read_all(
    channels: &[Channel],
    keys: &Keys,
    limit: Duration,
) -> Vec<Option<u64>> {
    /// Between two rounds of attempts.
    const PAUSE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + limit;
    let mut found = vec![None; keys.made()];
    let mut done = 0;
    while done < found.len() && Instant::now() < deadline {
        let mut page = None;
        for channel in channels {
            let attempt = deadline.min(Instant::now() + FAILED_AFTER);
            page = timeout_at(attempt, read_page(channel, keys, done)).await.ok().flatten();
            if page.is_some() {
                break;
            }
        }
        match page {
            Some(page) => {
                let until = found.len().min(done + page.len());
                found[done..until].copy_from_slice(&page[..until - done]);
                done = until;
            }
            None => sleep_until(deadline.min(Instant::now() + PAUSE)).await,
        }
    }
    found
}

/// The counters of the keys from `first` on, a few hundred of them; 0 for one that is not there.
async fn read_page(channel: &Channel, keys: &Keys, first: usize) -> Option<Vec<Option<u64>>> {
    /// So that an answer is far below what a message may have.
    const PAGE: usize = 500;
    let until = keys.made().min(first + PAGE);
    let range = RangeRequest {
        key: keys.name(first).into(),
        range_end: keys.name(until).into(),
        ..RangeRequest::default()
    };
    let answer = KvClient::new(channel.clone()).range(range).await.ok()?.into_inner();
    let values: HashMap<&[u8], &[u8]> =
        answer.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
    let counter_of = |key: usize| match values.get(keys.name(key).as_bytes()) {
        Some(value) => counter(value),
        None => Some(0),
    };
    Some((first..until).map(counter_of).collect())
}

/// What the members say they are.
pub(crate) async fn server(channels: &[Channel]) -> String {
    for channel in channels {
        let mut client = MaintenanceClient::new(channel.clone());
        let deadline = Instant::now() + FAILED_AFTER;
        if let Ok(Ok(status)) = timeout_at(deadline, client.status(StatusRequest {})).await {
            return format!("etcd API {}", status.into_inner().version);
        }
    }
    "unknown".to_owned()
}
