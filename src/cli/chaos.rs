//! `orrery chaos`: breaks a part of a cluster that `orrery up` made, for a while.
//!
//! A process of its own does it, in a session of its own, and undoes it: when the time is up, when
//! it is told to stop, and also when whoever asked for it is gone. What it does to the network has
//! a lease besides, after which the network undoes it by itself.

mod drill;
mod fault;
mod inflict;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use self::fault::Target;
use super::{
    detached,
    output::{DIRECTORY, Output},
    sla::duration,
    snapshot::{Parsed, parse},
};

/// The longest that anything is broken.
const LASTING_MAX: Duration = Duration::from_secs(24 * 3600);

/// Break a part of the cluster, and mend it again.
///
/// MEMBER is a member's name, or `leader`; REGION a region's, or `leader` for the one where the
/// leader is.
#[derive(Debug, Parser)]
#[command(name = "orrery chaos", disable_help_subcommand = true)]
struct Arguments {
    /// The directory that `orrery up` made.
    #[arg(long, global = true, value_name = "DIR", default_value = DIRECTORY)]
    output: PathBuf,

    /// How long it stays broken: 500ms, 30s, 10m.
    #[arg(
        long = "for",
        global = true,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "30s"
    )]
    lasting: Duration,

    /// Do it even if no majority of the members is left.
    #[arg(long, global = true)]
    without_majority: bool,

    /// Do it in this process.
    #[arg(long, global = true, hide = true)]
    in_person: bool,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    One(One),
    /// One fault after another, of all kinds.
    Drill(drill::Drill),
}

/// A single fault.
#[derive(Debug, Subcommand)]
enum One {
    /// Kill a member's process; it is started again at the end.
    Kill {
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// Stop a member's process, as a machine does that hangs; it goes on at the end.
    Pause {
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// Kill all members of a zone and cut it off.
    LoseZone {
        #[arg(value_name = "REGION/ZONE")]
        zone: String,
    },
    /// Kill all members of a region and cut it off, its clients too.
    LoseRegion {
        #[arg(value_name = "REGION")]
        region: String,
    },
    /// Cut a region off from all others; its members and clients still reach each other.
    Isolate {
        #[arg(value_name = "REGION")]
        region: String,
    },
    /// Cut one member off from all others.
    IsolateMember {
        #[arg(value_name = "MEMBER")]
        member: String,
    },
    /// Whatever leaves or reaches a region takes longer, each way.
    Slow {
        #[arg(value_name = "REGION")]
        region: String,
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "200ms")]
        by: Duration,
    },
    /// Nothing comes through from one region to another; the other way everything does.
    Cut {
        #[arg(value_name = "FROM")]
        from: String,
        #[arg(value_name = "TO")]
        to: String,
    },
}

/// `arguments` begin with the word `chaos`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let given = arguments.clone();
    let arguments: Arguments =
        match parse(arguments).map_err(|it| anyhow!("chaos: {}", it.message))? {
            Parsed::Print(text) => return super::print(&text),
            Parsed::Run(arguments) => arguments,
        };
    ensure!(
        !arguments.lasting.is_zero() && arguments.lasting <= LASTING_MAX,
        "chaos: --for: more than nothing and at most 24h"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("chaos: cannot start the runtime")?;
    match arguments.in_person {
        true => runtime.block_on(inflict(&arguments)).context("chaos")?,
        false => return runtime.block_on(have_it_done(&arguments.output, given)).context("chaos"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Has another process do it, and waits for it. What ends this one does not end that.
async fn have_it_done(dir: &Path, given: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let output = Output::new(dir)?;
    output.made()?;
    let record = output.record(&format!("chaos-{}", std::process::id()));
    let arguments = given.into_iter().chain(["--in-person".into()]);
    let mut command = tokio::process::Command::from(detached::command(&record, arguments)?);
    let mut child = command.stdout(Stdio::inherit()).stderr(Stdio::inherit()).spawn()?;
    let (mut stop, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = stop.recv() => {}
            _ = interrupt.recv() => {}
        }
        // It has not been waited for, so the number is still its own.
        if let Some(pid) = child.id() {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    };
    let _ = std::fs::remove_file(&record);
    if status.code().is_none() {
        inflict::mend_everything(&output, &output.made()?).await?;
        bail!("whoever did it was killed ({status}); all is undone");
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn inflict(arguments: &Arguments) -> anyhow::Result<()> {
    let output = Output::new(&arguments.output)?;
    let state = output.made()?;
    let mut stop = signal(SignalKind::terminate())?;
    let surgeon = inflict::Surgeon {
        output: &output,
        state: &state,
        lasting: arguments.lasting,
        without_majority: arguments.without_majority,
    };
    match &arguments.what {
        What::Drill(drill) => drill.run(&surgeon, &mut stop).await,
        What::One(one) => {
            let fault = surgeon.plan(target(one)).await?;
            surgeon.do_and_undo(fault, &mut stop).await.map(drop)
        }
    }
}

fn target(one: &One) -> Target {
    match one {
        One::Kill { member } => Target::Kill(member.clone()),
        One::Pause { member } => Target::Pause(member.clone()),
        One::LoseZone { zone } => Target::LoseZone(zone.clone()),
        One::LoseRegion { region } => Target::LoseRegion(region.clone()),
        One::Isolate { region } => Target::Isolate(region.clone()),
        One::IsolateMember { member } => Target::IsolateMember(member.clone()),
        One::Slow { region, by } => Target::Slow(region.clone(), *by),
        One::Cut { from, to } => Target::Cut(from.clone(), to.clone()),
    }
}
