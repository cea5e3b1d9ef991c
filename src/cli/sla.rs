//! `orrery sla`: what clients in each region were served, counted as Cosmos DB's agreement counts
//! it.

mod check;
mod figures;
pub(crate) mod journal;
mod keys;
mod page;
pub(crate) mod probe;
mod prober;
mod run;
mod summary;
mod terminal;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, ensure};
use clap::Parser;
use tokio::time::Instant;

use self::{
    check::Registers,
    keys::Keys,
    probe::{Act, Probe},
    prober::{Plan, Prober},
    run::{History, Region, Run},
    summary::Summary,
};
use super::{
    output::{DIRECTORY, Output, State},
    snapshot::{Parsed, parse},
    up::account::Location,
};
use crate::types::Level;

/// Requests a second of each kind from each region; more would measure this machine.
const RATE_MAX: f64 = 1000.0;

/// How long all may take to settle before the last look at what was written.
const SETTLING: Duration = Duration::from_secs(60);

/// Probe every region of a cluster that `orrery up` made, and report what its clients were served.
#[derive(Debug, Parser)]
#[command(name = "orrery sla")]
struct Arguments {
    /// The directory that `orrery up` made.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    output: PathBuf,

    /// How long to probe: 90s, 10m, 1h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "1m")]
    lasting: Duration,

    /// Requests a second of each kind, from each region.
    #[arg(long, default_value = "10")]
    rate: f64,

    /// Levels of the reads.
    #[arg(long, value_delimiter = ',', default_value = "strong,bounded,session,prefix,eventual")]
    levels: Vec<Level>,

    /// How old what bounded reads see may be.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    max_staleness: Duration,

    /// Where the report goes: FILE.html, FILE.json, FILE.jsonl.
    #[arg(long, value_name = "FILE", default_value = "sla-report")]
    report: PathBuf,

    /// Probe nothing: make the report of a run that was kept (FILE.jsonl).
    #[arg(long, value_name = "HISTORY")]
    from: Option<PathBuf>,

    /// The history of another server's run, to stand beside.
    #[arg(long, value_name = "HISTORY")]
    beside: Option<PathBuf>,

    /// Output format (table, json).
    #[arg(short = 'w', long = "write-out", default_value = "table")]
    write_out: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// A number with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; one is 90s, 10m, 1h");
    let unit = text.find(char::is_alphabetic).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// `arguments` begin with the word `sla`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Arguments =
        match parse(arguments).map_err(|it| anyhow!("sla: {}", it.message))? {
            Parsed::Print(text) => return super::print(&text),
            Parsed::Run(arguments) => arguments,
        };
    let summary = make(&arguments).context("sla")?;
    let text = match arguments.write_out {
        Format::Table => terminal::table(&summary),
        Format::Json => serde_json::to_string_pretty(&summary)? + "\n",
    };
    super::print(&text)?;
    Ok(if summary.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn make(arguments: &Arguments) -> anyhow::Result<Summary> {
    ensure!(
        arguments.rate > 0.0 && arguments.rate <= RATE_MAX,
        "--rate {}: between 0 and {RATE_MAX} requests a second",
        arguments.rate
    );
    ensure!(arguments.lasting >= Duration::from_secs(1), "--for: at least 1s");
    let beside = arguments.beside.as_deref().map(history).transpose()?;
    let history = match &arguments.from {
        Some(file) => history(file)?,
        None => {
            let history = probe(arguments, &Output::new(&arguments.output)?)?;
            write(&arguments.report, "jsonl", &history.to_lines()?)?;
            history
        }
    };
    let summary = Summary::of(&history);
    write(&arguments.report, "json", &serde_json::to_string_pretty(&summary)?)?;
    write(&arguments.report, "html", &page::html(&history, beside.as_ref()))?;
    Ok(summary)
}

fn history(file: &Path) -> anyhow::Result<History> {
    let about = || file.display().to_string();
    let text = fs::read_to_string(file).with_context(about)?;
    History::of_lines(&text).with_context(about)
}

fn write(report: &Path, extension: &str, text: &str) -> anyhow::Result<()> {
    let file = report.with_added_extension(extension);
    fs::write(&file, text).with_context(|| file.display().to_string())
}

fn probe(arguments: &Arguments, output: &Output) -> anyhow::Result<History> {
    let state = output.made()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(probe_all(arguments, output, &state))
}

async fn probe_all(
    arguments: &Arguments,
    output: &Output,
    state: &State,
) -> anyhow::Result<History> {
    let acts: Vec<Act> =
        [Act::Write].into_iter().chain(arguments.levels.iter().copied().map(Act::Read)).collect();
    let plan = Plan {
        acts: acts.clone(),
        rate: arguments.rate,
        lasting: arguments.lasting,
        max_staleness: arguments.max_staleness,
    };
    let regions: Vec<Region> = state.plan.account.locations.iter().map(region).collect();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let keys = Arc::new(Keys::new(&format!("{:x}", unix.as_millis()), regions.len()));
    let found = Arc::new(Mutex::new(Vec::new()));
    let mut channels = Vec::new();
    for region in &regions {
        let endpoints = state.endpoints(&region.name);
        let first = endpoints.first().with_context(|| format!("{}: no member", region.name))?;
        channels.push(output.connect(&first.url).await?);
    }
    let began = Instant::now();
    let mut probers = tokio::task::JoinSet::new();
    for (place, channel) in channels.iter().enumerate() {
        let shared = (began, found.clone());
        let prober = Prober::new(place, channel.clone(), plan.clone(), keys.clone(), shared);
        probers.spawn(prober.run());
    }
    let progress = terminal::Live::new(arguments.lasting, began, found.clone());
    let showing = tokio::spawn(progress.show());
    while probers.join_next().await.is_some() {}
    showing.abort();
    let seconds = began.elapsed().as_secs_f64();
    let mut probes: Vec<Probe> =
        std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    probes.sort_by_key(|probe| probe.due);
    let last = prober::read_all(&channels, &keys, SETTLING).await;
    let registers = Registers::of(&probes, keys.made());
    let run = Run {
        server: prober::server(&channels).await,
        began_unix_ms: unix.as_millis() as u64,
        seconds,
        round_trips_ms: round_trips(state, &regions),
        regions,
        acts,
        rate: arguments.rate,
        max_staleness_ms: arguments.max_staleness.as_millis() as u64,
        faults: journal::during(output, unix, seconds)?,
        lost: registers.lost(&last),
        unread: last.iter().filter(|found| found.is_none()).count() as u64,
        keys: keys.made(),
    };
    Ok(History { run, probes })
}

fn region(location: &Location) -> Region {
    let failover_priority = u32::try_from(location.failover_priority).ok();
    Region { name: location.location_name.clone(), failover_priority }
}

fn round_trips(state: &State, regions: &[Region]) -> Vec<Vec<f64>> {
    let between = |one: &Region, other: &Region| {
        let round_trip = state.plan.matrix.round_trip(&one.name, &other.name);
        if one == other { 0.0 } else { round_trip.unwrap_or_default().as_secs_f64() * 1000.0 }
    };
    regions.iter().map(|one| regions.iter().map(|other| between(one, other)).collect()).collect()
}
