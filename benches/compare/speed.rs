//! Closed loops of puts and gets: each client sends its next request when it has its answer.
//!
//! Clients and servers share the machine, so throughput says as much about the client as about the
//! server; CPU per operation, summed over the members, counts the servers alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use orrery::proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use crate::{
    Server, Servers, cpu,
    members::Cluster,
    statistics::{median, quantile},
};

/// Keys of 8 bytes, so that keys repeat and the store stays small.
const KEYS: usize = 10_000;

const VALUE: &[u8] = &[b'v'; 256];

/// Clients that share a connection; more connections would cost both sides more than requests do.
const CLIENTS_PER_CONNECTION: usize = 16;

#[derive(Args, Clone, Copy)]
pub(crate) struct Plan {
    /// Times that each server is started and measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Operations of one measurement with one client; with 64 clients it is ten times as many
    #[arg(long, default_value_t = 3000)]
    operations: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { rounds: 3, operations: 3000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Put,
    LinearizableGet,
    SerializableGet,
}

/// What is measured: every combination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Case {
    members: usize,
    work: Work,
    clients: usize,
}

#[derive(Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    case: Case,
    server: Server,
    round: usize,
    operations_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    /// Processor time of all members together.
    cpu_micros_per_operation: f64,
}

/// In turns, and the other one first in every second round, so that neither has the better time.
pub(crate) async fn measure(servers: &Servers, plan: Plan) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for members in [1, 3] {
        for round in 0..plan.rounds {
            let mut order = [Server::Orrery, Server::Etcd];
            order.rotate_left(round % 2);
            for server in order {
                println!("{members} members, round {round}: {server:?}");
                let cluster = servers.setup(server, members).start().await;
                for (case, operations) in cases(members, plan) {
                    samples.push(sample(&cluster, case, server, round, operations).await?);
                }
            }
        }
    }
    Ok(samples)
}

/// Puts come first, so that the keys are there to be read.
fn cases(members: usize, plan: Plan) -> Vec<(Case, usize)> {
    let works = [Work::Put, Work::LinearizableGet, Work::SerializableGet];
    let of = |work| {
        let case = |clients| Case { members, work, clients };
        [(case(64), 10 * plan.operations), (case(1), plan.operations)]
    };
    works.into_iter().flat_map(of).collect()
}

async fn sample(
    cluster: &Cluster,
    case: Case,
    server: Server,
    round: usize,
    operations: usize,
) -> anyhow::Result<Sample> {
    let channels = connect(cluster, case.clients).await?;
    run(&channels, case, operations / 10).await?;
    let cpu_before = cpu_time(cluster);
    let begin = Instant::now();
    let mut latencies = run(&channels, case, operations).await?;
    let (took, cpu) = (begin.elapsed(), cpu_time(cluster) - cpu_before);
    let done = latencies.len() as f64;
    Ok(Sample {
        case,
        server,
        round,
        operations_per_second: done / took.as_secs_f64(),
        p50_micros: quantile(&mut latencies, 0.5),
        p99_micros: quantile(&mut latencies, 0.99),
        cpu_micros_per_operation: cpu.as_secs_f64() * 1e6 / done,
    })
}

/// One connection at least to each member that has a client.
async fn connect(cluster: &Cluster, clients: usize) -> anyhow::Result<Vec<Channel>> {
    let endpoints = cluster.endpoints();
    let connections = clients.div_ceil(CLIENTS_PER_CONNECTION).max(endpoints.len().min(clients));
    let mut channels = Vec::new();
    for at in 0..connections {
        let endpoint = endpoints[at % endpoints.len()].clone();
        channels.push(Channel::from_shared(endpoint)?.tcp_nodelay(true).connect().await?);
    }
    Ok(channels)
}

fn cpu_time(cluster: &Cluster) -> Duration {
    cluster.indices().into_iter().map(|at| cpu::time(cluster.pid(at))).sum()
}

/// Latency of each operation in microseconds.
async fn run(channels: &[Channel], case: Case, operations: usize) -> anyhow::Result<Vec<f64>> {
    let each = operations.div_ceil(case.clients);
    let mut clients = JoinSet::new();
    for at in 0..case.clients {
        let channel = channels[at % channels.len()].clone();
        clients.spawn(one_client(KvClient::new(channel), case.work, at * each, each));
    }
    let mut latencies = Vec::with_capacity(operations);
    while let Some(done) = clients.join_next().await {
        latencies.extend(done??);
    }
    Ok(latencies)
}

async fn one_client(
    mut client: KvClient<Channel>,
    work: Work,
    first: usize,
    count: usize,
) -> Result<Vec<f64>, Status> {
    let mut latencies = Vec::with_capacity(count);
    for at in first..first + count {
        let key = Bytes::from(format!("{:08}", at % KEYS));
        let begin = Instant::now();
        match work {
            Work::Put => {
                let value = Bytes::from_static(VALUE);
                client.put(PutRequest { key, value, ..PutRequest::default() }).await?;
            }
            Work::LinearizableGet => get(&mut client, key, false).await?,
            Work::SerializableGet => get(&mut client, key, true).await?,
        }
        latencies.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

async fn get(client: &mut KvClient<Channel>, key: Bytes, serializable: bool) -> Result<(), Status> {
    let request = RangeRequest { key, serializable, ..RangeRequest::default() };
    client.range(request).await.map(|_| ())
}

/// The quantities of the table, each with what makes it of a sample.
type Quantity = (&'static str, fn(&Sample) -> f64);

const QUANTITIES: [Quantity; 4] = [
    ("op/s", |sample| sample.operations_per_second),
    ("p50 us", |sample| sample.p50_micros),
    ("p99 us", |sample| sample.p99_micros),
    ("cpu us/op", |sample| sample.cpu_micros_per_operation),
];

/// Medians over the rounds, and ours divided by etcd's with the range of the rounds' own ratios.
pub(crate) fn print(samples: &[Sample]) {
    println!(
        "{:>7} {:<17} {:>7} {:<10} {:>10} {:>10} {:>6}  rounds",
        "members", "work", "clients", "", "orrery", "etcd", "ratio"
    );
    let mut seen: Vec<Case> = Vec::new();
    for sample in samples {
        if seen.contains(&sample.case) {
            continue;
        }
        seen.push(sample.case);
        let Case { members, work, clients } = sample.case;
        let work = serde_json::to_string(&work).unwrap_or_default();
        for (name, of) in QUANTITIES {
            let values = |server| -> Vec<f64> {
                let ours = |it: &&Sample| it.case == sample.case && it.server == server;
                samples.iter().filter(ours).map(of).collect()
            };
            let (orrery, etcd) = (values(Server::Orrery), values(Server::Etcd));
            let mut ratios: Vec<f64> = orrery.iter().zip(&etcd).map(|(a, b)| a / b).collect();
            let (least, most) = (quantile(&mut ratios, 0.0), quantile(&mut ratios, 1.0));
            let (orrery, etcd) = (median(orrery), median(etcd));
            let ratio = orrery / etcd;
            println!(
                "{members:>7} {:<17} {clients:>7} {name:<10} {orrery:>10.0} {etcd:>10.0} \
                 {ratio:>6.2}  {least:.2}..{most:.2}",
                work.trim_matches('"')
            );
        }
    }
}
