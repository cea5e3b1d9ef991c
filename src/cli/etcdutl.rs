//! What the program does when it is called by the name of etcd's offline tool.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use super::{
    failure::{self, Exit, Failure, failed},
    snapshot::{self, Offline, Output, Parsed},
};
use crate::{exchange, grpc::version, node::data_dir::DataDir};

/// An administrative command line tool, as etcd's etcdutl.
#[derive(Debug, Parser)]
#[command(name = "etcdutl", disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    output: Output,

    /// Accepted as by etcdutl: nothing here waits for a lock.
    #[arg(long, global = true, default_value = "10s")]
    timeout: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage snapshots.
    #[command(subcommand)]
    Snapshot(Offline),
    /// Print the KV history hash of a given file.
    Hashkv {
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        /// Maximum revision to hash (default: latest revision).
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        rev: i64,
    },
    /// Print the version.
    Version,
    /// Nothing to do here: see the answer.
    Defrag {
        #[arg(long, value_name = "DIR", default_value = "")]
        data_dir: String,
    },
    /// Nothing to do here: see the answer.
    Migrate {
        #[arg(long, value_name = "DIR", default_value = "")]
        data_dir: String,
        #[arg(long, value_name = "VERSION", default_value = "")]
        target_version: String,
        #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false,
              default_missing_value = "true", action = clap::ArgAction::Set)]
        force: bool,
    },
}

/// `arguments` are those behind the program's name.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments = [vec!["etcdutl".into()], arguments].concat();
    failure::end(snapshot::parse(arguments).and_then(|parsed| match parsed {
        Parsed::Print(text) => Ok(text),
        Parsed::Run(arguments) => execute(arguments),
    }))
}

fn execute(arguments: Arguments) -> Result<String, Failure> {
    let Arguments { output, command, timeout: _ } = arguments;
    match command {
        Command::Snapshot(offline) => offline.run(&output),
        Command::Hashkv { files, rev } => match files.as_slice() {
            [file] => snapshot::hash_kv(file, rev, &output),
            files => Err(failed(format!("accepts 1 arg(s), received {}", files.len()))),
        },
        Command::Version => {
            let api = version::SERVER.rsplit_once('.').map_or("", |(minor, _)| minor);
            Ok(format!("etcdutl version: {}\nAPI version: {api}\n", version::SERVER))
        }
        Command::Defrag { data_dir } => {
            ours("defrag", &data_dir)?;
            Ok(format!(
                "{data_dir} needs no defragmentation: space is given back while the member runs; \
                 `etcdctl defrag` asks it to do so at once\n"
            ))
        }
        Command::Migrate { data_dir, target_version, force: _ } => {
            migrate(&data_dir, &target_version)
        }
    }
}

fn migrate(data_dir: &str, target: &str) -> Result<String, Failure> {
    if target.is_empty() {
        return Err(failed("required flag(s) \"target-version\" not set"));
    }
    ours("migrate", data_dir)?;
    match version::SERVER.starts_with(target) {
        true => Ok(format!("{data_dir} needs no migration: storage version up-to-date\n")),
        false => Err(failed(format!(
            "{data_dir} is no data of etcd, and its format has no versions of etcd; to go to etcd \
             {target}, save a snapshot and restore it with that release's etcdutl"
        ))),
    }
}

/// Only a member's own directory can be spoken of.
fn ours(command: &str, data_dir: &str) -> Result<(), Failure> {
    if data_dir.is_empty() {
        return Err(Failure::new(Exit::Error, "required flag(s) \"data-dir\" not set"));
    }
    let path = std::path::Path::new(data_dir);
    if exchange::find(path).is_some() {
        return Err(failed(format!(
            "{data_dir} holds data of etcd, which is never changed; {command} it with etcd's own \
             etcdutl, or import it with `etcdutl snapshot restore {data_dir} --data-dir NEW`"
        )));
    }
    match DataDir::holds_member(path) {
        true => Ok(()),
        false => Err(failed(format!("{data_dir} holds no member's data"))),
    }
}
