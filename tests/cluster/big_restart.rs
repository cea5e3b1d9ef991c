//! A store of 1 GiB: how soon it serves again after SIGKILL, and how much memory it takes.
//!
//! A command of its own, `make big-restart`, because it writes gigabytes.

use std::time::{Duration, Instant};

use etcd_client::{Client, Txn, TxnOp};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    machine,
    members::{Cluster, Setup, client},
};

const KEYS: usize = 1 << 20;
const VALUE_BYTES: usize = 1 << 10;

/// etcd's default limit of operations in a transaction.
const KEYS_PER_TXN: usize = 128;

const LOADERS: usize = 8;

const FIRST_GET_LIMIT: Duration = Duration::from_secs(2);
const MEMORY_LIMIT: u64 = 1 << 30;

/// Long enough for any server to come back; the limit is asserted afterwards.
const GIVE_UP: Duration = Duration::from_secs(120);

#[tokio::test]
#[ignore = "writes gigabytes; make big-restart"]
async fn one_member_serves_1_gib_soon_after_a_kill() {
    serves_soon_after_a_kill(1).await;
}

#[tokio::test]
#[ignore = "writes gigabytes; make big-restart"]
async fn three_members_serve_1_gib_soon_after_a_kill() {
    serves_soon_after_a_kill(3).await;
}

async fn serves_soon_after_a_kill(members: usize) {
    let _turn = machine::exclusive();
    let mut setup = Setup::new(members);
    setup.flags.push(format!("--quota-backend-bytes={}", 8_u64 << 30));
    let mut cluster = setup.start().await;
    let begin = Instant::now();
    load(&cluster.endpoints()[0]).await;
    let loading = begin.elapsed();
    let while_loading = most_memory(&cluster);

    let all = cluster.indices();
    cluster.kill(&all);
    for at in all {
        cluster.spawn(at);
    }
    let first_get = time_to_first_get(&cluster.endpoints()[0]).await;
    cluster.client(0).await.put("after", "restart", None).await.unwrap();
    let after_restart = most_memory(&cluster);
    let mib = |bytes: u64| bytes >> 20;
    machine::announce(&format!(
        "{members} members, {KEYS} values of {VALUE_BYTES} bytes: loaded in {loading:.1?}, first \
         linearizable get {first_get:.2?} after the start, at most {} MiB of memory while loading \
         and {} MiB after the restart",
        mib(while_loading),
        mib(after_restart),
    ));
    assert!(first_get < FIRST_GET_LIMIT, "the first get took {first_get:?}");
    assert!(while_loading.max(after_restart) < MEMORY_LIMIT, "memory is over the limit");
}

async fn load(endpoint: &str) {
    let mut loaders = JoinSet::new();
    for loader in 0..LOADERS {
        let client = client(endpoint).await;
        loaders.spawn(load_share(client, loader));
    }
    while let Some(done) = loaders.join_next().await {
        done.unwrap();
    }
}

/// Every value is different, so that compression does not make the store small.
async fn load_share(mut client: Client, loader: usize) {
    for chunk in (loader..KEYS / KEYS_PER_TXN).step_by(LOADERS) {
        let puts = (0..KEYS_PER_TXN).map(|at| {
            let number = chunk * KEYS_PER_TXN + at;
            TxnOp::put(key(number), value(number), None)
        });
        client.txn(Txn::new().and_then(puts.collect::<Vec<TxnOp>>())).await.unwrap();
    }
}

fn key(number: usize) -> String {
    format!("load/{number:08}")
}

fn value(number: usize) -> Vec<u8> {
    use rand::{RngCore, SeedableRng, rngs::StdRng};
    let mut value = vec![0; VALUE_BYTES];
    StdRng::seed_from_u64(number as u64).fill_bytes(&mut value);
    value
}

async fn time_to_first_get(endpoint: &str) -> Duration {
    let begin = Instant::now();
    let last = KEYS - 1;
    loop {
        if let Ok(reply) = client(endpoint).await.get(key(last), None).await {
            assert_eq!(reply.kvs()[0].value(), value(last));
            return begin.elapsed();
        }
        assert!(begin.elapsed() < GIVE_UP, "no get is answered");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The most that any member's process has ever held.
fn most_memory(cluster: &Cluster) -> u64 {
    let peak = |at| machine::peak_resident_bytes(cluster.pid(at));
    cluster.indices().into_iter().map(peak).max().unwrap()
}
