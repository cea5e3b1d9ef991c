//! What `--help` and `--version` print.

use std::fmt::Write;

use super::flags::{Effect, FLAGS, OWN, Section};
use crate::grpc::version::SERVER;

const USAGE: &str = "\
Usage:

  orrery [flags]
    Start a member. Takes etcd's flags, and its variables: ETCD_ and the flag in capitals.

  orrery certs --out DIR --host NAME...
    Make an authority and certificates for members and clients.

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
                Effect::Acts | Effect::Removed => "",
                Effect::Inert => " (accepted, without effect so far)",
                Effect::NotYet => " (not supported yet)",
            };
            let (name, default, text) = (flag.name, flag.default, flag.help);
            let _ = writeln!(help, "  --{name} '{default}'\n    {text}{note}");
        }
    }
    help
}

/// Tools read the first line to learn which etcd this can stand in for.
pub(crate) fn version() -> String {
    let (version, os, arch) =
        (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    format!("etcd Version: {SERVER}\nOrrery Version: {version}\nOS/Arch: {os}/{arch}\n")
}
