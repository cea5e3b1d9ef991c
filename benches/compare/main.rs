//! This server beside etcd, in turns, on one machine: what they cost and what their failures cost.
//!
//! `speed` measures throughput, latency and server CPU per operation. `gap` measures for how long
//! no write is acknowledged when the leader is killed or stopped, `rolling` the same while all
//! members are restarted in turn. Each prints a table and writes JSON.

#![expect(clippy::print_stdout, reason = "its tables are for people at a terminal")]

mod cpu;
mod gap;
#[path = "../../tests/cluster/machine.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod machine;
#[path = "../../tests/cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;
mod rolling;
#[path = "../../tests/cluster/rolling_restart.rs"]
mod rolling_restart;
mod speed;
mod statistics;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::members::Setup;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// etcd to compare with
    #[arg(long, env = "ETCD_BIN", global = true)]
    etcd: Option<PathBuf>,
    /// File for the results
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    /// Cargo gives it to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum Measure {
    /// Throughput, latency and server CPU per operation
    Speed(speed::Plan),
    /// Time without acknowledged writes when the leader is killed or stopped
    Gap(gap::Plan),
    /// Time without acknowledged writes, and failed requests, while all members are restarted
    Rolling(rolling::Plan),
}

/// The servers that are compared, always in this order: ours, etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Server {
    Orrery,
    Etcd,
}

struct Servers {
    etcd: PathBuf,
}

impl Servers {
    fn setup(&self, server: Server, members: usize) -> Setup {
        let mut setup = Setup::new(members);
        if server == Server::Etcd {
            setup.binary.clone_from(&self.etcd);
        }
        setup
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let etcd =
        arguments.etcd.ok_or_else(|| anyhow::anyhow!("--etcd or ETCD_BIN must name etcd"))?;
    let servers = Servers { etcd };
    let _turn = machine::exclusive();
    match arguments.measure.unwrap_or(Measure::Speed(speed::Plan::default())) {
        Measure::Speed(plan) => {
            let samples = speed::measure(&servers, plan).await?;
            speed::print(&samples);
            write(arguments.out, "speed.json", &samples)
        }
        Measure::Gap(plan) => {
            let samples = gap::measure(&servers, plan).await?;
            gap::print(&samples);
            write(arguments.out, "gap.json", &samples)
        }
        Measure::Rolling(plan) => {
            let samples = rolling::measure(&servers, plan).await?;
            write(arguments.out, "rolling.json", &samples)?;
            rolling::print(&samples)
        }
    }
}

fn write(out: Option<PathBuf>, name: &str, samples: &impl Serialize) -> anyhow::Result<()> {
    let path = out.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    std::fs::write(&path, serde_json::to_vec_pretty(samples)?)?;
    println!("results: {}", path.display());
    Ok(())
}
