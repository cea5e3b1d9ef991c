//! For how long nobody gets a write acknowledged when the leader of three goes.
//!
//! Writes begin at a steady pace on all endpoints whether or not earlier ones were answered, so a
//! client that waits for a lost request does not lengthen the gap. It is the longest time between
//! two acknowledgements around the fault, whichever client got them.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Args;
use orrery::proto::etcdserverpb::{PutRequest, kv_client::KvClient};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::transport::Channel;

use crate::{Server, Servers, members::Cluster, statistics::quantile};

const MEMBERS: usize = 3;

/// Between one write and the next: the finest gap that can be seen.
const PACE: Duration = Duration::from_millis(2);

/// A write that takes longer is given up. It also bounds how many are in flight.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Traffic before each fault.
const BEFORE: Duration = Duration::from_millis(700);

/// Observed after each fault at least, and until writes flow again.
const AFTER: Duration = Duration::from_secs(3);

/// Writes acknowledged in the last half second of the observation when they flow again.
const FLOWING: usize = 100;

const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Copy)]
pub(crate) struct Plan {
    /// Kills, and as many stops, of each server's leader
    #[arg(long, default_value_t = 30)]
    times: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fault {
    Kill,
    Stop,
}

#[derive(Serialize)]
pub(crate) struct Sample {
    server: Server,
    fault: Fault,
    gap_millis: f64,
}

/// Both servers run and idle meanwhile would disturb each other, so they take turns as a whole.
pub(crate) async fn measure(servers: &Servers, plan: Plan) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for server in [Server::Orrery, Server::Etcd] {
        for fault in [Fault::Kill, Fault::Stop] {
            println!("{} times {fault:?} of the leader of {server:?}", plan.times);
            let mut cluster = servers.setup(server, MEMBERS).start().await;
            let writes = Writes::start(&cluster)?;
            for _ in 0..plan.times {
                let gap_millis = one_gap(&mut cluster, fault, &writes).await?;
                samples.push(Sample { server, fault, gap_millis });
            }
        }
    }
    Ok(samples)
}

async fn one_gap(cluster: &mut Cluster, fault: Fault, writes: &Writes) -> anyhow::Result<f64> {
    let leader = cluster.leader().await;
    writes.forget();
    sleep(BEFORE).await;
    let begin = Instant::now();
    match fault {
        Fault::Kill => cluster.kill(&[leader]),
        Fault::Stop => cluster.stop(leader).await,
    }
    while begin.elapsed() < AFTER || !writes.flow() {
        anyhow::ensure!(begin.elapsed() < RECOVERY_DEADLINE, "writes do not flow again");
        sleep(PACE).await;
    }
    let gap = writes.longest_gap();
    cluster.restart(&[leader]).await.map_err(anyhow::Error::msg)?;
    sleep(BEFORE).await;
    Ok(gap.as_secs_f64() * 1e3)
}

/// Writes at a steady pace until dropped, and when they were acknowledged.
struct Writes {
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    _task: JoinSet<()>,
}

impl Writes {
    fn start(cluster: &Cluster) -> anyhow::Result<Writes> {
        let channels: Result<Vec<Channel>, tonic::transport::Error> = cluster
            .endpoints()
            .into_iter()
            .map(|endpoint| Ok(Channel::from_shared(endpoint).expect("a URL").connect_lazy()))
            .collect();
        let acknowledged = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(write_steadily(channels?, Arc::clone(&acknowledged)));
        Ok(Writes { acknowledged, _task: task })
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.acknowledged.lock().expect("no writer panics while it holds the times")
    }

    fn forget(&self) {
        self.times().clear();
    }

    fn flow(&self) -> bool {
        let recent = |at: &&Instant| at.elapsed() < Duration::from_millis(500);
        self.times().iter().rev().take_while(recent).count() >= FLOWING
    }

    fn longest_gap(&self) -> Duration {
        let times = self.times();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

async fn write_steadily(channels: Vec<Channel>, acknowledged: Arc<Mutex<Vec<Instant>>>) {
    let mut ticks = interval(PACE);
    // Writes that the machine could not begin in time must not come as a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writes = JoinSet::new();
    for (at, channel) in channels.iter().cycle().enumerate() {
        ticks.tick().await;
        let mut client = KvClient::new(channel.clone());
        let acknowledged = Arc::clone(&acknowledged);
        writes.spawn(async move {
            let key = format!("{:08}", at % 1000).into();
            let request = PutRequest { key, value: "value".into(), ..PutRequest::default() };
            if let Ok(Ok(_)) = timeout(WRITE_TIMEOUT, client.put(request)).await {
                let mut times = acknowledged.lock().expect("nobody panics while it holds them");
                times.push(Instant::now());
            }
        });
        while writes.try_join_next().is_some() {}
    }
}

pub(crate) fn print(samples: &[Sample]) {
    println!("{:<8} {:<6} {:>5} {:>10} {:>10}", "server", "fault", "times", "p50 ms", "max ms");
    for server in [Server::Orrery, Server::Etcd] {
        for fault in [Fault::Kill, Fault::Stop] {
            let of_these = samples.iter().filter(|it| it.server == server && it.fault == fault);
            let mut gaps: Vec<f64> = of_these.map(|sample| sample.gap_millis).collect();
            let (middle, most) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 1.0));
            let (server, fault) = (format!("{server:?}"), format!("{fault:?}"));
            println!("{server:<8} {fault:<6} {:>5} {middle:>10.1} {most:>10.1}", gaps.len());
        }
    }
}
