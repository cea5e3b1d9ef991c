//! The command line: the server, and the tools beside it.

mod certs;
mod chaos;
mod client;
mod consistency;
mod credentials;
mod detached;
mod discovery;
mod doors;
mod down;
mod etcdutl;
mod failure;
mod features;
mod member;
mod output;
mod progress;
mod region;
mod serve;
mod sla;
mod snapshot;
mod table;
mod up;
mod upkeep;
mod verify;
mod wal_dir;
mod wan;

use std::{ffi::OsString, process::ExitCode};

use serde_json::Map;

use crate::{
    config::{self, Asked, Config},
    telemetry,
};

/// The name of etcd's offline tool, whose place the program takes when it is called so.
const ETCDUTL: &str = "etcdutl";

/// What Go's flag package ends with.
const USAGE_EXIT: u8 = 2;

/// Runs what this process's arguments ask for. What goes wrong in a tool is one line on standard
/// error and exit status 1; what is wrong with the flags of a member is told as etcd tells it.
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
        Some("region") => region::run(arguments),
        Some("snapshot") => snapshot::run(arguments),
        Some("chaos") => chaos::run(arguments),
        Some("sla") => sla::run(arguments),
        Some("up") => up::run(arguments),
        Some("verify") => verify::run(arguments),
        Some("down") => down::run(arguments),
        Some("wan") => wan::run(arguments),
        Some(detached::WORD) => detached::run(arguments),
        _ => match Config::of_process(arguments) {
            Ok(Asked::Print(text)) => print(&text),
            Ok(Asked::Serve(config, warnings)) => Ok(serve::run(*config, &warnings)),
            Err(error) => Ok(refuse(&error)),
        },
    }
}

/// As etcd refuses: a wrong form with the usage and exit status 2, a wrong value with a line of the
/// log and exit status 1.
fn refuse(error: &config::Error) -> ExitCode {
    if error.is_usage() {
        eprintln!("{error}\n{}", config::USAGE);
        return ExitCode::from(USAGE_EXIT);
    }
    let mut fields = Map::new();
    if let config::Error::Shadowed(variable) = error {
        fields.insert("environment-variable".to_owned(), variable.clone().into());
        telemetry::say("fatal", &error.to_string(), &fields);
        return ExitCode::FAILURE;
    }
    fields.insert("error".to_owned(), error.to_string().into());
    if let Some(about) = error.about() {
        fields.insert("about".to_owned(), about.into());
    }
    telemetry::say("warn", "failed to verify flags", &fields);
    ExitCode::FAILURE
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    // A reader that has seen enough (`orrery --help | head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
