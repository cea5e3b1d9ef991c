//! The command line: the server, and the tools beside it.

mod certs;
mod credentials;
mod discovery;
mod doors;
mod etcdutl;
mod failure;
mod features;
mod member;
mod progress;
mod serve;
mod snapshot;

use std::{ffi::OsString, process::ExitCode};

use crate::config::{self, Asked, Config};

/// Words that will be commands; refused until they are, instead of being taken for wrong flags.
const RESERVED: [&str; 6] = ["up", "verify", "down", "region", "chaos", "sla"];

/// The name of etcd's offline tool, whose place the program takes when it is called so.
const ETCDUTL: &str = "etcdutl";

/// Runs what this process's arguments ask for. Whatever goes wrong is one line on standard error
/// and exit status 1.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = config::arguments().collect();
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Causes behind the message are part of the one line.
            eprintln!("orrery: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if config::program() == ETCDUTL {
        return etcdutl::run(arguments);
    }
    match arguments.first().and_then(|first| first.to_str()) {
        Some("certs") => certs::run(arguments),
        Some("snapshot") => snapshot::run(arguments),
        Some(word) if RESERVED.contains(&word) => anyhow::bail!("{word}: not available yet"),
        _ => match Config::of_process(arguments)? {
            Asked::Print(text) => print(&text),
            Asked::Serve(config, warnings) => serve::run(*config, &warnings),
        },
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    // A reader that has seen enough (`orrery --help | head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
