//! Clients that ask for a leader (`hasleader: true`), at a member that has lost it.

use std::time::{Duration, Instant};

use orrery::proto::etcdserverpb::{
    LeaseKeepAliveRequest, PutRequest, RangeRequest, StatusRequest, WatchCreateRequest,
    WatchRequest, WatchResponse, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::members::Cluster;

/// The default of `--election-timeout`.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A member takes up to two election timeouts to notice, and three to give up; the rest is for a
/// busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

fn range() -> RangeRequest {
    RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() }
}

async fn watch(channel: &Channel, asks: bool) -> Result<Streaming<WatchResponse>, Status> {
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures::StreamExt::chain(
        futures::stream::once(async { request }),
        futures::stream::pending(),
    );
    let request = if asks { asking(requests) } else { Request::new(requests) };
    let mut responses = WatchClient::new(channel.clone()).watch(request).await?.into_inner();
    let created = responses.message().await?.expect("the stream goes on");
    assert!(created.created, "{created:?}");
    Ok(responses)
}

#[track_caller]
fn assert_no_leader<T>(what: &str, outcome: Result<T, Status>) {
    let status = outcome.err().unwrap_or_else(|| panic!("{what} is served"));
    let answer = (status.code(), status.message());
    assert_eq!(answer, (Code::Unavailable, "etcdserver: no leader"), "{what}");
}

/// What goes on between the loss of the leader and its return, at the member that is left.
async fn asks_for_a_leader_that_is_gone(leader_is_left: bool) {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let left = if leader_is_left { leader } else { (leader + 1) % 3 };
    let others: Vec<usize> = cluster.indices().into_iter().filter(|at| *at != left).collect();
    let channel = Channel::from_shared(cluster.endpoint(left)).unwrap().connect().await.unwrap();
    let mut asking_watch = watch(&channel, true).await.unwrap();
    let mut other_watch = watch(&channel, false).await.unwrap();
    let mut kv = KvClient::new(channel.clone());
    kv.range(asking(range())).await.expect("there is a leader");

    cluster.kill(&others);
    let begin = Instant::now();
    // The member notices first, and then is patient with streams.
    let mut maintenance = MaintenanceClient::new(channel.clone());
    while maintenance.status(StatusRequest {}).await.unwrap().into_inner().leader != 0 {
        assert!(begin.elapsed() < PATIENCE, "the leader is not missed");
        sleep(Duration::from_millis(20)).await;
    }
    let noticed = Instant::now();
    let asked = Instant::now();
    assert_no_leader("a range", kv.range(asking(range())).await);
    assert_no_leader("a new watch", watch(&channel, true).await);
    let keep_alive = futures::stream::pending::<LeaseKeepAliveRequest>();
    let kept = LeaseClient::new(channel.clone()).lease_keep_alive(asking(keep_alive)).await;
    let kept = match kept {
        Ok(mut stream) => stream.get_mut().message().await.map(drop),
        Err(status) => Err(status),
    };
    assert_no_leader("a keep-alive", kept);
    assert!(asked.elapsed() < ELECTION_TIMEOUT, "refused only after {:?}", asked.elapsed());

    let ended = timeout(PATIENCE, asking_watch.message()).await.expect("the watch is ended");
    assert_no_leader("the watch", ended);
    let patience = noticed.elapsed();
    assert!(patience > ELECTION_TIMEOUT * 3 / 2, "the watch is ended after {patience:?}");
    assert!(patience < ELECTION_TIMEOUT * 6, "the watch is ended after {patience:?}");

    // Who does not ask waits for a leader, as long as for any answer.
    let put = PutRequest { key: "a".into(), ..PutRequest::default() };
    let linearizable = RangeRequest { serializable: false, ..range() };
    let mut other = kv.clone();
    let (put, range_answer) = tokio::join!(other.put(put), kv.range(linearizable));
    let answers = [put.map(drop), range_answer.map(drop)].map(|answer| {
        let status = answer.expect_err("there is no quorum");
        (status.code(), status.message().to_owned())
    });
    // etcd's proposal is not even taken, and its own deadline ends that; a read has its own words.
    let not_proposed = (Code::DeadlineExceeded, "context deadline exceeded".to_owned());
    let not_read = (Code::Unavailable, "etcdserver: request timed out".to_owned());
    assert_eq!(answers, [not_proposed, not_read]);

    // Who does not ask is served what the member has, and hears on when there is a leader again.
    kv.range(Request::new(range())).await.expect("the member has its store");
    watch(&channel, false).await.expect("a watch needs no leader");
    cluster.restart(&others).await.unwrap();
    cluster.client(left).await.put("a", "1", None).await.unwrap();
    let heard = timeout(PATIENCE, other_watch.message()).await.expect("it hears on");
    assert_eq!(heard.unwrap().expect("the stream goes on").events.len(), 1);
    watch(&channel, true).await.expect("there is a leader");
}

#[tokio::test]
async fn a_follower_without_a_leader_refuses_who_asks_for_one() {
    asks_for_a_leader_that_is_gone(false).await;
}

#[tokio::test]
async fn a_leader_that_has_lost_the_others_refuses_who_asks_for_one() {
    asks_for_a_leader_that_is_gone(true).await;
}
