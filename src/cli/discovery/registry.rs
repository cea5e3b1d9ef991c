//! Meeting the other founding members in an etcd cluster: each writes itself under a token, and the
//! first ones, as many as somebody has written there before, are the cluster.
//!
//! The keys are etcd's: `/_etcd/registry/TOKEN/_config/size` and `.../members/ID`, whose value is
//! the member as `--initial-cluster` has it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::{error::Elapsed, sleep, timeout};
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataValue, errors::InvalidMetadataValue},
    transport::{self, Channel},
};
use tracing::{info, warn};

use super::{dial, found::Found};
use crate::{
    config::{Endpoint, Registry},
    proto::{
        etcdserverpb::{
            AuthenticateRequest, PutRequest, RangeRequest, RangeResponse, WatchCreateRequest,
            WatchRequest, auth_client::AuthClient, kv_client::KvClient, watch_client::WatchClient,
            watch_request::RequestUnion,
        },
        mvccpb::KeyValue,
    },
    types::MemberId,
};

/// Retries after which the time between two does not double any more, as in etcd.
const DOUBLINGS_MAX: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("discovery: size key not found")]
    SizeNotFound,
    #[error("discovery: size key is bad")]
    BadSize,
    #[error("discovery: cluster is full")]
    Full,
    #[error("{0}")]
    Tls(#[from] crate::tls::Error),
}

/// Why one attempt failed; there will be another.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{}", with_causes(.0))]
    Connection(#[from] transport::Error),
    #[error("{}", .0.message())]
    Answer(#[from] Box<Status>),
    #[error("no answer in time")]
    Timeout(#[from] Elapsed),
    #[error("the token is no text")]
    Token(#[from] InvalidMetadataValue),
    #[error("the watch was canceled: {0}")]
    Canceled(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        Trouble::Answer(Box::new(status))
    }
}

/// tonic says "transport error", and why further down.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A connection, with a token if the registry wants one.
type Connected = (Channel, Option<AsciiMetadataValue>);

/// One member's dealings with the registry.
pub(crate) struct Meeting<'a> {
    registry: &'a Registry,
    /// What it writes of itself, as `--initial-cluster` has it.
    member: String,
    own_key: String,
    members_prefix: String,
    dialler: dial::Dialler,
    /// Failed attempts since the last that succeeded.
    failures: u32,
}

impl<'a> Meeting<'a> {
    pub(crate) fn new(
        registry: &'a Registry,
        id: MemberId,
        member: String,
    ) -> Result<Meeting<'a>, Error> {
        let members_prefix = format!("/_etcd/registry/{}/members", registry.token);
        Ok(Meeting {
            registry,
            member,
            own_key: format!("{members_prefix}/{id}"),
            members_prefix,
            dialler: dial::Dialler::new(registry)?,
            failures: 0,
        })
    }

    /// Writes this member there and waits until all others are there too. The founding members, as
    /// `--initial-cluster` has them.
    pub(crate) async fn join(mut self) -> Result<String, Error> {
        self.see().await?;
        let register =
            |kv: Client, meeting: &Meeting<'_>| kv.put(&meeting.own_key, &meeting.member);
        self.until_done("register member itself", register).await;
        info!(
            member_key = self.own_key,
            member_info = self.member,
            "register member itself successfully"
        );
        let (mut found, size, revision) = self.see().await?;
        if found.len() < size {
            info!(
                cluster_size = size,
                found_peers = found.len(),
                "waiting for peers from discovery service"
            );
        }
        let mut from = revision + 1;
        while found.len() < size {
            if let Err(trouble) = self.watch(&mut found, size, &mut from).await {
                self.back_off("watch for peers", &trouble).await;
            }
        }
        info!(
            cluster_size = size,
            found_peers = found.len(),
            "found all needed peers from discovery service"
        );
        Ok(found.cluster(size))
    }

    /// Who is there, how many are wanted, and at which revision that was so.
    async fn see(&mut self) -> Result<(Found, usize, i64), Error> {
        let key = format!("/_etcd/registry/{}/_config/size", self.registry.token);
        let size =
            self.until_done("cluster status check", |kv, _| kv.get(key.clone(), false)).await;
        let size = size.kvs.first().ok_or(Error::SizeNotFound)?;
        let size = str::from_utf8(&size.value).ok().and_then(|size| size.parse::<usize>().ok());
        let size = size.filter(|size| *size > 0).ok_or(Error::BadSize)?;
        let prefix = self.members_prefix.clone();
        let listed =
            self.until_done("cluster status check", |kv, _| kv.get(prefix.clone(), true)).await;
        let mut found = Found::default();
        listed.kvs.iter().for_each(|kv| note(&mut found, kv));
        if !found.has_room_for(&self.own_key, size) {
            return Err(Error::Full);
        }
        Ok((found, size, listed.header.map_or(0, |header| header.revision)))
    }

    /// Follows the members that register, until there are enough of them or the stream ends.
    async fn watch(
        &mut self,
        found: &mut Found,
        size: usize,
        from: &mut i64,
    ) -> Result<(), Trouble> {
        let (channel, token) = self.connect().await?;
        let range_end = end_of_prefix(&self.members_prefix);
        let create = WatchCreateRequest {
            key: self.members_prefix.clone().into(),
            range_end,
            start_revision: *from,
            ..Default::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The server takes the end of the requests for the end of the watch.
        let requests = futures::stream::once(std::future::ready(create));
        let requests = futures::StreamExt::chain(requests, futures::stream::pending());
        let mut client = WatchClient::new(channel);
        let mut answers = client.watch(with_token(requests, token.as_ref())).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if answer.canceled {
                return Err(Trouble::Canceled(answer.cancel_reason));
            }
            self.failures = 0;
            for event in &answer.events {
                event.kv.iter().for_each(|kv| note(found, kv));
            }
            *from = answer.header.map_or(*from, |header| header.revision + 1);
            if found.len() >= size {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries until it succeeds, less and less often.
    async fn until_done<T, F>(
        &mut self,
        step: &'static str,
        attempt: impl Fn(Client, &Meeting<'_>) -> F,
    ) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        loop {
            let once = async {
                let (channel, token) = self.connect().await?;
                let client = Client { kv: KvClient::new(channel), token };
                let done = timeout(self.registry.request_timeout, attempt(client, self)).await?;
                done.map_err(Trouble::from)
            };
            match once.await {
                Ok(done) => {
                    self.failures = 0;
                    return done;
                }
                Err(trouble) => self.back_off(step, &trouble).await,
            }
        }
    }

    async fn back_off(&mut self, step: &'static str, trouble: &Trouble) {
        self.failures += 1;
        let backoff = Duration::from_secs(1 << self.failures.min(DOUBLINGS_MAX));
        warn!(
            reason = step, error = %trouble, ?backoff,
            "retry connecting to discovery service"
        );
        sleep(backoff).await;
    }

    /// The first endpoint that answers.
    async fn connect(&self) -> Result<Connected, Trouble> {
        let (last, others) = self.registry.endpoints.split_last().expect("it is never empty");
        for endpoint in others {
            match self.connect_to(endpoint).await {
                Ok(connected) => return Ok(connected),
                Err(trouble) => warn!(endpoint = endpoint.host, error = %trouble, "no connection"),
            }
        }
        self.connect_to(last).await
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<Connected, Trouble> {
        let channel = self.dialler.connect(endpoint).await?;
        let Some(user) = &self.registry.user else { return Ok((channel, None)) };
        let request =
            AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        let mut client = AuthClient::new(channel.clone());
        let answered = timeout(self.registry.request_timeout, client.authenticate(request)).await;
        let token = answered??.into_inner().token.parse::<AsciiMetadataValue>()?;
        Ok((channel, Some(token)))
    }
}

/// Key-value requests of one attempt.
struct Client {
    kv: KvClient<Channel>,
    token: Option<AsciiMetadataValue>,
}

impl Client {
    fn get(
        mut self,
        key: String,
        prefix: bool,
    ) -> impl Future<Output = Result<RangeResponse, Status>> {
        let range_end = if prefix { end_of_prefix(&key) } else { Bytes::new() };
        async move {
            let range = RangeRequest { key: key.into(), range_end, ..Default::default() };
            Ok(self.kv.range(with_token(range, self.token.as_ref())).await?.into_inner())
        }
    }

    fn put(mut self, key: &str, value: &str) -> impl Future<Output = Result<(), Status>> + use<> {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        async move {
            let put = PutRequest { key, value, ..Default::default() };
            self.kv.put(with_token(put, self.token.as_ref())).await.map(drop)
        }
    }
}

fn with_token<T>(message: T, token: Option<&AsciiMetadataValue>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

fn end_of_prefix(prefix: &str) -> Bytes {
    // Ours end with a letter, so that the next one ends the range.
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::from(end)
}

fn note(found: &mut Found, kv: &KeyValue) {
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    let (member_key, member_info) = (key.trim(), value.trim());
    match found.add(member_key, member_info, kv.create_revision) {
        Ok(()) => info!(member_key, member_info, "found peer from discovery service"),
        Err(error) => warn!(member_key, member_info, "{error}"),
    }
}
