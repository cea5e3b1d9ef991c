//! How tools end that stand in for etcd's: its exit statuses, its way to say what went wrong.

use std::{fmt::Display, process::ExitCode};

/// Exit statuses of etcdctl and etcdutl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Error = 1,
    BadFeature = 4,
    Interrupted = 5,
    BadArguments = 128,
}

/// Why a tool ends without having done its work.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

/// An error like any other.
pub(super) fn failed(error: impl Display) -> Failure {
    Failure::new(Exit::Error, error)
}

/// Says what went wrong as etcd's tools do.
pub(super) fn end(outcome: Result<String, Failure>) -> anyhow::Result<ExitCode> {
    match outcome {
        Ok(text) => super::print(&text),
        Err(Failure { exit, message }) => {
            eprintln!("Error: {message}");
            Ok(ExitCode::from(exit as u8))
        }
    }
}
