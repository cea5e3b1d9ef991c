//! Members added, promoted, updated and removed while clients write; members without their data;
//! and leadership handed from one to another.

use std::{
    future::Future,
    process::ExitStatus,
    time::{Duration, Instant},
};

use etcd_client::{Error, Member, MemberAddOptions};
use tokio::time::sleep;

use crate::{
    check, machine,
    members::{Cluster, Setup, client},
    traffic::Traffic,
};

/// Writes between one event of a test and the next.
const SOME_WRITES: u64 = 100;

/// Far more than the log keeps with the flags below.
const MANY_WRITES: u64 = 2000;

/// Settings with which a member that was away for a moment needs a snapshot.
const SHORT_LOG: [&str; 2] = ["--snapshot-count=200", "--snapshot-catchup-entries=50"];

/// What must come true in the end has so long. A cluster counts as healthy only after 5 s.
const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(50);

const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";

/// Asks again while the answer is the error that says "not yet".
async fn until_not<T, F: Future<Output = Result<T, Error>>>(
    not_yet: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, Error> {
    let begin = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.to_string().contains(not_yet) && begin.elapsed() < PATIENCE => {
                sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// The new member's id.
async fn add(through: &str, peer_url: &str, learner: bool) -> Result<u64, Error> {
    let added = until_not(UNHEALTHY, || async {
        let options = learner.then(|| MemberAddOptions::new().with_is_learner());
        client(through).await.member_add([peer_url.to_owned()], options).await
    });
    Ok(added.await?.member().expect("the answer names the member").id())
}

async fn list(through: &str) -> Vec<Member> {
    client(through).await.member_list().await.unwrap().members().to_vec()
}

async fn id(through: &str, name: &str) -> u64 {
    let members = list(through).await;
    members.iter().find(|member| member.name() == name).expect("it is listed").id()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, text: &str) {
    let error = answer.expect_err(text).to_string();
    assert!(error.contains(text), "{error}");
}

/// Starts a member that the cluster has not known, and waits until it serves.
async fn grow(cluster: &mut Cluster, through: usize) -> usize {
    let at = cluster.prepare_member();
    let through = cluster.endpoint(through);
    add(&through, &cluster.peer_url(at), false).await.unwrap();
    cluster.restart(&[at]).await.unwrap();
    at
}

/// Removes a member and waits until its process has ended by itself.
async fn remove(cluster: &mut Cluster, at: usize, through: usize) -> ExitStatus {
    let through = cluster.endpoint(through);
    let id = id(&through, &format!("m{at}")).await;
    let removed = until_not(UNHEALTHY, || async { client(&through).await.member_remove(id).await });
    let left = removed.await.unwrap();
    assert!(left.members().iter().all(|member| member.id() != id));
    cluster.forget(at);
    cluster.ended(at).await
}

#[tokio::test]
async fn the_list_is_changed_as_etcd_changes_it() {
    let mut cluster = Cluster::start(3).await;
    let through = cluster.endpoint(0);
    let at = cluster.prepare_member();
    let elsewhere = "http://127.0.0.1:1";

    let learner = add(&through, elsewhere, true).await.unwrap();
    let too_many = add(&through, "http://127.0.0.1:2", true).await;
    refused(too_many, "etcdserver: too many learner members in cluster");
    // Ids are made of the URLs and the second, so within it the id would be what exists.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let again = add(&through, elsewhere, false).await;
    refused(again, "etcdserver: Peer URLs already exists");
    let row = list(&through).await.into_iter().find(|row| row.id() == learner).unwrap();
    assert!(row.is_learner() && row.name().is_empty() && row.client_urls().is_empty());

    let mut client = client(&through).await;
    refused(client.member_promote(learner).await, NOT_READY);
    let voter = id(&through, "m1").await;
    let promoted = client.member_promote(voter).await;
    refused(promoted, "etcdserver: can only promote a learner member");
    let unknown = "etcdserver: member not found";
    refused(client.member_promote(4711).await, unknown);
    refused(client.member_remove(4711).await, unknown);
    refused(client.member_update(4711, ["http://127.0.0.1:3".to_owned()]).await, unknown);

    client.member_update(learner, [cluster.peer_url(at)]).await.unwrap();
    cluster.restart(&[at]).await.unwrap();
    let put = cluster.client(at).await.put("key", "value", None).await;
    refused(put, "etcdserver: rpc not supported for learner");
    let promoted =
        until_not(NOT_READY, || async { cluster.client(2).await.member_promote(learner).await });
    promoted.await.unwrap();
    let begin = Instant::now();
    while cluster.client(at).await.status().await.unwrap().is_learner() {
        assert!(begin.elapsed() < PATIENCE, "member {at} does not learn that it was promoted");
        sleep(PAUSE).await;
    }
    cluster.client(at).await.put("key", "value", None).await.unwrap();

    let members = list(&cluster.endpoint(at)).await;
    let mut names: Vec<&str> = members.iter().map(Member::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2", "m3"]);

    assert!(remove(&mut cluster, at, 0).await.success());
    assert!(cluster.log(at).contains("permanently removed from the cluster"));
    assert_eq!(list(&through).await.len(), 3);
    let again = client.member_remove(learner).await;
    refused(again, unknown);
}

#[tokio::test]
async fn growing_to_five_and_back_to_three_fails_no_request_and_loses_nothing() {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let mut traffic = Traffic::start(cluster.endpoints());
    for _ in 0..2 {
        traffic.flows(SOME_WRITES).await.unwrap();
        let at = grow(&mut cluster, 0).await;
        traffic.extend(cluster.endpoint(at));
    }
    traffic.flows(SOME_WRITES).await.unwrap();
    for leader in [true, false] {
        let first = cluster.leader().await;
        let members = cluster.indices();
        let other = members.into_iter().find(|at| *at != first).unwrap();
        let (victim, through) = if leader { (first, other) } else { (other, first) };
        let begin = Instant::now();
        assert!(remove(&mut cluster, victim, through).await.success());
        traffic.flows(SOME_WRITES).await.unwrap();
        machine::announce(&format!(
            "removed {}: {SOME_WRITES} more writes after {:?}",
            if leader { "the leader" } else { "a follower" },
            begin.elapsed()
        ));
    }
    let record = traffic.finish().await;
    check::assert_none(&record.not_retryable);
    check::assert_none(&check::faults(&cluster, &record).await);
    assert_eq!(list(&cluster.endpoint(cluster.indices()[0])).await.len(), 3);
}

/// Removing one of two needs the acknowledgement of both.
async fn two_become_one(remove_leader: bool) {
    let mut cluster = Cluster::start(2).await;
    let leader = cluster.leader().await;
    let (victim, stays) = if remove_leader { (leader, 1 - leader) } else { (1 - leader, leader) };
    cluster.client(stays).await.put("key", "before", None).await.unwrap();
    assert!(remove(&mut cluster, victim, stays).await.success());
    let mut client = cluster.client(stays).await;
    client.put("key", "after", None).await.unwrap();
    let reply = client.get("key", None).await.unwrap();
    assert_eq!(reply.kvs()[0].value_str().unwrap(), "after");

    cluster.stop(stays).await;
    cluster.restart(&[stays]).await.unwrap();
    cluster.client(stays).await.put("key", "alone", None).await.unwrap();
}

#[tokio::test]
async fn two_members_become_one_without_the_follower() {
    Box::pin(two_become_one(false)).await;
}

#[tokio::test]
async fn two_members_become_one_without_the_leader() {
    Box::pin(two_become_one(true)).await;
}

#[tokio::test]
async fn a_member_without_its_data_is_refused_and_comes_back_under_another_id() {
    let _turn = machine::exclusive();
    let mut setup = Setup::new(3);
    setup.flags.extend(SHORT_LOG.map(str::to_owned));
    let mut cluster = setup.start().await;
    let mut traffic = Traffic::start(cluster.endpoints());
    traffic.flows(MANY_WRITES).await.unwrap();

    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    cluster.kill(&[victim]);
    cluster.wipe(victim);
    cluster.spawn(victim);
    assert_eq!(cluster.ended(victim).await.code(), Some(1));
    let log = cluster.log(victim);
    assert!(log.contains("has already been bootstrapped"), "{log}");

    let through = cluster.endpoint(leader);
    let id = id(&through, &format!("m{victim}")).await;
    client(&through).await.member_remove(id).await.unwrap();
    cluster.forget(victim);
    traffic.flows(MANY_WRITES).await.unwrap();
    let begin = Instant::now();
    let at = grow(&mut cluster, leader).await;
    machine::announce(&format!("joined by a snapshot under load in {:?}", begin.elapsed()));
    traffic.extend(cluster.endpoint(at));
    traffic.flows(SOME_WRITES).await.unwrap();
    let record = traffic.finish().await;
    check::assert_none(&check::faults(&cluster, &record).await);
}

/// Nobody answers while it starts, so only the others can tell, later.
#[tokio::test]
async fn a_member_without_its_data_ends_when_the_others_come_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.client(0).await.put("key", "value", None).await.unwrap();
    cluster.kill(&[0, 1, 2]);
    cluster.wipe(2);
    cluster.spawn(2);
    let begin = Instant::now();
    while !cluster.log(2).contains("listening for clients") {
        assert!(begin.elapsed() < PATIENCE);
        sleep(PAUSE).await;
    }
    cluster.restart(&[0, 1]).await.unwrap();
    assert_eq!(cluster.ended(2).await.code(), Some(1));
    let log = cluster.log(2);
    assert!(log.contains("knows this member with another data directory"), "{log}");
    let reply = cluster.client(1).await.get("key", None).await.unwrap();
    assert_eq!(reply.kvs()[0].value_str().unwrap(), "value");
}

#[tokio::test]
async fn a_member_that_fell_behind_the_log_catches_up_by_a_snapshot_under_load() {
    let _turn = machine::exclusive();
    let mut setup = Setup::new(3);
    setup.flags.extend(SHORT_LOG.map(str::to_owned));
    let mut cluster = setup.start().await;
    let traffic = Traffic::start(cluster.endpoints());
    for kill in [true, false] {
        let victim = (cluster.leader().await + 1) % 3;
        match kill {
            true => cluster.kill(&[victim]),
            false => cluster.stop(victim).await,
        }
        traffic.flows(MANY_WRITES).await.unwrap();
        cluster.restart(&[victim]).await.unwrap();
        let begin = Instant::now();
        cluster.client(victim).await.get("key", None).await.unwrap();
        machine::announce(&format!("caught up {MANY_WRITES} writes in {:?}", begin.elapsed()));
    }
    let record = traffic.finish().await;
    check::assert_none(&check::faults(&cluster, &record).await);
}

#[tokio::test]
async fn leadership_moves_where_it_is_told() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let through = cluster.endpoint(leader);
    let target = id(&through, &format!("m{follower}")).await;

    let elsewhere = cluster.client(follower).await.move_leader(target).await;
    refused(elsewhere, "etcdserver: not leader");
    let mut at_leader = cluster.client(leader).await;
    let nobody = at_leader.move_leader(4711).await;
    refused(nobody, "etcdserver: bad leader transferee");
    at_leader.move_leader(target).await.unwrap();
    assert_eq!(at_leader.status().await.unwrap().leader(), target);
    assert_eq!(cluster.leader().await, follower);
    at_leader.put("key", "value", None).await.unwrap();
}

/// Writes one after the other at a follower; the longest time without an acknowledgement.
#[tokio::test]
async fn a_leader_that_is_stopped_hands_over_without_an_election_timeout() {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let mut gaps = Vec::new();
    let mut handed_over = [0; 3];
    for _ in 0..machine::fault_rounds() {
        let leader = cluster.leader().await;
        let mut client = cluster.client((leader + 1) % 3).await;
        let writing = tokio::spawn(async move {
            let (begin, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
            while begin.elapsed() < Duration::from_secs(4) {
                if client.put("key", "value", None).await.is_ok() {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
            }
            gap
        });
        sleep(Duration::from_secs(1)).await;
        cluster.stop(leader).await;
        gaps.push(writing.await.unwrap());
        handed_over[leader] += 1;
        let told = cluster.log(leader).matches("handed leadership over").count();
        assert_eq!(told, handed_over[leader]);
        cluster.restart(&[leader]).await.unwrap();
    }
    gaps.sort_unstable();
    machine::announce(&format!("longest gaps in writes when the leader is stopped: {gaps:?}"));
}
