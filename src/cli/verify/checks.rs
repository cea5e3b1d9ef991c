//! The checks, each through our own client.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;
use tokio_stream::{StreamExt, iter, once};
use tonic::transport::Channel;

use super::{Check, Standing};
use crate::{
    cli::output::{Output, State},
    proto::{
        etcdserverpb::{
            DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
            PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
            kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
            watch_client::WatchClient, watch_request::RequestUnion,
        },
        v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
    },
};

/// A check takes a few round trips around the earth.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// What is written is under this, and deleted in the end.
const OWN: &str = "orrery/verify/";

/// What Kubernetes writes is under this.
const REGISTRY: &str = "/registry";

const LEASE_TTL_SECS: i64 = 60;

/// A connection to one member of each region, and to every member.
pub(super) struct Connections {
    /// In the order of priorities.
    regions: Vec<(String, anyhow::Result<Channel>)>,
    /// Region, name, connection.
    members: Vec<(String, String, anyhow::Result<Channel>)>,
}

impl Connections {
    pub(super) async fn open(output: &Output, state: &State) -> Connections {
        let regions = state.plan.regions();
        let own = regions.iter().flat_map(|region| {
            let endpoints = state.endpoints(region).into_iter();
            endpoints.filter(move |endpoint| endpoint.member_region == *region)
        });
        let opening = own.map(|endpoint| async move {
            let channel = timeout(CHECK_TIMEOUT, output.connect(&endpoint.url)).await;
            let channel = channel.unwrap_or_else(|_| bail!("{}: no answer", endpoint.url));
            (endpoint.member_region, endpoint.member, channel)
        });
        let members = join_all(opening).await;
        let one_of = |region: &String| {
            let mut own = members.iter().filter(|(at, _, _)| at == region);
            let found = own.clone().find_map(|(_, _, channel)| channel.as_ref().ok()).cloned();
            let why = || match own.next() {
                Some((_, member, Err(error))) => anyhow::anyhow!("{member}: {error:#}"),
                Some(_) | None => anyhow::anyhow!("{region} has no member"),
            };
            found.ok_or_else(why)
        };
        let regions = regions.iter().map(|region| (region.clone(), one_of(region))).collect();
        Connections { regions, members }
    }

    pub(super) async fn check_all(&self) -> Vec<Check> {
        let first = self.regions.first().map(|(region, _)| region.clone()).unwrap_or_default();
        let last = self.regions.last().map(|(region, _)| region.clone()).unwrap_or_default();
        let mut checks = vec![done("keys without values", &first, self.keys_only()).await];
        for at in 0..self.regions.len() {
            let region = self.regions[at].0.clone();
            checks.push(done("write and read", &region, self.write_and_read(at)).await);
        }
        checks.push(done("lock", &last, self.lock()).await);
        checks.push(done("lease", &last, self.lease()).await);
        checks.push(done("watch", &last, self.watch()).await);
        // Best effort: what is left does not hurt.
        let _ = timeout(CHECK_TIMEOUT, self.clean()).await;
        checks
    }

    fn channel(&self, at: usize) -> anyhow::Result<Channel> {
        match &self.regions.get(at).context("there is no region")?.1 {
            Ok(channel) => Ok(channel.clone()),
            Err(error) => bail!("{error:#}"),
        }
    }

    fn first(&self) -> anyhow::Result<Channel> {
        self.channel(0)
    }

    /// The region with the least priority, from which most is far.
    fn last(&self) -> anyhow::Result<Channel> {
        self.channel(self.regions.len().saturating_sub(1))
    }

    async fn keys_only(&self) -> anyhow::Result<String> {
        let request = RangeRequest { keys_only: true, ..prefix(REGISTRY) };
        let response = KvClient::new(self.first()?).range(request).await?.into_inner();
        let bare = response.kvs.iter().all(|kv| !kv.key.is_empty() && kv.value.is_empty());
        ensure!(bare, "keys came with values");
        Ok(format!("{} keys under {REGISTRY}", response.kvs.len()))
    }

    /// A write through one region is read through each: strongly, so none may have missed it.
    async fn write_and_read(&self, at: usize) -> anyhow::Result<String> {
        let (key, value) = (own(&format!("region-{at}")), Bytes::from(at.to_string()));
        let start = Instant::now();
        let put = PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
        KvClient::new(self.channel(at)?).put(put).await.context("write")?;
        let wrote = start.elapsed();
        let mut read = Duration::ZERO;
        for (reader, (region, _)) in self.regions.iter().enumerate() {
            let start = Instant::now();
            let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            let response = KvClient::new(self.channel(reader)?).range(request).await;
            let response = response.with_context(|| format!("read through {region}"))?.into_inner();
            let found = response.kvs.first().map(|kv| &kv.value);
            ensure!(found == Some(&value), "a read through {region} misses the write");
            if reader == at {
                read = start.elapsed();
            }
        }
        let (wrote, read) = (wrote.as_millis(), read.as_millis());
        Ok(format!("written in {wrote} ms, read in {read} ms, and through every region"))
    }

    async fn lock(&self) -> anyhow::Result<String> {
        let mut client = LockClient::new(self.last()?);
        let lease = self.grant().await?;
        let request = LockRequest { name: own("lock"), lease };
        let key = client.lock(request).await?.into_inner().key;
        client.unlock(UnlockRequest { key: key.clone() }).await?;
        let request = RangeRequest { key, count_only: true, ..RangeRequest::default() };
        let left = KvClient::new(self.first()?).range(request).await?.into_inner().count;
        ensure!(left == 0, "the lock is still held");
        self.revoke(lease).await?;
        Ok("taken and given back".to_owned())
    }

    async fn lease(&self) -> anyhow::Result<String> {
        let id = self.grant().await?;
        let (key, value) = (own("lease"), Bytes::from("held"));
        let put = PutRequest { key: key.clone(), value, lease: id, ..PutRequest::default() };
        let mut kv = KvClient::new(self.last()?);
        kv.put(put).await?;
        let mut client = LeaseClient::new(self.last()?);
        // The stream stays open behind the request, as clients keep it.
        let requests = once(LeaseKeepAliveRequest { id }).chain(tokio_stream::pending());
        let answer = client.lease_keep_alive(requests).await?.into_inner().message().await?;
        let ttl = answer.map_or(0, |answer| answer.ttl);
        ensure!(ttl == LEASE_TTL_SECS, "kept alive for {ttl} s instead of {LEASE_TTL_SECS} s");
        self.revoke(id).await?;
        let request = RangeRequest { key, ..RangeRequest::default() };
        let left = kv.range(request).await?.into_inner().count;
        ensure!(left == 0, "its key is still there");
        Ok("granted, kept alive, revoked; its key is gone".to_owned())
    }

    async fn grant(&self) -> anyhow::Result<i64> {
        let request = LeaseGrantRequest { ttl: LEASE_TTL_SECS, id: 0 };
        Ok(LeaseClient::new(self.last()?).lease_grant(request).await?.into_inner().id)
    }

    async fn revoke(&self, id: i64) -> anyhow::Result<()> {
        LeaseClient::new(self.last()?).lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(())
    }

    /// Seen in the last region, written through the first.
    async fn watch(&self) -> anyhow::Result<String> {
        let (key, value) = (own("watch"), Bytes::from("seen"));
        let create = WatchCreateRequest { key: key.clone(), ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = iter([request]).chain(tokio_stream::pending());
        let mut stream = WatchClient::new(self.last()?).watch(requests).await?.into_inner();
        let created = stream.message().await?.context("the watch ended")?;
        ensure!(created.created, "the watch was not created: {}", created.cancel_reason);
        let start = Instant::now();
        let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
        KvClient::new(self.first()?).put(put).await?;
        loop {
            let response = stream.message().await?.context("the watch ended")?;
            ensure!(!response.canceled, "the watch was canceled: {}", response.cancel_reason);
            let mut values = response.events.iter().filter_map(|event| event.kv.as_ref());
            if values.any(|kv| kv.value == value) {
                let (took, from) = (start.elapsed().as_millis(), &self.regions[0].0);
                return Ok(format!("a write through {from} seen {took} ms after it was sent"));
            }
        }
    }

    async fn clean(&self) -> anyhow::Result<()> {
        let RangeRequest { key, range_end, .. } = prefix(OWN);
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        KvClient::new(self.first()?).delete_range(request).await?;
        Ok(())
    }

    /// How each member stands, by what it says of itself.
    pub(super) async fn standings(&self) -> Vec<Standing> {
        let asking = self.members.iter().map(|(region, member, channel)| async move {
            let answer = match channel {
                Ok(channel) => {
                    let mut client = MaintenanceClient::new(channel.clone());
                    let answer = timeout(CHECK_TIMEOUT, client.status(StatusRequest {})).await;
                    answer.ok().and_then(Result::ok).map(tonic::Response::into_inner)
                }
                Err(_) => None,
            };
            let header = answer.as_ref().and_then(|answer| answer.header.as_ref());
            let id = header.map(|header| header.member_id);
            Standing {
                region: region.clone(),
                member: member.clone(),
                is_leader: id.is_some() && id == answer.as_ref().map(|answer| answer.leader),
                revision: header.map(|header| header.revision),
                lag: None,
                version: answer.map(|answer| answer.version).unwrap_or_default(),
            }
        });
        let mut standings = join_all(asking).await;
        let newest = standings.iter().filter_map(|standing| standing.revision).max();
        for standing in &mut standings {
            standing.lag = newest.zip(standing.revision).map(|(newest, own)| newest - own);
        }
        standings
    }
}

async fn done(
    check: &'static str,
    region: &str,
    work: impl Future<Output = anyhow::Result<String>>,
) -> Check {
    let result = timeout(CHECK_TIMEOUT, work).await;
    let result = result.unwrap_or_else(|_| bail!("no answer within {CHECK_TIMEOUT:?}"));
    Check { check, region: region.to_owned(), outcome: result.into() }
}

fn own(name: &str) -> Bytes {
    Bytes::from(format!("{OWN}{name}"))
}

/// All keys that begin so; the last letter of what is asked for here has one behind it.
fn prefix(start: &str) -> RangeRequest {
    let mut end = start.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (key, range_end) = (Bytes::copy_from_slice(start.as_bytes()), Bytes::from(end));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}
