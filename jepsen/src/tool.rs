//! Running the system's own tools: `ip`, `nft`, `mount` and the like.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs a tool to its end and gives what it printed.
///
/// # Errors It can't be started, or says that it failed; with its own words.
pub fn run(name: &str, arguments: &[&str]) -> Result<String> {
    fed(name, arguments, "")
}

/// As [`run`], with something on its standard input.
///
/// # Errors As [`run`].
pub fn fed(name: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| name.to_owned())?;
    let mut stdin = child.stdin.take().context("the tool has no standard input")?;
    // A tool that fails early closes it; its own words say more than the broken pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(|| name.to_owned())?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{name} {}: {}", arguments.join(" "), complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
