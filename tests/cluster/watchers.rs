//! Many watchers, and one that never reads.

use std::collections::BTreeMap;

use etcd_client::{WatchOptions, WatchStream};

use crate::{
    machine::{announce, peak_resident_bytes},
    members::Cluster,
};

const WATCHERS: usize = 5000;

#[tokio::test]
async fn thousands_of_watchers_on_one_stream_get_what_each_asked_for() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut stream = client.watch("0", None).await.unwrap();
    let mut keys = BTreeMap::from([(created(&mut stream).await, "0".to_owned())]);
    for number in 1..WATCHERS {
        let key = number.to_string();
        stream.watch(key.clone(), None).await.unwrap();
        keys.insert(created(&mut stream).await, key);
    }
    assert_eq!(keys.len(), WATCHERS);
    for (number, key) in keys.values().enumerate() {
        client.put(key.clone(), number.to_string(), None).await.unwrap();
    }
    let mut told = BTreeMap::new();
    while told.len() < WATCHERS {
        let response = stream.message().await.unwrap().expect("the stream goes on");
        assert_eq!(response.events().len(), 1);
        let kv = response.events()[0].kv().unwrap();
        assert_eq!(kv.key_str().unwrap(), keys[&response.watch_id()]);
        let before = told.insert(response.watch_id(), kv.mod_revision());
        assert_eq!(before, None, "each key is written once");
    }
}

async fn created(stream: &mut WatchStream) -> i64 {
    let response = stream.message().await.unwrap().expect("the stream goes on");
    assert!(response.created());
    response.watch_id()
}

/// What is written while the one that does not read is away.
const WRITES: usize = 1500;
const VALUE_BYTES: usize = 100_000;

/// More than buffers on the way hold, and a small part of what is written.
const MEMORY_BYTES_MAX: u64 = (WRITES * VALUE_BYTES / 3) as u64;

#[tokio::test]
async fn a_reader_that_never_reads_costs_little_and_holds_up_nobody() {
    let cluster = Cluster::start(1).await;
    // The same without it, for what the writes themselves cost; keys are overwritten.
    write_and_watch(&cluster, "a").await;
    let before = peak_resident_bytes(cluster.pid(0));
    let mut lazy = Vec::new();
    for _ in 0..20 {
        let mut stream = watch_everything(&cluster).await;
        created(&mut stream).await;
        lazy.push(stream);
    }
    write_and_watch(&cluster, "b").await;
    let grown = peak_resident_bytes(cluster.pid(0)).saturating_sub(before);
    let mib = |bytes: u64| bytes >> 20;
    announce(&format!(
        "20 watchers that never read {} MiB cost {} MiB of memory",
        mib((WRITES * VALUE_BYTES) as u64),
        mib(grown)
    ));
    assert!(grown < MEMORY_BYTES_MAX, "{} MiB more", mib(grown));
    // Whoever begins to read late has missed nothing.
    let mut late = lazy.pop().unwrap();
    assert_eq!(read(&mut late, "b").await, WRITES);
}

async fn watch_everything(cluster: &Cluster) -> WatchStream {
    let options = WatchOptions::new().with_all_keys();
    cluster.client(0).await.watch("", Some(options)).await.unwrap()
}

/// Writes, with a watcher that reads along and must get all of it.
async fn write_and_watch(cluster: &Cluster, value: &str) {
    let mut stream = watch_everything(cluster).await;
    created(&mut stream).await;
    let reading = async { read(&mut stream, value).await };
    let writing = async {
        let mut client = cluster.client(0).await;
        for number in 0..WRITES {
            let key = (number % 10).to_string();
            client.put(key, value.repeat(VALUE_BYTES), None).await.unwrap();
        }
    };
    let (read, ()) = tokio::join!(reading, writing);
    assert_eq!(read, WRITES);
}

/// Reads so many events of that value, in order.
async fn read(stream: &mut WatchStream, value: &str) -> usize {
    let (mut count, mut newest) = (0, 0);
    while count < WRITES {
        let response = stream.message().await.unwrap().expect("the stream goes on");
        for event in response.events() {
            let kv = event.kv().unwrap();
            assert!(kv.value().starts_with(value.as_bytes()) && kv.mod_revision() > newest);
            newest = kv.mod_revision();
            count += 1;
        }
    }
    count
}
