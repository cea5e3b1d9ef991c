//! `orrery certs`: an authority, and certificates for members and clients.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::{Parser, error::ErrorKind};

use crate::tls::{Authority, Usage, covers};

/// Make an authority and certificates for members and clients.
///
/// Writes ca, server, peer and etcdclient, each as .crt and .key. What is there and still valid for
/// the given hosts is kept.
#[derive(Debug, Parser)]
#[command(name = "orrery certs")]
struct Arguments {
    /// Directory to write to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Names and IP addresses under which members are reached.
    #[arg(long = "host", value_name = "NAME", num_args = 1.., value_delimiter = ',', required = true)]
    hosts: Vec<String>,

    /// Years for which the certificates are valid.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    years: u32,
}

/// `arguments` begin with the word `certs`.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return super::print(&error.to_string());
        }
        Err(error) => {
            return Err(anyhow!("certs: {}", in_one_line(&error.to_string())));
        }
    };
    let made = make(&arguments).context("certs")?;
    super::print(&format!("{} certificates made in {}\n", made, arguments.out.display()))
}

/// The first paragraph of clap's message; usage and hints follow it.
fn in_one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

/// How many certificates were made, the authority's not counted.
fn make(arguments: &Arguments) -> anyhow::Result<usize> {
    let out = &arguments.out;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(out)
        .with_context(|| format!("--out {}", out.display()))?;
    let authority = Authority::open_or_make(out, arguments.years)?;
    let mut made = 0;
    for (name, usage) in
        [("server", Usage::Both), ("peer", Usage::Both), ("etcdclient", Usage::Client)]
    {
        // Clients are known by their name, not by where they are.
        let hosts = if usage == Usage::Client { &[] } else { arguments.hosts.as_slice() };
        if authority.is_new() || !is_there(out, name, hosts) {
            authority.issue(out, name, hosts, usage)?;
            made += 1;
        }
    }
    Ok(made)
}

fn is_there(out: &Path, name: &str, hosts: &[String]) -> bool {
    let file = |extension: &str| out.join(format!("{name}.{extension}"));
    file("key").exists() && covers(&file("crt"), hosts)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::tls::{Allowed, Files, FlagNames, Pair, Protocol, ServerTls, Trust};

    fn arguments(out: &Path, hosts: &[&str]) -> Arguments {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        Arguments { out: out.to_owned(), hosts, years: 1 }
    }

    #[test]
    fn certificates_are_made_once_and_again_for_new_hosts() {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("certs");
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(make(&arguments(&out, &["m1", "127.0.0.1"])).unwrap(), 3);
        let (authority, client) = (read("ca.crt"), read("etcdclient.crt"));
        assert_eq!(make(&arguments(&out, &["127.0.0.1"])).unwrap(), 0);
        assert_eq!(make(&arguments(&out, &["m1", "m4"])).unwrap(), 2);
        assert_eq!((read("ca.crt"), read("etcdclient.crt")), (authority, client));
        std::fs::remove_file(out.join("etcdclient.key")).unwrap();
        assert_eq!(make(&arguments(&out, &["m1"])).unwrap(), 1);
        assert_eq!(make(&arguments(&out, &["*.m.local"])).unwrap(), 2);
        assert_eq!(make(&arguments(&out, &["*.m.local"])).unwrap(), 0);
        std::fs::remove_file(out.join("ca.crt")).unwrap();
        std::fs::remove_file(out.join("ca.key")).unwrap();
        assert_eq!(make(&arguments(&out, &["*.m.local"])).unwrap(), 3);
    }

    #[test]
    fn the_servers_certificate_can_be_served() {
        let folder = TempDir::new().unwrap();
        let out = folder.path();
        make(&arguments(out, &["m1"])).unwrap();
        let files = Files {
            shown: Pair { cert: out.join("server.crt"), key: out.join("server.key") },
            dialling: None,
            trust: Trust::File(out.join("ca.crt")),
            client_cert_auth: true,
            revoked: None,
            allowed: Allowed::All,
            check_address: false,
            protocol: Protocol::default(),
            flags: FlagNames::CLIENTS,
        };
        ServerTls::load(&files, &[]).unwrap();
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        let run = |arguments: &[&str]| {
            let error = run(arguments.iter().map(OsString::from).collect()).unwrap_err();
            format!("{error:#}")
        };
        let words = "certs: the following required arguments were not provided: --out <DIR>";
        assert_eq!(run(&["certs", "--host", "m1"]), words);
        assert_eq!(run(&["certs", "--no"]), "certs: unexpected argument '--no' found");
    }
}
