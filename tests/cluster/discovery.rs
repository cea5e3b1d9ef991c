//! Members that meet in the registry of another cluster.

use std::time::{Duration, Instant};

use etcd_client::PutOptions;
use tokio::time::sleep;

use crate::{
    machine,
    members::{Cluster, Setup, client},
};

const TOKEN: &str = "4711";

fn flags(registry: &str) -> Vec<String> {
    vec![
        format!("--discovery-endpoints={registry}"),
        format!("--discovery-token={TOKEN}"),
        // Set by the harness, and in the way of discovery.
        "--initial-cluster=".to_owned(),
    ]
}

async fn want(registry: &Cluster, size: &str) {
    let key = format!("/_etcd/registry/{TOKEN}/_config/size");
    let mut client = registry.client(0).await;
    client.put(key, size, None::<PutOptions>).await.unwrap();
}

#[tokio::test]
async fn members_find_each_other_in_a_registry_and_the_last_to_come_is_turned_away() {
    let _turn = machine::exclusive();
    let registry = Cluster::start(1).await;
    want(&registry, "3").await;
    let mut setup = Setup::new(3);
    setup.flags = flags(&registry.endpoint(0));
    let mut cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    let members = client.member_list().await.unwrap();
    let mut names: Vec<&str> = members.members().iter().map(etcd_client::Member::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    client.put("key", "value", None).await.unwrap();

    // A member that has data does not ask again, even when nobody is there to be asked.
    drop(registry);
    cluster.kill(&[0, 1, 2]);
    cluster.restart(&[0, 1, 2]).await.unwrap();
    assert!(
        cluster.log(0).contains("discovery token is ignored since cluster already initialized")
    );
    assert_eq!(cluster.client(1).await.get("key", None).await.unwrap().count(), 1);
}

#[tokio::test]
async fn a_registry_that_is_full_or_was_not_prepared_ends_the_start_in_etcds_words() {
    let _turn = machine::exclusive();
    let registry = Cluster::start(1).await;
    let refused = |words: &'static str| {
        let mut setup = Setup::new(1);
        setup.flags = flags(&registry.endpoint(0));
        async move {
            let mut cluster = setup.prepare();
            cluster.spawn(0);
            assert!(!cluster.ended(0).await.success());
            let log = cluster.log(0);
            assert!(log.contains(words), "{log}");
        }
    };
    refused("failed to join discovery cluster (discovery: size key not found)").await;
    want(&registry, "none").await;
    refused("failed to join discovery cluster (discovery: size key is bad)").await;
    want(&registry, "1").await;
    let mut client = registry.client(0).await;
    let key = format!("/_etcd/registry/{TOKEN}/members/1");
    client.put(key, "other=http://127.0.0.1:1", None).await.unwrap();
    refused("failed to join discovery cluster (discovery: cluster is full)").await;
}

/// The registry is looked for until it is there.
#[tokio::test]
async fn a_member_waits_for_the_others() {
    let _turn = machine::exclusive();
    let registry = Cluster::start(1).await;
    want(&registry, "2").await;
    let mut setup = Setup::new(2);
    setup.flags = flags(&registry.endpoint(0));
    let mut cluster = setup.prepare();
    cluster.spawn(0);
    let begin = Instant::now();
    while !cluster.log(0).contains("waiting for peers from discovery service") {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", cluster.log(0));
        sleep(Duration::from_millis(20)).await;
    }
    assert!(client(&cluster.endpoint(0)).await.status().await.is_err());
    cluster.restart(&[1]).await.unwrap();
    assert_eq!(cluster.client(0).await.member_list().await.unwrap().members().len(), 2);
}
