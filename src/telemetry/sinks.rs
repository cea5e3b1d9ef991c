//! Where log lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::{Options, Output, journal::Journal, line, rotate::Rotated};

/// All outputs of a process. Each line goes to each of them; one that fails does not keep it from
/// the others.
pub(crate) struct Sinks(Vec<Sink>);

enum Sink {
    Stderr,
    Stdout,
    Journal(Journal),
    /// Opened to append, so that each line is written where the file ends.
    File(File),
    Rotated(Mutex<Rotated>),
}

/// An output that cannot be opened, in zap's words.
#[derive(Debug, thiserror::Error)]
#[error("open sink {path:?}: open {}: {error}", .path.display())]
pub struct OpenError {
    path: PathBuf,
    error: io::Error,
}

impl Sinks {
    /// # Errors
    /// Names the file that cannot be opened.
    pub(crate) fn open(options: &Options) -> Result<Sinks, OpenError> {
        let open = |output: &Output| match output {
            Output::Stderr => Ok(Sink::Stderr),
            Output::Stdout => Ok(Sink::Stdout),
            Output::Journal => {
                Journal::open().map(Sink::Journal).map_err(failed(Path::new(Journal::SOCKET)))
            }
            Output::File(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(path);
                opened.map(Sink::File).map_err(failed(path))
            }
            Output::Rotated(path, rotation) => {
                let opened = Rotated::open(path, *rotation);
                opened.map(|file| Sink::Rotated(Mutex::new(file))).map_err(failed(path))
            }
        };
        options.outputs.iter().map(open).collect::<Result<_, _>>().map(Sinks)
    }

    /// Standard error alone: before the options are known.
    pub(crate) fn stderr() -> Sinks {
        Sinks(vec![Sink::Stderr])
    }

    pub(crate) fn write(&self, level: &str, line: &[u8]) {
        for sink in &self.0 {
            // Nobody can be told that telling fails.
            let _ = match sink {
                Sink::Stderr => io::stderr().lock().write_all(line),
                Sink::Stdout => io::stdout().lock().write_all(line),
                Sink::Journal(journal) => {
                    journal.send(level, line).or_else(|_| io::stderr().lock().write_all(line))
                }
                Sink::File(file) => (&*file).write_all(line),
                // A line half written is the worst that a panic there leaves.
                Sink::Rotated(file) => {
                    file.lock().unwrap_or_else(PoisonError::into_inner).write(line)
                }
            };
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> OpenError {
    |error| OpenError { path: path.to_owned(), error }
}

/// Takes the lines of one level; the subscriber gives each in one piece.
pub(crate) struct Leveled<'a> {
    sinks: &'a Sinks,
    level: &'static str,
}

impl Write for Leveled<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sinks.write(self.level, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The outputs as the subscriber takes them.
pub(crate) struct Shared(pub(crate) Arc<Sinks>);

impl<'a> MakeWriter<'a> for Shared {
    type Writer = Leveled<'a>;

    fn make_writer(&'a self) -> Leveled<'a> {
        Leveled { sinks: &self.0, level: "info" }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Leveled<'a> {
        Leveled { sinks: &self.0, level: line::level_name(*metadata.level()) }
    }
}
