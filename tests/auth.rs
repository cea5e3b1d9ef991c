//! Authentication on real members: what must be true of several of them, of their files and their
//! logs. What each request is answered stands in `tests/conformance/auth*.txt`.

#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use members::{Cluster, Setup};
use orrery::proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest, LeaseGrantRequest, PutRequest, RangeRequest, auth_client::AuthClient,
    kv_client::KvClient, lease_client::LeaseClient,
};
use tonic::{Code, Request, Status, transport::Channel};

const PASSWORD: &str = "a-password-that-stands-nowhere";
const CHANGED: &str = "another-one-that-stands-nowhere";

async fn channel(cluster: &Cluster, at: usize) -> Channel {
    Channel::from_shared(cluster.endpoint(at)).unwrap().connect().await.unwrap()
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

/// Adds root and enables authentication.
async fn enable(auth: &mut AuthClient<Channel>) {
    let (name, password) = ("root".to_owned(), PASSWORD.to_owned());
    auth.user_add(AuthUserAddRequest { name, password, ..Default::default() }).await.unwrap();
    let (user, role) = ("root".to_owned(), "root".to_owned());
    auth.user_grant_role(AuthUserGrantRoleRequest { user, role }).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}

async fn come_in(auth: &mut AuthClient<Channel>, password: &str) -> Result<String, Status> {
    let (name, password) = ("root".to_owned(), password.to_owned());
    Ok(auth.authenticate(AuthenticateRequest { name, password }).await?.into_inner().token)
}

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), lease, ..PutRequest::default() }
}

async fn get(kv: &mut KvClient<Channel>, token: &str, serializable: bool) -> Result<usize, Status> {
    let range = RangeRequest { key: "k".into(), serializable, ..RangeRequest::default() };
    Ok(kv.range(with_token(range, token)).await?.into_inner().kvs.len())
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![fs::read(path).unwrap()],
        })
        .collect()
}

#[tokio::test]
async fn a_token_of_one_member_is_good_at_all_of_them() {
    let cluster = Setup::new(3).start().await;
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    enable(&mut auth).await;
    let mut clients = Vec::new();
    for at in cluster.indices() {
        clients.push(KvClient::new(channel(&cluster, at).await));
    }
    for _ in 0..20 {
        let token = come_in(&mut auth, PASSWORD).await.unwrap();
        for kv in &mut clients {
            // At once, without a linearizable read that would make the member catch up.
            assert_eq!(get(kv, &token, true).await.unwrap(), 0);
            kv.put(with_token(put("other", 0), &token)).await.unwrap();
        }
    }
    for kv in &mut clients {
        let refused = get(kv, "xxxxxxxxxxxxxxxx.7", true).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refused = kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await;
        assert_eq!(refused.unwrap_err().message(), "etcdserver: user name is empty");
    }
}

/// CVE-2021-28235: the password of whoever came in could be seen where requests are shown. Here
/// passwords and tokens stand in no log, not even at the lowest level, and in no file.
#[tokio::test]
async fn passwords_and_tokens_are_written_nowhere() {
    let mut setup = Setup::new(1);
    setup.flags = vec!["--log-level=debug".to_owned()];
    let data_dir = setup.data_dirs[0].clone();
    let mut cluster = setup.start().await;
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    enable(&mut auth).await;
    let token = come_in(&mut auth, PASSWORD).await.unwrap();
    let (name, password) = ("root".to_owned(), CHANGED.to_owned());
    let change = AuthUserChangePasswordRequest { name, password, ..Default::default() };
    auth.user_change_password(with_token(change, &token)).await.unwrap();
    let refused = come_in(&mut auth, PASSWORD).await.unwrap_err();
    assert!(refused.message().contains("invalid user ID or password"));
    let other_token = come_in(&mut auth, CHANGED).await.unwrap();
    cluster.stop(0).await;
    let secret = |token: &str| token.split('.').next().unwrap().to_owned();
    let secrets = [PASSWORD.to_owned(), CHANGED.to_owned(), secret(&token), secret(&other_token)];
    let log = cluster.log(0).into_bytes();
    assert!(!log.is_empty());
    let mut root_is_there = false;
    for file in files(&data_dir).iter().chain([&log]) {
        let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
        root_is_there |= has("root");
        for secret in &secrets {
            assert!(!has(secret), "{secret}");
        }
    }
    assert!(root_is_there, "the files are not looked at");
}

/// Nobody asks for the revocation of a lease that runs out, and so nobody's permissions count.
#[tokio::test]
async fn leases_run_out_while_authentication_is_on_and_tokens_end_with_the_process() {
    let mut cluster = Setup::new(1).start().await;
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    let mut kv = KvClient::new(channel(&cluster, 0).await);
    let grant = LeaseGrantRequest { ttl: 1, id: 7 };
    LeaseClient::new(channel(&cluster, 0).await).lease_grant(grant).await.unwrap();
    kv.put(put("k", 7)).await.unwrap();
    enable(&mut auth).await;
    let token = come_in(&mut auth, PASSWORD).await.unwrap();
    let begin = Instant::now();
    while get(&mut kv, &token, false).await.unwrap() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the lease does not run out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop(0).await;
    cluster.restart(&[0]).await.unwrap();
    let mut kv = KvClient::new(channel(&cluster, 0).await);
    let refused = get(&mut kv, &token, false).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: invalid auth token");
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    let token = come_in(&mut auth, PASSWORD).await.unwrap();
    assert_eq!(get(&mut kv, &token, false).await.unwrap(), 0);
}
