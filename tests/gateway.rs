//! The JSON gateway and the pages beside it, request by request: what etcd answered, ours must.
//!
//! `tests/golden/gateway.txt` holds the requests and etcd's answers. `ETCD` names an etcd that is
//! asked them, too; without it the one that `make peers` builds is taken.
//! `ORRERY_GATEWAY_RECORD=1` writes etcd's answers into the file.

#[path = "gateway/http.rs"]
mod http;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;
#[path = "gateway/pages.rs"]
mod pages;
#[path = "gateway/peers.rs"]
mod peers;
#[path = "gateway/samples.rs"]
mod samples;
#[path = "gateway/secure.rs"]
mod secure;
#[path = "gateway/websocket.rs"]
mod websocket;

use std::{env, path::PathBuf};

use members::{Cluster, Setup};
use peers::{announce, etcd};
use samples::Samples;

#[tokio::test]
async fn every_request_is_answered_as_by_etcd() {
    let cluster = Setup::new(1).start().await;
    let samples = Samples::read();
    let answers = samples.ask(cluster.client_address(0)).await;
    let differing = samples.differing(&answers);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[tokio::test]
async fn the_samples_are_etcds() {
    let Some(etcd) = etcd() else {
        return announce("SKIPPED the gateway's samples on etcd: there is none (ETCD, make peers)");
    };
    let mut setup = Setup::new(1);
    setup.binary = etcd;
    let cluster = setup.start().await;
    let samples = Samples::read();
    let answers = samples.ask(cluster.client_address(0)).await;
    if env::var_os("ORRERY_GATEWAY_RECORD").is_some() {
        return samples.record(&answers);
    }
    let differing = samples.differing(&answers);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The server under test, and an etcd if there is one, each with these flags.
async fn each(flags: &[&str]) -> Vec<Cluster> {
    let mut clusters = vec![one_of_ours(flags).await];
    match etcd() {
        Some(binary) => clusters.push(start(binary, flags).await),
        None => announce("SKIPPED pages and WebSockets of etcd: there is none (ETCD, make peers)"),
    }
    clusters
}

async fn one_of_ours(flags: &[&str]) -> Cluster {
    start(members::server_under_test(), flags).await
}

async fn start(binary: PathBuf, flags: &[&str]) -> Cluster {
    let mut setup = Setup::new(1);
    setup.binary = binary;
    setup.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    setup.start().await
}
