//! Connections between members that are cut and come back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::BoxStream,
};
use orrery::{
    proto::etcdserverpb::Member,
    raft::{
        PAYLOAD_BYTES_MAX,
        message::{
            AppendReply, AppendRequest, Failed, Reply, Request, SnapshotReply, SnapshotStart,
        },
        peers::{
            AppendRequests, Gate, Handler, Identity, Options, PeerError, Peers, Refusal,
            SnapshotChunks,
        },
    },
    types::{ClusterId, MemberId},
};
use tokio::time::{Instant, sleep, timeout};

use super::network::Simulated;

const DEAD_AFTER: Duration = Duration::from_millis(800);

struct Open;

impl Gate for Open {
    fn admit(&self, _: MemberId, _: u64) -> Result<(), Refusal> {
        Ok(())
    }

    fn refused(&self, by: MemberId, refusal: &Refusal) {
        panic!("refused by {by}: {refusal}");
    }
}

/// Echoes calls, accepts appends, and does nothing else.
struct Echo;

fn unused<T>() -> Result<T, Failed> {
    Err(Failed("unused".to_owned()))
}

impl Handler for Echo {
    fn answer(&self, _: MemberId, request: Request) -> BoxFuture<'_, Result<Reply, Failed>> {
        let reply = match request {
            Request::Call(call) => Ok(Reply::Call(call)),
            _ => unused(),
        };
        ready(reply).boxed()
    }

    fn append_stream(
        &self,
        _: MemberId,
        requests: AppendRequests,
    ) -> BoxStream<'_, Result<AppendReply, Failed>> {
        requests.map(|request| Ok(AppendReply::Accepted(request.prev))).boxed()
    }

    fn snapshot(
        &self,
        _: MemberId,
        _: SnapshotStart,
        _: SnapshotChunks,
    ) -> BoxFuture<'_, Result<SnapshotReply, Failed>> {
        ready(unused()).boxed()
    }

    fn version(&self) -> String {
        "{}".to_owned()
    }

    fn members(&self) -> Vec<Member> {
        vec![]
    }
}

fn peers(id: u64) -> Peers {
    Peers::new(Options {
        identity: Identity {
            cluster: ClusterId(1),
            member: MemberId(id),
            incarnation: id,
            group: 0,
        },
        network: Arc::new(Simulated),
        tls: None,
        gate: Arc::new(Open),
        dead_after: DEAD_AFTER,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
        seed: id,
    })
}

/// What the first member sees while the second is cut off for ten seconds and comes back.
async fn watch_a_partition(note: impl Fn(&str)) {
    let two = MemberId(2);
    let peers = peers(1);
    peers.set_addresses(two, vec!["http://two:2380".parse().unwrap()]);
    let call = async || peers.call(two, Bytes::from_static(b"x"), Duration::from_secs(5)).await;
    while call().await.is_err() {
        sleep(Duration::from_millis(10)).await; // until the other host has started
    }
    note("connected");
    let (sender, mut replies) = peers.append_stream(two).await.unwrap();
    let append =
        |vote| AppendRequest { vote, prev: None, entries: vec![], commit: None, traces: vec![] };
    let vote = orrery::types::Vote { term: 1, node: 1, committed: true };
    sender.send(append(vote)).await.unwrap();
    assert_eq!(replies.next().await, Some(Ok(AppendReply::Accepted(None))));

    turmoil::partition("one", "two");
    let cut = Instant::now();
    sender.send(append(vote)).await.unwrap();
    assert_eq!(call().await, Err(PeerError::Disconnected));
    note("call lost");
    assert_eq!(replies.next().await, Some(Err(PeerError::TimedOut)));
    note("stream lost");
    assert!(cut.elapsed() < 2 * DEAD_AFTER, "{:?}", cut.elapsed());
    sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    assert!(matches!(call().await, Err(PeerError::Unreachable { .. })));
    assert!(asked.elapsed() < Duration::from_millis(100), "known to be down: fails at once");

    turmoil::repair("one", "two");
    let back = async {
        while call().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(4), back).await.expect("one pause and one dial at most");
    note("back");
    peers.append_stream(two).await.unwrap();
    note("stream back");
}

fn run(seed: u64) -> Vec<String> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut simulation =
        turmoil::Builder::new().rng_seed(seed).simulation_duration(Duration::from_secs(60)).build();
    simulation.host("two", || async {
        let peers = peers(2);
        let bound = peers.bind(&"http://two:2380".parse()?).await?;
        peers.serve(bound, Arc::new(Echo));
        std::future::pending().await
    });
    let written = Arc::clone(&notes);
    simulation.client("one", async move {
        let started = Instant::now();
        let note = |what: &str| {
            written.lock().unwrap().push(format!("{what} {:?}", started.elapsed()));
        };
        watch_a_partition(note).await;
        Ok(())
    });
    simulation.run().unwrap();
    drop(simulation);
    let notes = notes.lock().unwrap();
    notes.clone()
}

#[test]
fn a_partition_is_noticed_and_its_end_too() {
    for seed in 0..20 {
        let notes = run(seed);
        assert_eq!(notes.len(), 5, "seed {seed}: {notes:?}");
        assert_eq!(run(seed), notes, "seed {seed} replays");
    }
}
