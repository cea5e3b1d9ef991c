//! Leases that a client grants and asks about at different members.

use crate::members::Cluster;

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
