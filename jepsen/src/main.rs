//! The `jepsen` binary: runs, and what they found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use orrery_jepsen::{
    check::{Checked, Verdict},
    history::History,
    matrix::summary::Cell,
    nemesis::Nemesis,
    report::{self, Links},
    run::{self, Plan},
    server::{Kind, Server},
    suite::{self, Places},
    workload::Workload,
    world::{isolate, probe},
};

/// Runs real members while everything breaks, and checks what their clients saw.
///
/// Exit status: 0 valid, 1 violation, 2 unknown, 3 the harness failed.
#[derive(Parser)]
#[command(name = "jepsen")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says which faults this machine can do, and why not the others.
    Probe,
    /// One run.
    Run(RunArguments),
    /// Checks the history of a run again.
    Check { history: PathBuf },
    /// What every change must pass, and the broken builds that must be found.
    Smoke {
        /// Of the last run; chosen and printed when it is not given.
        #[arg(long)]
        seed: Option<u64>,
        /// A build with the feature `failpoints`.
        #[arg(long)]
        broken: PathBuf,
        #[arg(long, default_value = "jepsen/runs")]
        runs: PathBuf,
    },
    /// The cells that have no result yet.
    Matrix {
        /// At most so many now.
        #[arg(long)]
        cells: Option<usize>,
        #[arg(long, default_value = "jepsen/runs")]
        runs: PathBuf,
        #[arg(long, default_value = "jepsen/results")]
        results: PathBuf,
        #[arg(long, default_value = "jepsen/RESULTS.md")]
        summary: PathBuf,
    },
    /// Everything at once, for hours.
    Soak {
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        #[arg(long, default_value = "jepsen/runs")]
        runs: PathBuf,
    },
}

#[derive(clap::Args, Clone)]
struct RunArguments {
    #[arg(long, value_enum, default_value = "register")]
    workload: Workload,
    #[arg(long, value_enum, default_value = "kill")]
    nemesis: Nemesis,
    /// Of everything random; chosen and printed when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 3)]
    members: usize,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[arg(long, value_enum, default_value = "orrery")]
    server: Kind,
    /// The server's binary.
    #[arg(long, env = "ORRERY_BIN")]
    binary: Option<PathBuf>,
    /// etcd's binary.
    #[arg(long, env = "ETCD")]
    etcd: Option<PathBuf>,
    /// Broken on purpose: what the server's build with failpoints is told.
    #[arg(long)]
    failpoints: Option<String>,
    /// Broken on purpose: nothing is synced.
    #[arg(long)]
    without_syncing: bool,
    /// Members want certificates, and clients come in with a password.
    #[arg(long)]
    secure: bool,
    /// Where the history, the logs and the report go.
    #[arg(long, default_value = "jepsen-run")]
    out: PathBuf,
}

/// Nothing was found out, for a reason that is not the servers'.
const HARNESS_FAILED: u8 = 3;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(instead) => {
            // Standard output or error is gone: so is whoever would read it.
            let _ = instead.print();
            // Its own status for a mistake is 2, which is a verdict here.
            return if instead.use_stderr() { HARNESS_FAILED.into() } else { ExitCode::SUCCESS };
        }
    };
    match carry_out(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jepsen: {error:#}");
            HARNESS_FAILED.into()
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<ExitCode> {
    let places = |runs: &Path| Places {
        runs: runs.to_owned(),
        results: PathBuf::new(),
        summary: PathBuf::new(),
        broken: None,
    };
    match &arguments.command {
        Command::Check { history } => {
            return Ok(tell(&run::check(&History::read(history)?)?));
        }
        Command::Smoke { seed, broken, runs } => {
            let broken = Some(broken.clone());
            let seed = seed.unwrap_or_else(rand::random);
            return suite::smoke(&Places { broken, ..places(runs) }, seed, &say);
        }
        Command::Matrix { cells, runs, results, summary } => {
            let (results, summary) = (results.clone(), summary.clone());
            return suite::matrix(&Places { results, summary, ..places(runs) }, *cells, &say);
        }
        Command::Soak { hours, runs } => return suite::soak(&places(runs), *hours, &say),
        Command::Probe | Command::Run(_) => {}
    }
    if !isolate::is_inside() {
        let _machine = isolate::machine()?;
        return isolate::run_inside();
    }
    let workplace = isolate::Workplace::make()?;
    match arguments.command {
        Command::Probe => {
            let mut code = ExitCode::SUCCESS;
            for ability in probe::probe(workplace.path(), shim().as_deref())? {
                let missing = ability.missing.map_or("yes".to_owned(), |why| {
                    code = ExitCode::from(2);
                    format!("NO: {why}")
                });
                say(&format!("{}: {missing}", ability.name));
            }
            Ok(code)
        }
        Command::Run(arguments) => run_one(&arguments, workplace.path()),
        _ => bail!("this needs no namespaces"),
    }
}

fn run_one(arguments: &RunArguments, workplace: &Path) -> Result<ExitCode> {
    let binary = match arguments.server {
        Kind::Orrery => arguments.binary.clone().map_or_else(beside, Ok)?,
        Kind::Etcd => arguments.etcd.clone().context("--etcd names etcd's binary")?,
    };
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let (members, nemesis) = (arguments.members, arguments.nemesis);
    if !(1..=9).contains(&members) || !nemesis.is_for(members) {
        bail!("--members={members}: {} needs from 3 to 9 members", nemesis.name());
    }
    let mut server = Server::new(arguments.server, binary)?;
    if let Some(failpoints) = &arguments.failpoints {
        server.environment.push(("FAILPOINTS".to_owned(), failpoints.clone()));
    }
    let plan = Plan {
        server,
        workload: arguments.workload,
        nemesis: arguments.nemesis,
        seed,
        members: arguments.members,
        duration: Duration::from_secs(arguments.seconds),
        without_syncing: arguments.without_syncing,
        clock_shim: shim(),
        secure: arguments.secure,
        began_at: orrery_jepsen::tool::run("date", &["--iso-8601=seconds"])?.trim().to_owned(),
    };
    say(&format!("{} under {}, seed {seed}", plan.workload.name(), plan.nemesis.name()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(run::run(&plan, workplace));
    fs::create_dir_all(&arguments.out)?;
    keep_logs(workplace, &arguments.out)?;
    let history = ran?;
    history.write(&arguments.out.join("history.jsonl"))?;
    let checked = run::check(&history)?;
    let log = |at: usize| (format!("m{at}.log"), format!("m{at}.log"));
    let links = Links {
        history: Some("history.jsonl".to_owned()),
        others: (0..arguments.members).map(log).collect(),
    };
    fs::write(arguments.out.join("report.html"), report::html(&history, &checked, &links))?;
    let cell = Cell::from(&history, &checked, &commit());
    fs::write(arguments.out.join("cell.json"), serde_json::to_string_pretty(&cell)?)?;
    for fault in &history.faults {
        let recovered = fault.recovered.map(|at| Duration::from_nanos(at - fault.ended));
        let outage = Duration::from_nanos(fault.outage);
        let evidence = fault.evidence.as_deref().unwrap_or("NO EFFECT SEEN");
        say(&format!(
            "  {}: {}; {evidence}; nobody served for {outage:?}, recovered {recovered:?}",
            fault.name, fault.detail
        ));
    }
    say(&format!("{} steps, {} calls", history.steps.len(), history.calls.len()));
    say(&format!("{:?}", history.ending));
    Ok(tell(&checked))
}

/// What is tested, as the version control names it.
fn commit() -> String {
    let named = orrery_jepsen::tool::run("git", &["rev-parse", "--short", "HEAD"]);
    named.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Copies what members logged.
fn keep_logs(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Says each verdict, and gives the exit status of all.
fn tell(checked: &[Checked]) -> ExitCode {
    let mut all = Verdict::Valid;
    for one in checked {
        let verdict = match &one.verdict {
            Verdict::Valid => "valid".to_owned(),
            Verdict::Unknown(reason) => format!("UNKNOWN: {reason}"),
            Verdict::Violated(proof) => format!("VIOLATED\n{proof}"),
        };
        say(&format!("{}: {} checked; {verdict}", one.name, one.checked));
        one.notes.iter().for_each(|note| say(&format!("  {note}")));
        all = all.and(one.verdict.clone());
    }
    match all {
        Verdict::Valid => ExitCode::SUCCESS,
        Verdict::Violated(_) => ExitCode::from(1),
        Verdict::Unknown(_) => ExitCode::from(2),
    }
}

/// The server that was built with this.
fn beside() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("orrery"))
}

/// The library that shifts clocks, if it was built with this.
fn shim() -> Option<PathBuf> {
    let library = std::env::current_exe().ok()?.with_file_name("liborrery_clockshim.so");
    library.exists().then_some(library)
}

#[expect(clippy::print_stdout, reason = "a tool that people read")]
fn say(text: &str) {
    println!("{text}");
}
