//! Members killed and stopped under traffic: nothing acknowledged is lost, nobody is misled.

use crate::{
    check, machine,
    members::Cluster,
    traffic::{Record, Traffic},
};

/// Writes between one event of a test and the next, so that each fault meets traffic.
const SOME_WRITES: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Victims {
    Leader,
    Follower,
    All,
}

impl Victims {
    async fn choose(self, cluster: &Cluster) -> Vec<usize> {
        let leader = cluster.leader().await;
        match self {
            Victims::Leader => vec![leader],
            Victims::Follower => vec![(leader + 1) % cluster.indices().len()],
            Victims::All => cluster.indices(),
        }
    }
}

async fn survives_kills(victims: Victims) {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let traffic = Traffic::start(cluster.endpoints());
    for round in 0..machine::fault_rounds() {
        traffic.flows(SOME_WRITES).await.unwrap();
        let chosen = victims.choose(&cluster).await;
        cluster.kill(&chosen);
        if chosen.len() < 2 {
            let flows = traffic.flows(SOME_WRITES).await;
            flows.unwrap_or_else(|fault| panic!("round {round}, {victims:?} killed: {fault}"));
        }
        cluster.restart(&chosen).await.unwrap();
    }
    traffic.flows(SOME_WRITES).await.unwrap();
    let record = traffic.finish().await;
    check::assert_none(&check::faults(&cluster, &record).await);
    report(&format!("kill -9 of {victims:?}"), &record);
}

#[expect(clippy::print_stdout, reason = "how much was tested")]
fn report(what: &str, record: &Record) {
    println!(
        "{what}, {} rounds: {} writes acknowledged and found, {} of unknown outcome, revision {}",
        machine::fault_rounds(),
        record.acknowledged.len(),
        record.unknown,
        record.last_revision,
    );
}

#[tokio::test]
async fn killing_the_leader_loses_nothing() {
    survives_kills(Victims::Leader).await;
}

#[tokio::test]
async fn killing_a_follower_loses_nothing() {
    survives_kills(Victims::Follower).await;
}

#[tokio::test]
async fn killing_all_members_at_once_loses_nothing() {
    survives_kills(Victims::All).await;
}

#[tokio::test]
async fn stopping_each_member_in_turn_loses_nothing() {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let traffic = Traffic::start(cluster.endpoints());
    for at in cluster.indices() {
        traffic.flows(SOME_WRITES).await.unwrap();
        cluster.stop(at).await;
        traffic.flows(SOME_WRITES).await.unwrap();
        cluster.restart(&[at]).await.unwrap();
    }
    let record = traffic.finish().await;
    check::assert_none(&check::faults(&cluster, &record).await);
    report("SIGTERM in turn", &record);
}
