//! A member whose store was changed behind its back is found out.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use etcd_client::{AlarmAction, AlarmType, Client};
use orrery::storage::{Place, Rows, Storage, tables::Table};
use tokio::time::sleep;

use super::members::{Cluster, Setup};

/// Longer than comparisons at each second take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A few looks at whether something is to be flushed.
const FLUSHED_AFTER: Duration = Duration::from_secs(2);

/// Three members with ten keys. `None` when the server under test has another store than ours.
async fn cluster(flags: &[&str]) -> Option<(Cluster, Vec<std::path::PathBuf>)> {
    if std::env::var_os("ORRERY_BIN").is_some() {
        return None;
    }
    let mut setup = Setup::new(3);
    setup.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    // What is applied is flushed at the next look.
    setup.flags.push("--snapshot-count=1".to_owned());
    let data_dirs = setup.data_dirs.clone();
    let cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    for round in 0..10 {
        client.put(format!("key{round}"), "value", None).await.unwrap();
    }
    Some((cluster, data_dirs))
}

/// Flips one bit in the newest version of a key, in the store of a member that does not run.
fn corrupt(data_dir: &Path) {
    let storage = Storage::open(Place::Directory(&data_dir.join("state"))).unwrap();
    let snapshot = storage.snapshot();
    let mut cursor = snapshot.cursor(Table::Revisions);
    cursor.seek(&[]).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    while let Some((row_key, row)) = cursor.row() {
        (key, value) = (row_key.to_vec(), row.to_vec());
        cursor.step().unwrap();
    }
    *value.last_mut().expect("there is a row") ^= 1;
    let mut batch = snapshot.batch();
    batch.put(Table::Revisions, &key, value);
    batch.write().unwrap();
    storage.flush().unwrap();
}

/// The member whose store is corrupt afterwards; it does not lead and does not run.
async fn corrupt_a_follower(cluster: &mut Cluster, data_dirs: &[std::path::PathBuf]) -> usize {
    let victim = (cluster.leader().await + 1) % 3;
    sleep(FLUSHED_AFTER).await;
    cluster.stop(victim).await;
    corrupt(&data_dirs[victim]);
    victim
}

async fn until_corrupt(client: &mut Client) -> Vec<u64> {
    let begin = Instant::now();
    loop {
        let listed = client.alarm(AlarmAction::Get, AlarmType::Corrupt, None).await.unwrap();
        if !listed.alarms().is_empty() {
            return listed.alarms().iter().map(|alarm| alarm.member_id()).collect();
        }
        assert!(begin.elapsed() < PATIENCE, "no alarm in {PATIENCE:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn is_found(flags: &[&str], compacts: bool) {
    let Some((mut cluster, data_dirs)) = cluster(flags).await else { return };
    let victim = corrupt_a_follower(&mut cluster, &data_dirs).await;
    cluster.restart(&[victim]).await.unwrap();
    let id = cluster.client(victim).await.status().await.unwrap().header().unwrap().member_id();
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader).await;
    if compacts {
        let revision = client.status().await.unwrap().header().unwrap().revision();
        client.compact(revision, None).await.unwrap();
    }
    assert_eq!(until_corrupt(&mut client).await, [id]);
    let refused = client.put("key", "value", None).await.unwrap_err().to_string();
    assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");
    client.get("key1", None).await.unwrap();
    let log = cluster.log(leader);
    assert!(log.contains("found data inconsistency with peers"), "{log}");
}

#[tokio::test]
async fn a_member_with_other_data_is_found_by_comparing_everything() {
    Box::pin(is_found(&["--corrupt-check-time=1s"], false)).await;
}

#[tokio::test]
async fn a_member_with_other_data_is_found_after_a_compaction() {
    let flags = ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"];
    Box::pin(is_found(&flags, true)).await;
}

#[tokio::test]
async fn a_member_with_other_data_does_not_start() {
    let flags = ["--feature-gates=InitialCorruptCheck=true"];
    let Some((mut cluster, data_dirs)) = cluster(&flags).await else { return };
    let victim = corrupt_a_follower(&mut cluster, &data_dirs).await;
    cluster.restart(&[victim]).await.unwrap_err();
    let log = cluster.log(victim);
    assert!(log.contains("found different hash values from remote peer"), "{log}");
    assert!(log.contains("found data inconsistency with peers"), "{log}");
}

#[tokio::test]
async fn members_that_hold_the_same_start_together_and_one_by_one() {
    let flags = ["--experimental-initial-corrupt-check=true"];
    let Some((mut cluster, _)) = cluster(&flags).await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    cluster.stop(follower).await;
    cluster.restart(&[follower]).await.unwrap();
    assert!(cluster.log(follower).contains("initial corruption checking passed; no corruption"));
    cluster.kill(&[0, 1, 2]);
    let begin = Instant::now();
    cluster.restart(&[0, 1, 2]).await.unwrap();
    // Nobody waits for an answer of one that waits for its own.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
