//! Members that run out of space: by their quota, and because the disk is full.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, Compare, CompareOp, Error, Txn, TxnOp,
};
use tokio::time::sleep;

use super::{
    disk::Disk,
    members::{Cluster, Setup},
};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Longer than a member takes to notice what happens to its disk.
const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("it is refused").to_string();
    assert!(error.contains(NO_SPACE), "{error}");
}

async fn alarms(client: &mut Client) -> Vec<(u64, AlarmType)> {
    let listed = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    listed.alarms().iter().map(|alarm| (alarm.member_id(), alarm.alarm())).collect()
}

async fn until_alarms(client: &mut Client, count: usize) {
    let begin = Instant::now();
    while alarms(client).await.len() != count {
        assert!(begin.elapsed() < PATIENCE, "not {count} alarms in {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Puts until there is no space. How often that went well.
async fn fill(client: &mut Client, key: &str, value: &[u8]) -> usize {
    for count in 0..100_000 {
        if let Err(error) = client.put(key, value, None).await {
            assert!(error.to_string().contains(NO_SPACE), "{error}");
            return count;
        }
    }
    panic!("the quota is never reached");
}

async fn compact(client: &mut Client) {
    let revision = client.status().await.unwrap().header().unwrap().revision();
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision, Some(physical)).await.unwrap();
}

/// By which an API server claims the next compaction.
fn kubernetes_compaction() -> Txn {
    const KEY: &str = "compact_rev_key";
    Txn::new()
        .when([Compare::version(KEY, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(KEY, "5", None)])
        .or_else([TxnOp::get(KEY, None)])
}

#[tokio::test]
async fn a_full_quota_refuses_writes_until_there_is_space_and_the_alarm_is_off() {
    let mut setup = Setup::new(3);
    setup.flags.push("--quota-backend-bytes=53248".to_owned());
    let cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    let member = client.status().await.unwrap().header().unwrap().member_id();
    client.put("first", "a".repeat(64), None).await.unwrap();
    let written = fill(&mut client, "second", &[b'b'; 4096]).await;
    assert!((5..=13).contains(&written), "{written} times 4 KiB fit into 52 KiB");

    assert!(alarms(&mut client).await.contains(&(member, AlarmType::Nospace)));
    is_refused(cluster.client(1).await.put("third", "a", None).await);
    is_refused(client.lease_grant(60, None).await);
    client.delete("first", None).await.unwrap();
    // Another server, which refuses it, may be under test.
    if std::env::var_os("ORRERY_BIN").is_none() {
        assert!(client.txn(kubernetes_compaction()).await.unwrap().succeeded());
    }

    let before = client.status().await.unwrap().db_size();
    compact(&mut client).await;
    for at in 0..3 {
        cluster.client(at).await.defragment().await.unwrap();
    }
    let after = client.status().await.unwrap().db_size();
    assert!(after < before / 4, "{before} bytes became {after}");
    is_refused(client.put("third", "a", None).await);
    for (member, kind) in alarms(&mut client).await {
        let mut of = etcd_client::AlarmOptions::new();
        of.with_member(member);
        client.alarm(AlarmAction::Deactivate, kind, Some(of)).await.unwrap();
    }
    client.put("third", "a", None).await.unwrap();
    assert_eq!(alarms(&mut client).await, []);
}

#[tokio::test]
async fn an_alarm_that_may_goes_by_itself_when_a_compaction_has_made_space() {
    let mut setup = Setup::new(1);
    setup.flags.push("--quota-backend-bytes=1000000".to_owned());
    setup.flags.push("--auto-disarm-nospace".to_owned());
    let cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    fill(&mut client, "key", &[b'b'; 4096]).await;
    until_alarms(&mut client, 1).await;
    // There is nothing to give back yet.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(alarms(&mut client).await.len(), 1);
    compact(&mut client).await;
    until_alarms(&mut client, 0).await;
    client.put("key", "a", None).await.unwrap();
}

#[tokio::test]
async fn a_member_is_served_while_it_defragments() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for round in 0..2_000 {
        client.put(format!("key{}", round % 100), vec![round as u8; 10_000], None).await.unwrap();
    }
    compact(&mut client).await;
    let before = client.status().await.unwrap();
    let mut other = cluster.client(0).await;
    let defragmenting = tokio::spawn(async move { other.defragment().await });
    let mut served = 0;
    while !defragmenting.is_finished() {
        client.put("key", "value", None).await.unwrap();
        served += 1;
    }
    defragmenting.await.unwrap().unwrap();
    let after = client.status().await.unwrap();
    assert!(served > 0, "nothing was served meanwhile");
    assert!(after.db_size() < before.db_size() / 5, "{before:?} {after:?}");
    let log = cluster.log(0);
    for line in ["starting defragment", "finished defragmenting directory", "finished defragment"] {
        assert!(log.contains(&format!("\"msg\":\"{line}\"")), "{line}");
    }
}

/// Writes to a file until the disk has nothing left.
fn fill_disk(path: &Path) {
    let mut file = File::create(path).unwrap();
    for length in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; length]).is_ok() {}
    }
    let _ = file.sync_all();
}

#[tokio::test]
async fn a_full_disk_is_an_alarm_and_not_the_end() {
    let mut setup = Setup::new(1);
    let home = setup.data_dirs[0].parent().unwrap().to_owned();
    let disk = match Disk::make(&home, "small") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped, for want of a disk of its own: {why}"),
    };
    setup.data_dirs[0] = disk.path().join("data");
    setup.flags.push("--auto-disarm-nospace".to_owned());
    let mut cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    for round in 0..200 {
        client.put(format!("key{round}"), vec![round as u8; 10_000], None).await.unwrap();
    }
    // A turn of the watch, so that the reserve is there.
    sleep(Duration::from_secs(1)).await;
    let filler = disk.path().join("filler");
    tokio::task::spawn_blocking({
        let filler = filler.clone();
        move || fill_disk(&filler)
    })
    .await
    .unwrap();
    until_alarms(&mut client, 1).await;
    is_refused(client.put("key", "value", None).await);
    for round in 0..200 {
        client.delete(format!("key{round}"), None).await.unwrap();
    }
    compact(&mut client).await;
    std::fs::remove_file(&filler).unwrap();
    until_alarms(&mut client, 0).await;
    client.put("key", "value", None).await.unwrap();
    cluster.stop(0).await;
    drop((cluster, disk));
}
