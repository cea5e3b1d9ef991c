//! The `orrery` binary: the server and its tools. See [`orrery::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    orrery::cli::run()
}
