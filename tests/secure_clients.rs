//! The crate etcd-client on three members that want certificates of clients and of each other, with
//! authentication on.

#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, LeaseTimeToLiveOptions,
    LockOptions, Permission, PermissionType, PutOptions, ResignOptions, Txn, TxnOp, WatchOptions,
};
use members::{Cluster, Setup};
use tokio::time::{sleep, timeout};
use tonic::Code;

/// Longer than anything takes that is meant to come.
const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN_TTL: Duration = Duration::from_secs(3);

/// Members with a user `root` who may do everything and `app` who may do what is below `app/`.
async fn start(flags: &[&str]) -> Cluster {
    let mut setup = Setup::secure(3);
    setup.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
    let cluster = setup.start().await;
    let mut client = cluster.client(0).await;
    for user in ["root", "app"] {
        client.user_add(user, password(user), None).await.unwrap();
        client.role_add(user).await.unwrap();
        client.user_grant_role(user, user).await.unwrap();
    }
    let below = Permission::new(PermissionType::Readwrite, "app/").with_prefix();
    client.role_grant_permission("app", below).await.unwrap();
    client.auth_enable().await.unwrap();
    cluster
}

fn password(user: &str) -> String {
    format!("password of {user}")
}

fn options(cluster: &Cluster, user: &str) -> ConnectOptions {
    cluster.client_options().with_user(user, password(user)).with_auto_token_refresh(true)
}

async fn connect(cluster: &Cluster, user: &str) -> Client {
    Client::connect(cluster.endpoints(), Some(options(cluster, user))).await.unwrap()
}

#[track_caller]
fn assert_refused<T>(outcome: Result<T, Error>, code: Code, text: &str) {
    match outcome {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!((status.code(), status.message()), (code, text));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused: {text}"),
    }
}

#[track_caller]
fn assert_denied<T>(outcome: Result<T, Error>) {
    assert_refused(outcome, Code::PermissionDenied, "etcdserver: permission denied");
}

#[tokio::test]
async fn a_user_does_what_it_may() {
    let cluster = start(&[]).await;
    let mut app = connect(&cluster, "app").await;
    app.put("app/a", "1", None).await.unwrap();
    let all = app.get("app/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(all.kvs()[0].value(), b"1");
    let swap = Txn::new()
        .when([Compare::value("app/a", CompareOp::Equal, "1")])
        .and_then([TxnOp::put("app/a", "2", None), TxnOp::get("app/a", None)]);
    assert!(app.txn(swap).await.unwrap().succeeded());

    let from_start = WatchOptions::new().with_prefix().with_start_revision(1);
    let mut watch = app.watch("app/", Some(from_start)).await.unwrap();
    let mut values = Vec::new();
    while values.len() < 2 {
        let heard = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        values.extend(heard.events().iter().map(|event| event.kv().unwrap().value().to_vec()));
    }
    assert_eq!(values, [b"1", b"2"]);

    let lease = app.lease_grant(60, None).await.unwrap().id();
    app.put("app/leased", "", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let (mut keeper, mut answers) = app.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 60);
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = app.lease_time_to_live(lease, Some(with_keys)).await.unwrap();
    assert_eq!(left.keys(), [b"app/leased"]);
    app.lease_revoke(lease).await.unwrap();

    assert_eq!(app.member_list().await.unwrap().members().len(), 3);
    assert_eq!(app.status().await.unwrap().errors(), [""; 0]);
}

#[tokio::test]
async fn locks_and_elections_are_services_that_a_user_may_call() {
    let cluster = start(&[]).await;
    let (mut app, mut other) = (connect(&cluster, "app").await, connect(&cluster, "app").await);
    let lease = app.lease_grant(60, None).await.unwrap().id();
    let owned = LockOptions::new().with_lease(lease);
    let held = app.lock("app/lock", Some(owned.clone())).await.unwrap();
    let mut waits = tokio::spawn(async move { other.lock("app/lock", None).await.map(|_| other) });
    assert!(timeout(Duration::from_millis(300), &mut waits).await.is_err(), "nobody waits");
    app.unlock(held.key()).await.unwrap();
    let mut other = timeout(PATIENCE, waits).await.unwrap().unwrap().unwrap();
    assert_refused(
        app.lock("other/lock", Some(owned)).await,
        Code::Unknown,
        "etcdserver: permission denied",
    );

    let won = app.campaign("app/election", "one", lease).await.unwrap();
    let mut observed = other.observe("app/election").await.unwrap();
    let first = timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.kv().unwrap().value(), b"one");
    let resign = ResignOptions::new().with_leader(won.leader().unwrap().clone());
    app.resign(Some(resign)).await.unwrap();
    assert_refused(other.leader("app/election").await, Code::Unknown, "election: no leader");
}

#[tokio::test]
async fn a_user_is_denied_what_it_may_not() {
    let cluster = start(&[]).await;
    let mut app = connect(&cluster, "app").await;
    assert_denied(app.put("other", "", None).await);
    assert_denied(app.get("app/", Some(GetOptions::new().with_from_key())).await);
    assert_denied(app.delete("other", None).await);
    assert_denied(app.txn(Txn::new().and_then([TxnOp::put("other", "", None)])).await);
    assert_denied(app.hash_kv(0).await);
    assert_denied(app.defragment().await);
    assert_denied(app.member_remove(1).await);
    assert_denied(app.user_list().await);
    assert_denied(app.auth_disable().await);
    let reason = match app.watch("other", None).await {
        Ok(mut stream) => stream.message().await.unwrap().unwrap().cancel_reason().to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(reason.contains("permission denied"), "{reason}");

    let wrong = cluster.client_options().with_user("app", "wrong");
    assert_refused(
        Client::connect(cluster.endpoints(), Some(wrong)).await,
        Code::InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password",
    );
    // The certificate names somebody who is no user.
    assert_denied(cluster.client(0).await.put("app/a", "", None).await);
    let mut root = connect(&cluster, "root").await;
    root.put("other", "", None).await.unwrap();
    root.auth_disable().await.unwrap();
    cluster.client(0).await.put("app/a", "", None).await.unwrap();
}

#[tokio::test]
async fn clients_come_in_anew_when_their_token_ends() {
    let cluster = start(&["--auth-token-ttl=3"]).await;
    let mut renews = connect(&cluster, "app").await;
    let stale = options(&cluster, "app").with_auto_token_refresh(false);
    let mut stale = Client::connect(cluster.endpoints(), Some(stale)).await.unwrap();
    let mut watch = renews.watch("app/a", None).await.unwrap();
    let lease = renews.lease_grant(60, None).await.unwrap().id();
    for round in 0..2 {
        stale.get("app/a", None).await.unwrap();
        let (mut keeper, mut answers) = renews.lease_keep_alive(lease).await.unwrap();
        sleep(TOKEN_TTL + Duration::from_secs(2)).await;
        renews.put("app/a", format!("{round}"), None).await.unwrap();
        let text = "etcdserver: invalid auth token";
        assert_refused(stale.get("app/a", None).await, Code::Unauthenticated, text);
        stale.refresh_token().await.unwrap();
        // Each keep-alive is judged by the token of its stream, each watch when it begins.
        keeper.keep_alive().await.unwrap();
        assert_refused(answers.message().await, Code::Unauthenticated, text);
        let heard = loop {
            let heard = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
            if !heard.events().is_empty() {
                break heard;
            }
        };
        let value = heard.events()[0].kv().unwrap().value_str().unwrap().to_owned();
        assert_eq!(value, round.to_string());
    }
}

/// Writes keys until so many are acknowledged, each by a request that was not refused but perhaps
/// repeated.
async fn write(client: &mut Client, written: &mut BTreeSet<String>, count: usize) {
    let (begin, goal) = (Instant::now(), written.len() + count);
    while written.len() < goal {
        assert!(begin.elapsed() < PATIENCE, "writes do not flow");
        let key = format!("app/w/{:05}", written.len());
        match timeout(Duration::from_secs(3), client.put(key.clone(), "", None)).await {
            Ok(Ok(_)) => assert!(written.insert(key)),
            Ok(Err(Error::GRpcStatus(status))) => {
                // The second is the transport's own, when the connection breaks while it is used.
                let broke = status.message() == "transport error";
                assert!(broke || status.code() == Code::Unavailable, "{status:?}");
            }
            Ok(Err(other)) => panic!("{other}"),
            Err(_) => {}
        }
    }
}

#[tokio::test]
async fn the_leader_dies_and_clients_go_on_with_their_tokens_leases_and_watches() {
    let mut cluster = start(&[]).await;
    let leader = cluster.leader().await;
    let mut app = connect(&cluster, "app").await;
    let lease = app.lease_grant(30, None).await.unwrap().id();
    app.put("app/leased", "", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let survivor = [cluster.endpoint((leader + 1) % 3)];
    let mut follows = Client::connect(survivor, Some(options(&cluster, "app"))).await.unwrap();
    let below = WatchOptions::new().with_prefix();
    let mut watch = follows.watch("app/w/", Some(below)).await.unwrap();

    let mut written = BTreeSet::new();
    write(&mut app, &mut written, 50).await;
    cluster.kill(&[leader]);
    write(&mut app, &mut written, 50).await;
    let (mut keeper, mut answers) = follows.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 30);
    cluster.restart(&[leader]).await.unwrap();
    write(&mut app, &mut written, 50).await;

    let mut heard = BTreeSet::new();
    while heard.len() < written.len() {
        let response = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        let keys = response.events().iter().map(|event| event.kv().unwrap().key_str().unwrap());
        heard.extend(keys.map(str::to_owned));
    }
    assert_eq!(heard, written);
    let left = app.lease_time_to_live(lease, None).await.unwrap();
    assert!(left.ttl() > 0, "the lease has ended");
}
