//! The certificates of a cluster, by the names that aks-engine's had.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path};

use anyhow::{anyhow, bail};

use super::plan::Plan;
use crate::tls::{Authority, Pair, Usage, covers};

const YEARS: u32 = 10;

/// Who may do everything, to Kubernetes.
const ADMINISTRATORS: &str = "system:masters";

struct Wanted {
    name: String,
    usage: Usage,
    hosts: Vec<String>,
    group: Option<&'static str>,
}

/// All that there are, the authority's not counted.
fn wanted(plan: &Plan) -> Vec<Wanted> {
    let here = || ["localhost", "127.0.0.1"].map(str::to_owned);
    let cluster = &plan.cluster;
    let one =
        |name: &str, usage, hosts, group| Wanted { name: name.to_owned(), usage, hosts, group };
    let mut servers: Vec<String> =
        plan.regions().iter().map(|region| format!("*.{region}.{cluster}.test")).collect();
    servers.extend(here());
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1"];
    let service = service.map(str::to_owned).into_iter().chain(here());
    let mut all = vec![
        one("apiserver", Usage::Server, service.collect(), None),
        one("client", Usage::Client, Vec::new(), Some(ADMINISTRATORS)),
        one("kubectlClient", Usage::Client, Vec::new(), Some(ADMINISTRATORS)),
        one("etcdserver", Usage::Both, servers, None),
        one("etcdclient", Usage::Client, Vec::new(), None),
    ];
    for (number, seat) in plan.members.iter().enumerate() {
        let hosts = std::iter::once(seat.host(cluster)).chain(here());
        all.push(one(&peer(number), Usage::Both, hosts.collect(), None));
    }
    all
}

/// The name of a member's certificate.
pub(super) fn peer(member: usize) -> String {
    format!("etcdpeer{member}")
}

/// The files, for who removes them.
pub(crate) fn files(plan: &Plan) -> Vec<String> {
    let names = wanted(plan).into_iter().map(|wanted| wanted.name);
    let names = std::iter::once("ca".to_owned()).chain(names);
    names.flat_map(|name| [format!("{name}.crt"), format!("{name}.key")]).collect()
}

/// Makes what is not there. What is there must belong together: changed files are refused, and not
/// replaced behind anybody's back.
pub(super) fn make(dir: &Path, plan: &Plan) -> anyhow::Result<()> {
    let wanted = wanted(plan);
    check(dir, &wanted)?;
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let authority = Authority::open_or_make(dir, YEARS)?;
    for Wanted { name, usage, hosts, group } in wanted {
        if !pair(dir, &name).cert.exists() {
            authority.issue_in_group(dir, &name, &hosts, usage, group)?;
        }
    }
    Ok(())
}

fn pair(dir: &Path, name: &str) -> Pair {
    Pair { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
}

fn check(dir: &Path, wanted: &[Wanted]) -> anyhow::Result<()> {
    const WAY_OUT: &str = "remove both files, and they are made again";
    let authority = pair(dir, "ca");
    let names = wanted.iter().map(|wanted| wanted.name.as_str());
    for name in std::iter::once("ca").chain(names) {
        let Pair { cert, key } = pair(dir, name);
        let (there, missing) = match (cert.exists(), key.exists()) {
            (true, false) => (cert, key),
            (false, true) => (key, cert),
            (true, true) | (false, false) => continue,
        };
        bail!("{} is there and {} is not; {WAY_OUT}", there.display(), missing.display());
    }
    for wanted in wanted {
        let pair = pair(dir, &wanted.name);
        if !pair.cert.exists() {
            continue;
        }
        if !authority.cert.exists() {
            let (cert, authority) = (pair.cert.display(), authority.cert.display());
            bail!("{cert} is there and {authority}, which it comes from, is not");
        }
        let belongs = pair.belongs_to(&authority.cert, wanted.usage);
        belongs.map_err(|error| anyhow!("{error}; {WAY_OUT}"))?;
        if !covers(&pair.cert, &wanted.hosts) {
            let hosts = wanted.hosts.join(", ");
            bail!("{} is not valid for all of {hosts}; {WAY_OUT}", pair.cert.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::cli::up::{Arguments, log::Log};

    fn plan(arguments: &[&str]) -> Plan {
        let arguments = Arguments::try_parse_from([&["up"], arguments].concat()).unwrap();
        Plan::make(&arguments, &Log::silent()).unwrap().0
    }

    #[test]
    fn they_are_made_once_and_what_does_not_fit_is_refused() {
        let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let plan = plan(&[]);
        for folder in [&one, &two] {
            make(folder.path(), &plan).unwrap();
        }
        let path = |folder: &TempDir, name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read(path(&one, name)).unwrap();
        for name in files(&plan) {
            assert!(path(&one, &name).exists(), "{name}");
        }
        assert_eq!(files(&plan).len(), one.path().read_dir().unwrap().count());
        let before = read("etcdclient.crt");
        make(one.path(), &plan).unwrap();
        assert_eq!(read("etcdclient.crt"), before);

        let refused = |words: &str| {
            let error = format!("{:#}", make(one.path(), &plan).unwrap_err());
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        };
        let copy = |name: &str| std::fs::copy(path(&two, name), path(&one, name)).unwrap();
        copy("etcdclient.key");
        refused("etcdclient.key is not the key of");
        copy("etcdclient.crt");
        refused("etcdclient.crt does not come from");
        for name in ["etcdclient.crt", "etcdclient.key", "etcdpeer1.key"] {
            std::fs::remove_file(path(&one, name)).unwrap();
        }
        refused("etcdpeer1.crt is there and");
        std::fs::remove_file(path(&one, "etcdpeer1.crt")).unwrap();
        make(one.path(), &plan).unwrap();
        assert_ne!(read("etcdclient.crt"), before);
        for name in ["ca.crt", "ca.key"] {
            std::fs::remove_file(path(&one, name)).unwrap();
        }
        refused("which it comes from, is not");
    }
}
