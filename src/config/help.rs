//! What `--help` and `--version` print.

use std::fmt::Write;

use super::{
    Features,
    flags::{Effect, FLAGS, OWN, Section},
};
use crate::grpc::version::SERVER;

pub const USAGE: &str = "\
Usage:

  orrery [flags]
    Start a member. Takes etcd's flags, and its variables: ETCD_ and the flag in capitals.

  orrery --config-file FILE
    Start a member as a YAML file says; all other flags and variables are ignored then. Durations
    are whole nanoseconds there.

  orrery certs --out DIR --host NAME...
    Make an authority and certificates for members and clients.

  orrery region list | set-priorities | failover | offline | online | add | remove | configure
    Where the leader is to be, and what happens when that region is lost.

  orrery snapshot save | status | restore FILE
    Save a member's state, look at what was saved, make a member of it or of what etcd left behind.

  orrery --version
    Show the version.

  orrery -h | --help
    Show this help.
";

/// In the order of the help; each with its heading.
const SECTIONS: [(Section, &str); 9] = [
    (Section::Member, "Member"),
    (Section::Clustering, "Clustering"),
    (Section::Security, "Security"),
    (Section::Auth, "Auth"),
    (Section::Monitoring, "Profiling and Monitoring"),
    (Section::Logging, "Logging"),
    (Section::Tracing, "Distributed tracing"),
    (Section::Features, "Features"),
    (Section::Unsafe, "Unsafe feature"),
];

pub(crate) fn help() -> String {
    let mut help = USAGE.to_owned();
    for (section, heading) in SECTIONS {
        let _ = write!(help, "\n{heading}:\n");
        for flag in FLAGS.iter().chain(OWN).filter(|flag| flag.section == section) {
            let note = match flag.effect {
                Effect::Acts | Effect::Removed | Effect::FileOnly => "",
                Effect::Inert => " (accepted, without effect here)",
            };
            let (name, default, text) = (flag.name, flag.default, flag.help);
            let _ = writeln!(help, "  --{name} '{default}'\n    {text}{note}");
            if name == "feature-gates" {
                for gate in Features::help() {
                    let _ = writeln!(help, "    {gate}");
                }
            }
        }
    }
    help
}

/// Tools read the first line to learn which etcd this can stand in for; the others have etcd's
/// form.
pub(crate) fn version() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {SERVER}\nGit SHA: orrery-{}\nGo Version: none\nGo OS/Arch: {}/{arch}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
    )
}
