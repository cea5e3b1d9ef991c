//! The sets of runs that `make` has targets for: smoke, matrix, soak.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    matrix::{self, Plan, summary::Cell},
    nemesis::Nemesis,
    server::Kind,
    smoke::{Broken, CONTROL_SEEDS, CONTROLS, Control, RUNS},
    workload::Workload,
    world::isolate,
};

/// A segment of a soak: what is valid is forgotten, so that a soak can last.
const SEGMENT_SECONDS: u64 = 600;

/// Exit status of a run in which a promise was broken.
const VIOLATED: Option<i32> = Some(1);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Histories, reports and logs of runs.
    pub runs: PathBuf,
    /// One file per finished cell.
    pub results: PathBuf,
    pub summary: PathBuf,
    /// The build with failpoints.
    pub broken: Option<PathBuf>,
}

/// The smoke set, then every broken build. Valid only if the first are and none of the others is.
///
/// # Errors The harness can't do what it wants.
pub fn smoke(places: &Places, seed: u64, say: &dyn Fn(&str)) -> Result<ExitCode> {
    let _machine = isolate::machine()?;
    fs::create_dir_all(&places.runs)?;
    let (begin, mut worst) = (Instant::now(), 0);
    for (number, one) in RUNS.iter().enumerate() {
        // The last has another seed each time, which is printed.
        let seed = if number + 1 == RUNS.len() { seed } else { number as u64 + 1 };
        let plan = Plan {
            server: Kind::Orrery,
            workload: one.workload,
            nemesis: one.nemesis,
            members: 3,
            seconds: one.seconds,
            seed,
        };
        let secure = one.secure.then(|| "--secure".to_owned());
        let (code, out) = run(&plan, &places.runs, secure.as_slice())?;
        tell(&plan, code, &out, say);
        worst = worst.max(code.unwrap_or(3));
    }
    let mut missed = 0;
    for control in &CONTROLS {
        missed += u32::from(!is_found(control, places, say)?);
    }
    let took = begin.elapsed().as_secs();
    let found = CONTROLS.len() as u32 - missed;
    say(&format!(
        "smoke: {} runs, worst exit status {worst}; {found} of {} broken builds found; {took} s",
        RUNS.len(),
        CONTROLS.len()
    ));
    let code = if missed > 0 { 3 } else { worst };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(3)))
}

fn is_found(control: &Control, places: &Places, say: &dyn Fn(&str)) -> Result<bool> {
    let mut extra = Vec::new();
    match control.how {
        Broken::Clients => {}
        Broken::WithoutSyncing => extra.push("--without-syncing".to_owned()),
        Broken::Failpoint(failpoint) => {
            let binary = places.broken.as_ref();
            let binary = binary.context("--broken names the build with failpoints")?;
            extra.push(format!("--binary={}", binary.display()));
            extra.push(format!("--failpoints={failpoint}"));
        }
    }
    for seed in 1..=CONTROL_SEEDS {
        let plan = Plan {
            server: Kind::Orrery,
            workload: control.smoke.workload,
            nemesis: control.smoke.nemesis,
            members: 3,
            seconds: control.smoke.seconds,
            seed,
        };
        let (code, out) = run(&plan, &places.runs.join("broken"), &extra)?;
        // What is the clients' fault must be found as that.
        let is_meant = !matches!(control.how, Broken::Clients) || found(&out).contains("lost");
        if code == VIOLATED && is_meant {
            say(&format!("FOUND with seed {seed}: {}: {}", control.what, found(&out)));
            return Ok(true);
        }
        say(&format!("not found with seed {seed}: {} (exit status {code:?})", control.what));
    }
    say(&format!("NOT FOUND: {}", control.what));
    Ok(false)
}

/// The cells that have no result yet, one after the other; each result is kept at once.
///
/// # Errors The harness can't do what it wants.
pub fn matrix(places: &Places, limit: Option<usize>, say: &dyn Fn(&str)) -> Result<ExitCode> {
    fs::create_dir_all(&places.results)?;
    let left = matrix::left(&places.results)?;
    say(&format!("{} of {} cells left", left.len(), matrix::cells().len()));
    let mut worst = 0;
    for plan in left.iter().take(limit.unwrap_or(usize::MAX)) {
        // Others may have their turn between two cells.
        let _machine = isolate::machine()?;
        let (code, out) = run(plan, &places.runs, &[])?;
        tell(plan, code, &out, say);
        worst = worst.max(code.unwrap_or(3));
        if code == Some(3) || code.is_none() {
            continue;
        }
        let cell = fs::read_to_string(out.join("cell.json")).context("cell.json")?;
        serde_json::from_str::<Cell>(&cell)?.write(&places.results)?;
        matrix::summarize(&places.results, &places.summary)?;
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(3)))
}

/// Everything at once, segment after segment, for some hours. The number of the next segment is
/// kept, so that a soak that was stopped goes on where it was.
///
/// # Errors The harness can't do what it wants.
pub fn soak(places: &Places, hours: f64, say: &dyn Fn(&str)) -> Result<ExitCode> {
    fs::create_dir_all(&places.runs)?;
    let counter = places.runs.join("soak-segment");
    let (begin, mut worst) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs_f64(hours * 3600.0) {
        let _machine = isolate::machine()?;
        let kept = fs::read_to_string(&counter).unwrap_or_default();
        let segment: u64 = kept.trim().parse().unwrap_or(0);
        let plan = Plan {
            server: Kind::Orrery,
            workload: Workload::Mix,
            nemesis: Nemesis::All,
            members: if segment % 3 == 2 { 5 } else { 3 },
            seconds: SEGMENT_SECONDS,
            seed: segment + 1,
        };
        let (code, out) = run(&plan, &places.runs.join("soak"), &[])?;
        tell(&plan, code, &out, say);
        worst = worst.max(code.unwrap_or(3));
        fs::write(&counter, (segment + 1).to_string())?;
        if code == Some(0) {
            fs::remove_dir_all(&out)?;
        }
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(3)))
}

/// Carries a plan out in a process of its own; gives its exit status and where it left what it saw.
fn run(plan: &Plan, runs: &Path, extra: &[String]) -> Result<(Option<i32>, PathBuf)> {
    let out = runs.join(plan.name());
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let printed = File::create(out.join("printed.txt"))?;
    let status = Command::new(std::env::current_exe()?)
        .args(plan.arguments(&out))
        .args(extra)
        // The machine is ours already.
        .env(isolate::LOCKED, "1")
        .stdout(printed.try_clone()?)
        .stderr(printed)
        .status()?;
    Ok((status.code(), out))
}

fn tell(plan: &Plan, code: Option<i32>, out: &Path, say: &dyn Fn(&str)) {
    let verdict = match code {
        Some(0) => "valid".to_owned(),
        VIOLATED => format!("VIOLATED: {}", found(out)),
        Some(2) => format!("UNKNOWN: {}", found(out)),
        other => format!("the harness failed ({other:?}): {}", last(out)),
    };
    say(&format!("{}: {verdict}", plan.name()));
}

/// What was printed of something that is not valid, and the beginning of its proof; violations
/// first.
fn found(out: &Path) -> String {
    let printed = fs::read_to_string(out.join("printed.txt")).unwrap_or_default();
    let lines: Vec<&str> = printed.lines().collect();
    let telling = |word: &str| lines.iter().position(|line| line.contains(word));
    let Some(at) = telling("VIOLATED").or_else(|| telling("UNKNOWN")) else { return String::new() };
    let told: Vec<&str> = lines.iter().skip(at).take(2).copied().collect();
    told.join(" ").chars().take(250).collect()
}

fn last(out: &Path) -> String {
    let printed = fs::read_to_string(out.join("printed.txt")).unwrap_or_default();
    printed.lines().next_back().unwrap_or_default().chars().take(300).collect()
}
