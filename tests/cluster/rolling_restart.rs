//! All members restarted one after the other, while clients that retry what was unavailable go on.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use orrery::proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use tokio::{
    sync::watch,
    task::JoinHandle,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};

use crate::members::Cluster;

/// Between one request and the next: the finest gap that can be seen.
const PACE: Duration = Duration::from_millis(2);

/// One attempt; a member that went away without a word is left after it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// A request that has no answer after so long, however often it was repeated, has failed.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Between two attempts, as long as clientv3 waits.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Of undisturbed load around each restart.
const BETWEEN: Duration = Duration::from_secs(1);

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When each write was acknowledged.
    acknowledged: Vec<Instant>,
    pub(crate) requests: u64,
    /// Attempts that were answered as unavailable, and made again elsewhere.
    pub(crate) repeated: u64,
    /// Why requests failed in the end.
    pub(crate) failed: Vec<String>,
}

impl Told {
    /// The longest time in which no write was acknowledged, whichever client asked.
    pub(crate) fn longest_gap(&mut self) -> Duration {
        self.acknowledged.sort_unstable();
        let gaps = self.acknowledged.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

/// Stops and starts each member of a cluster that runs, under load; leadership moves at least once.
///
/// # Errors A member does not start again.
pub(crate) async fn roll(cluster: &mut Cluster) -> Result<Told, String> {
    let load = Load::start(cluster.endpoints());
    for at in cluster.indices() {
        sleep(BETWEEN).await;
        cluster.stop(at).await;
        cluster.restart(&[at]).await?;
    }
    sleep(BETWEEN).await;
    Ok(load.finish().await)
}

/// Writes and linearizable reads at a steady pace, at one member after the other.
struct Load {
    told: Arc<Mutex<Told>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(endpoints: Vec<String>) -> Load {
        let connect = |it: String| Channel::from_shared(it).expect("a URL").connect_lazy();
        let members: Vec<Client> = endpoints.into_iter().map(connect).map(Client::new).collect();
        let (told, stop) = (Arc::default(), watch::Sender::new(false));
        let task = tokio::spawn(ask_steadily(members, Arc::clone(&told), stop.subscribe()));
        Load { told, stop, task }
    }

    /// Waits for what is under way.
    async fn finish(self) -> Told {
        self.stop.send_replace(true);
        self.task.await.expect("no client panics");
        std::mem::take(&mut *lock(&self.told))
    }
}

type Client = KvClient<Channel>;

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().expect("nobody panics while it holds this lock")
}

async fn ask_steadily(members: Vec<Client>, told: Arc<Mutex<Told>>, stop: watch::Receiver<bool>) {
    let mut ticks = interval(PACE);
    // What the machine could not begin in time must not come as a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests = JoinSet::new();
    for number in 0.. {
        ticks.tick().await;
        if *stop.borrow() {
            break;
        }
        requests.spawn(ask(members.clone(), number, Arc::clone(&told)));
        while requests.try_join_next().is_some() {}
    }
    requests.join_all().await;
}

/// One request, repeated at the next member for as long as the answer is that it is unavailable.
async fn ask(members: Vec<Client>, number: usize, told: Arc<Mutex<Told>>) {
    let writes = !number.is_multiple_of(4);
    let begin = Instant::now();
    for attempt in number.. {
        let mut client = members[attempt % members.len()].clone();
        let answer = timeout(ATTEMPT_TIMEOUT, attempt_once(&mut client, number, writes)).await;
        let why = match answer {
            Ok(Ok(())) => {
                let mut told = lock(&told);
                told.requests += 1;
                if writes {
                    told.acknowledged.push(Instant::now());
                }
                return;
            }
            Ok(Err(status)) if is_unavailable(&status) => status.to_string(),
            Ok(Err(status)) => return fail(&told, status.to_string()),
            Err(_) => "no answer in time".to_owned(),
        };
        if begin.elapsed() > REQUEST_DEADLINE {
            return fail(&told, why);
        }
        lock(&told).repeated += 1;
        sleep(RETRY_PAUSE).await;
    }
}

fn fail(told: &Mutex<Told>, why: String) {
    let mut told = lock(told);
    told.requests += 1;
    told.failed.push(why);
}

async fn attempt_once(client: &mut Client, number: usize, writes: bool) -> Result<(), Status> {
    let key = format!("{:08}", number % 1000);
    if writes {
        let (key, value) = (key.into(), number.to_string().into());
        client.put(PutRequest { key, value, ..PutRequest::default() }).await.map(drop)
    } else {
        client.range(RangeRequest { key: key.into(), ..RangeRequest::default() }).await.map(drop)
    }
}

/// Also when the connection broke, which this library does not always call by that name.
fn is_unavailable(status: &Status) -> bool {
    let cause = status.source();
    let broke = cause.is_some_and(|cause| cause.is::<tonic::transport::Error>());
    status.code() == Code::Unavailable || broke
}
