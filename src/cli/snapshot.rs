//! `orrery snapshot save | status | restore`, and the same by the name of `etcdutl snapshot`: their
//! flags, words, formats and exit statuses are those of etcdctl and etcdutl.

mod restore;
mod save;
mod show;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, fs::File, path::Path, process::ExitCode};

use clap::{
    Args, Parser, Subcommand,
    error::{ContextKind, ErrorKind},
};

use super::{
    failure::{self, Exit, Failure, failed},
    progress::Progress,
};
use crate::{bbolt::Database, exchange};

/// Save the state of a member, look at what was saved, make a member of it.
#[derive(Debug, Parser)]
#[command(name = "orrery snapshot", disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

/// How what was found is shown.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// Output format (fields, json, protobuf, simple, table).
    #[arg(short = 'w', long = "write-out", global = true, default_value = "simple")]
    write_out: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store a member's state in a file.
    Save(save::Arguments),
    #[command(flatten)]
    Offline(Offline),
}

/// What needs no member.
#[derive(Debug, Subcommand)]
pub(super) enum Offline {
    /// Say what a file holds: hash, revision, total keys, total size, version.
    Status {
        #[arg(value_name = "FILE")]
        files: Vec<String>,
    },
    /// Make a member's data directory of a file, or of a data directory that etcd left behind.
    Restore(restore::Arguments),
}

/// `arguments` begin with the word `snapshot`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    failure::end(parse(arguments).and_then(|parsed| match parsed {
        Parsed::Print(text) => Ok(text),
        Parsed::Run(Arguments { command: Command::Save(arguments), .. }) => save::run(arguments),
        Parsed::Run(Arguments { command: Command::Offline(offline), output }) => {
            offline.run(&output)
        }
    }))
}

impl Offline {
    /// What is to be printed.
    pub(super) fn run(self, output: &Output) -> Result<String, Failure> {
        match self {
            Offline::Status { files } => status(&files, output),
            Offline::Restore(arguments) => restore::run(arguments),
        }
    }
}

fn status(files: &[String], output: &Output) -> Result<String, Failure> {
    let [file] = files else {
        let what = "snapshot status requires exactly one argument";
        return Err(Failure::new(Exit::BadArguments, what));
    };
    if let Err(error) = std::fs::metadata(file) {
        return Err(failed(format!("stat {file}: {}", plain(&error))));
    }
    let format = show::Format::parse(&output.write_out)?;
    let database = open(file)?;
    let mut progress = Progress::new("reading");
    let status = exchange::status(&database, &mut |done, of| progress.at(done, of));
    drop(progress);
    let status = status.map_err(|error| match error {
        exchange::Error::Database(error) => {
            failed(format!("snapshot file integrity check failed. 1 errors found.\n{error}"))
        }
        error => failed(error),
    })?;
    format.status(&status)
}

/// `etcdutl hashkv`: HashKV of the rows in a file.
pub(super) fn hash_kv(file: &str, revision: i64, output: &Output) -> Result<String, Failure> {
    let format = show::Format::parse(&output.write_out)?;
    if let Err(error) = std::fs::metadata(file) {
        return Err(failed(format!("stat {file}: {}", plain(&error))));
    }
    let hash = exchange::hash_kv(&open(file)?, revision).map_err(|error| match error {
        exchange::Error::Mvcc(crate::mvcc::Error::Compacted(_)) => {
            failed("mvcc: required revision has been compacted")
        }
        exchange::Error::Mvcc(crate::mvcc::Error::FutureRevision(_)) => {
            failed("mvcc: required revision is a future revision")
        }
        error => failed(error),
    })?;
    format.hash_kv(&hash)
}

fn open(file: &str) -> Result<Database, Failure> {
    let opened = File::open(Path::new(file));
    let opened = opened.map_err(|error| failed(format!("open {file}: {}", plain(&error))))?;
    Database::open(opened).map_err(failed)
}

/// As Go says it: without a capital and the number.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

#[derive(Debug)]
pub(super) enum Parsed<A> {
    /// Somebody asked for help.
    Print(String),
    Run(A),
}

/// Reads a command line; what is wrong with it is said in one line.
pub(super) fn parse<A: Parser>(arguments: Vec<OsString>) -> Result<Parsed<A>, Failure> {
    match A::try_parse_from(arguments) {
        Ok(arguments) => Ok(Parsed::Run(arguments)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Ok(Parsed::Print(error.to_string()))
            }
            ErrorKind::UnknownArgument => {
                let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string);
                Err(failed(format!("unknown flag: {}", flag.unwrap_or_default())))
            }
            ErrorKind::InvalidSubcommand => {
                let word = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string);
                Err(failed(format!("unknown command {:?}", word.unwrap_or_default())))
            }
            _ => {
                let text = error.to_string();
                let text = text.trim_start_matches("error: ");
                let first = text.split("\n\n").next().unwrap_or_default();
                Err(failed(first.split_whitespace().collect::<Vec<_>>().join(" ")))
            }
        },
    }
}
