//! Levels of consistency on real members: what metadata and defaults make of a request, what the
//! answer tells, and what a member without a quorum still serves. That the promises hold under
//! faults is the simulation's business.

#[path = "gateway/http.rs"]
mod http;
#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use members::{Cluster, Setup};
use orrery::proto::{
    etcdserverpb::{
        AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, AuthenticateRequest,
        PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
        auth_client::AuthClient, kv_client::KvClient, request_op, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    v3lockpb::{LockRequest, lock_client::LockClient},
};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Channel};

async fn channel(cluster: &Cluster, at: usize) -> Channel {
    Channel::from_shared(cluster.endpoint(at)).unwrap().connect().await.unwrap()
}

async fn kv(cluster: &Cluster, at: usize) -> KvClient<Channel> {
    KvClient::new(channel(cluster, at).await)
}

/// `says`: metadata as `name: value`, with commas between.
fn with<T>(message: T, says: &str) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in says.split(", ").filter_map(|header| header.split_once(": ")) {
        let name: tonic::metadata::AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().append(name, value.parse().unwrap());
    }
    request
}

fn get() -> RangeRequest {
    RangeRequest { key: "k".into(), ..RangeRequest::default() }
}

fn get_in_txn() -> TxnRequest {
    let get = RequestOp { request: Some(request_op::Request::RequestRange(get())) };
    TxnRequest { success: vec![get], ..TxnRequest::default() }
}

async fn put(kv: &mut KvClient<Channel>) -> i64 {
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    kv.put(put).await.unwrap().into_inner().header.unwrap().revision
}

fn told<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    metadata.get(name).map(|value| value.to_str().unwrap())
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>, code: Code, words: &str) {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), code, "{refused}");
    assert!(refused.message().contains(words), "{refused}");
}

async fn one_member(flags: &[String]) -> Cluster {
    let mut setup = Setup::new(1);
    setup.flags = flags.to_vec();
    setup.start().await
}

#[tokio::test]
async fn a_request_says_how_fresh_its_answer_has_to_be_and_is_told_how_fresh_it_is() {
    let cluster = one_member(&["--region=eastus".to_owned()]).await;
    let mut kv = kv(&cluster, 0).await;
    let revision = put(&mut kv).await;
    for says in [
        "x-consistency: strong",
        "x-consistency: latest-committed",
        "x-max-staleness-ms: 5000",
        "x-consistency: bounded, x-max-staleness-revisions: 3",
        &format!("x-min-revision: {revision}"),
        "x-consistency: prefix",
        "x-ms-consistency-level: Eventual",
    ] {
        let range = kv.range(with(get(), says)).await.unwrap();
        let txn = kv.txn(with(get_in_txn(), says)).await.unwrap();
        let stream = kv.range_stream(with(get(), says)).await.unwrap();
        for metadata in [range.metadata(), txn.metadata(), stream.metadata()] {
            let number = revision.to_string();
            assert_eq!(told(metadata, "x-applied-revision"), Some(number.as_str()), "{says}");
            assert_eq!(told(metadata, "x-region"), Some("eastus"), "{says}");
            assert_eq!(told(metadata, "x-leader-region"), Some("eastus"), "{says}");
            let token = told(metadata, "x-ms-session-token").unwrap();
            assert!(token.ends_with(&format!(":0:{revision}")), "{token}");
            let staleness: u64 = told(metadata, "x-staleness-ms").unwrap().parse().unwrap();
            let most = if says.contains("strong") || says.contains("committed") { 0 } else { 5000 };
            assert!(staleness <= most, "{says}: {staleness}");
            // What it was told is what it may say next.
            let mut session = with(get(), "x-consistency: session");
            session.metadata_mut().insert("x-ms-session-token", token.parse().unwrap());
            assert_eq!(kv.range(session).await.unwrap().into_inner().kvs.len(), 1);
        }
    }
    let plain = kv.range(get()).await.unwrap();
    assert!(plain.metadata().keys().all(|name| !format!("{name:?}").contains("x-")), "{plain:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_what_is_no_read_does_not_look_at_it() {
    let cluster = one_member(&[]).await;
    let mut kv = kv(&cluster, 0).await;
    let revision = put(&mut kv).await;
    for (says, code, words) in [
        (
            "x-consistency: quorum",
            Code::InvalidArgument,
            "x-consistency: \"quorum\" is not a level",
        ),
        ("x-max-staleness-ms: soon", Code::InvalidArgument, "x-max-staleness-ms: \"soon\""),
        ("x-min-revision: -4", Code::InvalidArgument, "x-min-revision: \"-4\""),
        ("x-ms-session-token: abc:0:1", Code::FailedPrecondition, "of another cluster"),
        ("x-consistency: bounded", Code::InvalidArgument, "x-max-staleness-ms"),
    ] {
        check_refused(kv.range(with(get(), says)).await, code, words);
        check_refused(kv.txn(with(get_in_txn(), says)).await, code, words);
        check_refused(kv.range_stream(with(get(), says)).await, code, words);
        let mut watch = WatchClient::new(channel(&cluster, 0).await);
        let none = || stream::pending::<WatchRequest>();
        check_refused(watch.watch(with(none(), says)).await, code, words);
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        kv.put(with(put, says)).await.unwrap();
    }
    // A revision that nobody has seen: the client hears why before it gives up.
    let begun = Instant::now();
    let mut future = with(get(), &format!("x-min-revision: {}", revision + 1000));
    future.set_timeout(Duration::from_secs(4));
    check_refused(kv.range(future).await, Code::Unavailable, "read session not available");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stream_of_watchers_opens_when_the_member_has_what_its_session_has_seen() {
    let cluster = one_member(&[]).await;
    let mut kv = kv(&cluster, 0).await;
    let revision = put(&mut kv).await;
    let create = WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let endpoint = cluster.endpoint(0);
    let watch = |says: String| {
        let (create, endpoint) = (create.clone(), endpoint.clone());
        async move {
            let requests = stream::iter([create]).chain(stream::pending());
            let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
            let mut client = WatchClient::new(channel);
            let mut responses = client.watch(with(requests, &says)).await?.into_inner();
            responses.message().await
        }
    };
    let created = watch(format!("x-min-revision: {revision}")).await.unwrap().unwrap();
    assert!(created.created);
    let later = tokio::spawn(watch(format!("x-min-revision: {}", revision + 1)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!later.is_finished());
    put(&mut kv).await;
    let created = later.await.unwrap().unwrap().unwrap();
    assert_eq!(created.header.unwrap().revision, revision + 1);
}

#[tokio::test]
async fn a_listener_with_a_weaker_default_weakens_what_says_nothing_and_caps_the_rest() {
    let mut cluster = Setup::new(1).prepare();
    let url = cluster.endpoint(0);
    let flag = format!("--listen-consistency={url}=bounded,max-staleness-ms=9000");
    cluster.set_flags(&[&flag]);
    cluster.restart(&[0]).await.unwrap();
    assert!(cluster.log(0).contains("kube-apiserver needs strong"));
    let mut kv = kv(&cluster, 0).await;
    put(&mut kv).await;
    for says in ["", "x-consistency: bounded", "x-max-staleness-ms: 9000", "x-consistency: prefix"]
    {
        let answer = kv.range(with(get(), says)).await.unwrap();
        assert!(told(answer.metadata(), "x-staleness-ms").is_some(), "{says}");
    }
    for says in ["x-consistency: strong", "x-max-staleness-ms: 8999"] {
        let words = "stronger than what this client gets here (bounded,max-staleness-ms=9000)";
        check_refused(kv.range(with(get(), says)).await, Code::InvalidArgument, words);
    }
    let committed = kv.range(with(get(), "x-consistency: latest-committed")).await.unwrap();
    assert_eq!(told(committed.metadata(), "x-staleness-ms"), Some("0"));
    // A lock is a lock.
    let mut locks = LockClient::new(channel(&cluster, 0).await);
    let lock = LockRequest { name: "l".into(), lease: 0 };
    locks.lock(with(lock, "x-consistency: eventual")).await.unwrap();
    // The gateway comes in by the same listener.
    let request = http::Request {
        method: "POST",
        path: "/v3/kv/range",
        headers: vec![("Grpc-Metadata-X-Consistency".to_owned(), "strong".to_owned())],
        body: r#"{"key": "aw=="}"#,
        lines: usize::MAX,
    };
    let answer = http::ask(cluster.client_address(0), &request).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let page =
        http::Request { method: "GET", path: "/metrics", headers: vec![], body: "", ..request };
    let page = http::ask(cluster.client_address(0), &page).await.body;
    for line in
        ["orrery_reads_total{level=\"bounded\"} 3", "orrery_reads_total{level=\"prefix\"} 1"]
    {
        assert!(page.lines().any(|it| it == line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn an_identity_has_a_default_of_its_own() {
    let cluster = one_member(&["--identity-consistency=reports=prefix".to_owned()]).await;
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    for name in ["root", "reports"] {
        let (user, role, name) = (name.to_owned(), "root".to_owned(), name.to_owned());
        let add = AuthUserAddRequest { name, password: "p".to_owned(), ..Default::default() };
        auth.user_add(add).await.unwrap();
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role }).await.unwrap();
    }
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let mut kv = kv(&cluster, 0).await;
    for (name, is_told) in [("root", false), ("reports", true)] {
        let come_in = AuthenticateRequest { name: name.to_owned(), password: "p".to_owned() };
        let token = auth.authenticate(come_in).await.unwrap().into_inner().token;
        let says = format!("token: {token}");
        let answer = kv.range(with(get(), &says)).await.unwrap();
        assert_eq!(told(answer.metadata(), "x-applied-revision").is_some(), is_told, "{name}");
        let strong = kv.range(with(get(), &format!("{says}, x-consistency: strong"))).await;
        assert_eq!(strong.is_err(), is_told, "{name}: {strong:?}");
    }
}

#[tokio::test]
async fn a_member_without_a_quorum_serves_what_its_level_allows() {
    let cluster = Cluster::start(3).await;
    let alone = (cluster.leader().await + 1) % 3;
    let others: Vec<usize> = cluster.indices().into_iter().filter(|at| *at != alone).collect();
    let mut kv = kv(&cluster, alone).await;
    let revision = put(&mut kv).await;
    kv.range(with(get(), "x-max-staleness-ms: 60000")).await.unwrap();
    cluster.pause(&others);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for says in [
        "x-consistency: prefix",
        "x-consistency: eventual",
        "x-max-staleness-ms: 60000",
        &format!("x-min-revision: {revision}"),
    ] {
        // Nobody else could answer.
        let answer = kv.range(with(get(), says)).await.unwrap();
        let staleness: u64 = told(answer.metadata(), "x-staleness-ms").unwrap().parse().unwrap();
        assert!((2000..60_000).contains(&staleness), "{says}: {staleness}");
        assert_eq!(told(answer.metadata(), "x-leader-region"), None);
    }
    for (says, words) in [
        ("x-consistency: strong".to_owned(), "request timed out"),
        ("x-max-staleness-ms: 1000".to_owned(), "bounded read not available: this member's state"),
        (format!("x-min-revision: {}", revision + 1), "read session not available: revision"),
        ("x-consistency: prefix, hasleader: true".to_owned(), "no leader"),
    ] {
        let mut read = with(get(), &says);
        read.set_timeout(Duration::from_secs(4));
        check_refused(kv.range(read).await, Code::Unavailable, words);
    }
    cluster.resume(&others);
    let answer = kv.range(with(get(), "x-max-staleness-ms: 1000")).await.unwrap();
    assert_eq!(answer.into_inner().kvs.len(), 1);
}
