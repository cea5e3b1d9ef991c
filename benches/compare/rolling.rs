//! For how long nobody gets a write acknowledged while all members are restarted in turn.

use clap::Args;
use serde::Serialize;

use crate::{Server, Servers, rolling_restart::roll, statistics::quantile};

const MEMBERS: usize = 3;

#[derive(Args, Clone, Copy)]
pub(crate) struct Plan {
    /// Rolling restarts of each server's cluster
    #[arg(long, default_value_t = 5)]
    times: usize,
}

/// One rolling restart of all members.
#[derive(Serialize)]
pub(crate) struct Sample {
    server: Server,
    requests: u64,
    repeated: u64,
    failed: Vec<String>,
    gap_millis: f64,
}

/// In turns, so that what else the machine does meanwhile meets both.
pub(crate) async fn measure(servers: &Servers, plan: Plan) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for time in 1..=plan.times {
        for server in [Server::Orrery, Server::Etcd] {
            println!("{server:?}: rolling restart {time} of {}", plan.times);
            let mut cluster = servers.setup(server, MEMBERS).start().await;
            let mut told = roll(&mut cluster).await.map_err(anyhow::Error::msg)?;
            let gap_millis = told.longest_gap().as_secs_f64() * 1e3;
            let (requests, repeated) = (told.requests, told.repeated);
            samples.push(Sample { server, requests, repeated, failed: told.failed, gap_millis });
        }
    }
    Ok(samples)
}

/// Prints a table; fails if a request to our server did.
pub(crate) fn print(samples: &[Sample]) -> anyhow::Result<()> {
    println!(
        "{:<8} {:>5} {:>9} {:>9} {:>7} {:>10} {:>10}",
        "server", "times", "requests", "repeated", "failed", "p50 ms", "longest ms"
    );
    for server in [Server::Orrery, Server::Etcd] {
        let of_these: Vec<&Sample> = samples.iter().filter(|it| it.server == server).collect();
        let mut gaps: Vec<f64> = of_these.iter().map(|sample| sample.gap_millis).collect();
        let (middle, most) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 1.0));
        let sum = |of: fn(&Sample) -> u64| of_these.iter().map(|it| of(it)).sum::<u64>();
        let (requests, repeated) = (sum(|it| it.requests), sum(|it| it.repeated));
        let failed = sum(|it| it.failed.len() as u64);
        let (name, times) = (format!("{server:?}"), gaps.len());
        println!(
            "{name:<8} {times:>5} {requests:>9} {repeated:>9} {failed:>7} {middle:>10.1} {most:>10.1}"
        );
    }
    let ours = samples.iter().filter(|it| it.server == Server::Orrery);
    let failed: Vec<&String> = ours.flat_map(|sample| &sample.failed).collect();
    anyhow::ensure!(failed.is_empty(), "requests failed: {failed:#?}");
    Ok(())
}
