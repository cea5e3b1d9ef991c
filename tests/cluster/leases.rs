//! Leases that a client grants and asks about at different members.

use std::time::{Duration, Instant};

use etcd_client::{GetOptions, PutOptions};
use futures::future::join_all;

use crate::{machine::announce, members::Cluster};

/// A follower may have applied a grant before the leader has, whose clock answers.
#[tokio::test]
async fn a_lease_that_was_granted_is_known_at_every_member() {
    let cluster = Cluster::start(3).await;
    let writers: Vec<_> = (0..3).map(|at| cluster.endpoint(at)).collect();
    let writers: Vec<_> = writers.into_iter().map(|url| tokio::spawn(write(url))).collect();
    for round in 0..300 {
        let (grants, asks) = (round % 3, (round / 3) % 3);
        let id = i64::try_from(round + 1).unwrap();
        let options = etcd_client::LeaseGrantOptions::new().with_id(id);
        cluster.client(grants).await.lease_grant(600, Some(options)).await.unwrap();
        let mut client = cluster.client(asks).await;
        let left = client.lease_time_to_live(id, None).await.unwrap();
        assert!(left.ttl() > 500, "{} s of lease {id}, asked at member {asks}", left.ttl());
        let listed = client.leases().await.unwrap();
        assert!(listed.leases().iter().any(|lease| lease.id() == id), "lease {id} is not listed");
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Gives members much to apply, so that some are slower with it than others.
async fn write(endpoint: String) {
    let mut client = crate::members::client(&endpoint).await;
    let value = vec![0; 20_000];
    for round in 0.. {
        client.put(format!("{endpoint}/{}", round % 100), value.clone(), None).await.unwrap();
    }
}

/// With the same last second, and a key each.
const LEASES: i64 = 20_000;
const GRANTERS: i64 = 64;

/// Leases that are granted at once may all run out at once.
#[tokio::test]
async fn twenty_thousand_leases_that_run_out_in_one_second_stop_nobody() {
    let cluster = Cluster::start(3).await;
    let begin = Instant::now();
    let granters: Vec<_> = (0..GRANTERS).map(|number| grant(&cluster, number, begin)).collect();
    join_all(granters).await;
    let granted = begin.elapsed();
    let mut client = cluster.client(0).await;
    let keys = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("leased/", Some(keys.clone())).await.unwrap().count(), LEASES);

    // Others write meanwhile.
    let (mut writes, mut slowest) = (0, Duration::ZERO);
    let end = loop {
        let asked = Instant::now();
        client.put("written", "meanwhile", None).await.unwrap();
        slowest = slowest.max(asked.elapsed());
        writes += 1;
        let left = client.get("leased/", Some(keys.clone())).await.unwrap().count();
        if left == 0 {
            break begin.elapsed();
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{left} keys are left");
    };
    assert!(client.leases().await.unwrap().leases().is_empty());
    announce(&format!(
        "{LEASES} leases granted in {granted:.1?} and gone {:.1?} after the start; {writes} writes \
         meanwhile, the slowest in {slowest:.1?}",
        end
    ));
}

/// The second after the beginning in which the leases run out: when all are granted, on a busy
/// machine too.
const LAST_SECOND: u64 = 30;

async fn grant(cluster: &Cluster, granter: i64, begin: Instant) {
    let mut client = cluster.client(usize::try_from(granter % 3).unwrap()).await;
    let mut id = granter + 1;
    while id <= LEASES {
        let left = LAST_SECOND.saturating_sub(begin.elapsed().as_secs()).max(2);
        let options = etcd_client::LeaseGrantOptions::new().with_id(id);
        client.lease_grant(i64::try_from(left).unwrap(), Some(options)).await.unwrap();
        let lease = PutOptions::new().with_lease(id);
        client.put(format!("leased/{id}"), "", Some(lease)).await.unwrap();
        id += GRANTERS;
    }
}
