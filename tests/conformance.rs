//! What clients are told, request by request: scripts that run against the state machine, servers
//! of ours and a real etcd. See `tests/conformance/README.md`.
//!
//! `ETCD` names the etcd; without it the one that `make peers` builds is taken.
//! `ORRERY_CONFORMANCE` names scripts, and `ORRERY_CONFORMANCE_RECORD` those that etcd's answers
//! are written into.

#[path = "conformance/answer.rs"]
mod answer;
#[path = "conformance/auth.rs"]
mod auth;
#[path = "conformance/machine.rs"]
mod machine;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;
#[path = "conformance/observed.rs"]
mod observed;
#[path = "conformance/print.rs"]
mod print;
#[path = "conformance/program.rs"]
mod program;
#[path = "conformance/random_txn.rs"]
mod random_txn;
#[path = "conformance/request.rs"]
mod request;
#[path = "conformance/run.rs"]
mod run;
#[path = "conformance/script.rs"]
mod script;
#[path = "conformance/server.rs"]
mod server;
#[path = "conformance/shift.rs"]
mod shift;
#[path = "conformance/shrink.rs"]
mod shrink;
#[path = "conformance/turmoil.rs"]
mod turmoil;
#[path = "conformance/twins.rs"]
mod twins;
#[path = "conformance/txn.rs"]
mod txn;
#[path = "conformance/watch_stream.rs"]
mod watch_stream;
#[path = "conformance/words.rs"]
mod words;

use std::{env, fs, io::Write as _, path::PathBuf, time::Duration};

use members::{Cluster, Setup};
use run::{Outcome, Peace};
use script::{Case, Exchange, Script};
use server::Server;
use turmoil::Turmoil;

/// Says something that must be seen although the test passes, which captures what it prints.
fn announce(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn the_state_machine_answers_as_the_scripts_say() {
    run::on_state_machines(&run::scripts()).check("the state machine");
}

#[tokio::test]
async fn a_server_answers_as_the_scripts_say() {
    on_servers(|| Setup::new(1)).await.check("a server");
}

#[tokio::test]
async fn a_follower_answers_as_the_scripts_say() {
    on_servers(|| Setup::new(3)).await.check("a follower of three");
}

/// `ORRERY_CONFORMANCE_SEED` lets other things happen.
#[tokio::test]
async fn what_happens_to_the_cluster_meanwhile_changes_no_answer() {
    let given = env::var("ORRERY_CONFORMANCE_SEED").ok().filter(|text| !text.is_empty());
    let seed = given.map_or(1, |text| text.parse().expect("ORRERY_CONFORMANCE_SEED is a number"));
    let mut turmoil = Turmoil::new(Turmoil::setup().start().await, seed).await;
    let mut server = Server::connect(&turmoil.cluster.endpoint(turmoil.asked)).await;
    let mut outcome = Outcome::default();
    for script in run::scripts() {
        for (case, exchanges) in script.cases().iter().filter(|(case, _)| !case.fresh) {
            Box::pin(outcome.run(&mut server, &script, (case, exchanges), &mut turmoil)).await;
        }
    }
    let (done, snapshots) = (&turmoil.done, turmoil.snapshots());
    outcome.check(&format!(
        "three members in turmoil from seed {seed}, {done:?}, {snapshots} snapshots installed"
    ));
    assert!(snapshots > 0 && done.restarts > 0 && done.leader_changes > 0, "nothing happened");
}

#[tokio::test]
async fn etcd_answers_as_the_scripts_say() {
    let Some(binary) = etcd() else {
        return announce("SKIPPED conformance of etcd: there is none (ETCD, or make peers)");
    };
    let setup = || {
        let mut setup = Setup::new(1);
        setup.binary.clone_from(&binary);
        setup
    };
    if let Ok(names) = env::var("ORRERY_CONFORMANCE_RECORD") {
        return record(setup, &names).await;
    }
    on_servers(setup).await.check("etcd");
}

/// `ORRERY_FUZZ_SECONDS` makes it longer, and `ORRERY_FUZZ_SEED` begins elsewhere.
#[tokio::test]
async fn random_programs_are_answered_as_by_etcd() {
    let Some(etcd) = etcd() else {
        return announce("SKIPPED random programs: there is no etcd (ETCD, or make peers)");
    };
    let number = |name: &str, or: u64| {
        let given = env::var(name).ok().filter(|text| !text.is_empty());
        given.map_or(or, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let time = Duration::from_secs(number("ORRERY_FUZZ_SECONDS", 20));
    let first_seed = number("ORRERY_FUZZ_SEED", 1);
    twins::Search { etcd, first_seed, time }.run().await;
}

/// `ETCD`, or the one in the cache.
fn etcd() -> Option<PathBuf> {
    let cached = || {
        let peers = PathBuf::from(env::var_os("HOME")?).join(".cache/orrery/peers");
        let folders = fs::read_dir(peers).ok()?.filter_map(Result::ok);
        folders.map(|folder| folder.path().join("etcd")).find(|binary| binary.is_file())
    };
    env::var_os("ETCD").filter(|named| !named.is_empty()).map(PathBuf::from).or_else(cached)
}

/// A cluster and a connection to the member that is asked: one that does not lead, if it can be.
struct Asked {
    _cluster: Cluster,
    server: Server,
}

impl Asked {
    async fn start(setup: Setup) -> Asked {
        let cluster = setup.start().await;
        let leader = cluster.leader().await;
        let follower = cluster.indices().into_iter().find(|member| *member != leader);
        let endpoint = cluster.endpoint(follower.unwrap_or(leader));
        Asked { server: Server::connect(&endpoint).await, _cluster: cluster }
    }
}

/// All scripts on one cluster, and each case that needs a fresh store on one of its own.
async fn on_servers(setup: impl Fn() -> Setup) -> Outcome {
    let mut outcome = Outcome::default();
    let mut shared = Asked::start(setup()).await;
    for script in run::scripts() {
        for (case, exchanges) in script.cases() {
            let case = (case, exchanges.as_slice());
            if case.0.fresh {
                let server = &mut Asked::start(setup()).await.server;
                outcome.run(server, &script, case, &mut Peace).await;
            } else {
                outcome.run(&mut shared.server, &script, case, &mut Peace).await;
            }
        }
    }
    outcome
}

/// Writes what a server answers into the scripts of these names.
async fn record(setup: impl Fn() -> Setup, names: &str) {
    let mut shared = Asked::start(setup()).await;
    let wanted = |script: &Script| {
        names.split(',').any(|name| name == "all" || format!("{name}.txt") == script.name)
    };
    for script in run::scripts().into_iter().filter(wanted) {
        let mut answers = Vec::new();
        for (case, exchanges) in script.cases() {
            let told = |exchange: &Exchange, answer| answers.push((exchange.line, answer));
            let case: &Case = case;
            if case.fresh {
                let server = &mut Asked::start(setup()).await.server;
                run::on_server(server, &script, case, &exchanges, &mut Peace, told).await;
            } else {
                let server = &mut shared.server;
                run::on_server(server, &script, case, &exchanges, &mut Peace, told).await;
            }
        }
        fs::write(run::folder().join(&script.name), script.with_answers(&answers)).unwrap();
        announce(&format!("recorded {} answers in {}", answers.len(), script.name));
    }
}
