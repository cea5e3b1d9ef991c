//! The `jepsen` binary: runs, and what they found.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use orrery_jepsen::{
    check::{Checked, Verdict},
    history::History,
    nemesis::Nemesis,
    run::{self, Plan},
    server::{Kind, Server},
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
    /// Broken on purpose: nothing is synced.
    #[arg(long)]
    without_syncing: bool,
    /// Where the history, the logs and the report go.
    #[arg(long, default_value = "jepsen-run")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jepsen: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<ExitCode> {
    if let Command::Check { history } = &arguments.command {
        return Ok(tell(&run::check(&History::read(history)?)?));
    }
    if !isolate::is_inside() {
        let _machine = isolate::machine()?;
        return isolate::run_inside();
    }
    let workplace = isolate::Workplace::make()?;
    match arguments.command {
        Command::Check { .. } => bail!("checked outside"),
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
    }
}

fn run_one(arguments: &RunArguments, workplace: &Path) -> Result<ExitCode> {
    let binary = match arguments.server {
        Kind::Orrery => arguments.binary.clone().map_or_else(beside, Ok)?,
        Kind::Etcd => arguments.etcd.clone().context("--etcd names etcd's binary")?,
    };
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let plan = Plan {
        server: Server::new(arguments.server, binary)?,
        workload: arguments.workload,
        nemesis: arguments.nemesis,
        seed,
        members: arguments.members,
        duration: Duration::from_secs(arguments.seconds),
        without_syncing: arguments.without_syncing,
        clock_shim: shim(),
        began_at: orrery_jepsen::tool::run("date", &["--iso-8601=seconds"])?.trim().to_owned(),
    };
    say(&format!("{} under {}, seed {seed}", plan.workload.name(), plan.nemesis.name()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(run::run(&plan, workplace));
    std::fs::create_dir_all(&arguments.out)?;
    keep_logs(workplace, &arguments.out)?;
    let history = ran?;
    history.write(&arguments.out.join("history.jsonl"))?;
    let checked = run::check(&history)?;
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

/// Copies what members logged.
fn keep_logs(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
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
