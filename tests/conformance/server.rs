//! A server as a target: one connection, and per case its streams and what goes on aside.

use std::{collections::BTreeMap, time::Duration};

use orrery::proto::{
    etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseKeepAliveRequest,
        LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest, RangeRequest,
        RangeResponse, ResponseHeader, StatusRequest, WatchCancelRequest, WatchProgressRequest,
        alarm_request::AlarmAction, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, watch_request::RequestUnion,
    },
    v3electionpb::{
        LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
        election_client::ElectionClient,
    },
    v3lockpb::{UnlockRequest, lock_client::LockClient},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, service::interceptor::InterceptedService, transport::Channel};

use super::{
    answer::{self, Frame, Lines},
    auth::{self, Answer, Connection, Token},
    observed::observe,
    request::Request,
    watch_stream::{WatchStream, ended},
};

/// Longer than anything that is meant to come takes to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where nothing is meant to come, it is waited for so long.
const SILENCE: Duration = Duration::from_millis(300);

/// Seconds that a lease may have lived for in a random program.
pub(crate) const MOST_ELAPSED: i64 = 300;

/// The stream of an election's leaders, as scripts name it.
const OBSERVE: &str = "observe";

/// One endpoint.
pub(crate) struct Server {
    channel: Connection,
    token: Token,
    /// By user.
    tokens: BTreeMap<String, String>,
    /// Every header must name these.
    cluster_id: u64,
    member_id: u64,
    /// Minor version of 3 that it says it is.
    pub(crate) minor: u32,
    pub(crate) frame: Frame,
    streams: BTreeMap<String, WatchStream>,
    keep_alive: Option<KeepAlive>,
    observed: Option<mpsc::Receiver<Result<LeaderResponse, Status>>>,
    aside: BTreeMap<String, JoinHandle<Result<Held, Status>>>,
    leaders: BTreeMap<String, LeaderKey>,
}

/// Where keep-alives go, and where their answers come from.
type KeepAlive = (mpsc::Sender<LeaseKeepAliveRequest>, Streaming<LeaseKeepAliveResponse>);

/// The answer of a lock or campaign, with the leader key if it has one.
type Held = (Lines, Option<LeaderKey>);

impl Server {
    pub(crate) async fn connect(endpoint: &str) -> Server {
        let endpoint = Channel::from_shared(endpoint.to_owned()).expect("it is a URL");
        let token = Token::default();
        let channel = InterceptedService::new(endpoint.connect_lazy(), token.clone());
        let status = MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await;
        let status = status.expect("a server that is ready tells its status").into_inner();
        let header = status.header.expect("a status has a header");
        let minor = status.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        Server {
            channel,
            token,
            tokens: BTreeMap::new(),
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            minor: minor.expect("a version is 3.minor.patch"),
            frame: Frame::default(),
            streams: BTreeMap::new(),
            keep_alive: None,
            observed: None,
            aside: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// Removes all keys, leases and streams; revisions count from here.
    pub(crate) async fn begin_case(&mut self) {
        self.streams.clear();
        self.keep_alive = None;
        self.observed = None;
        if !self.aside.is_empty() {
            std::mem::take(&mut self.aside).into_values().for_each(|aside| aside.abort());
            // A lock or campaign that is given up may still remove its key.
            sleep(SILENCE).await;
        }
        self.leaders.clear();
        self.deactivate_alarms().await;
        let leases = self.lease().lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
        for lease in leases.leases {
            // It may have run out by itself meanwhile.
            let _ = self.lease().lease_revoke(LeaseRevokeRequest { id: lease.id }).await;
        }
        let (key, range_end) = (vec![0].into(), vec![0].into());
        let everything = DeleteRangeRequest { key, range_end, prev_kv: false };
        let deleted = self.kv().delete_range(everything).await.unwrap().into_inner();
        let revision = deleted.header.expect("a deletion has a header").revision;
        self.frame = Frame { base: revision - 1, chosen: None };
    }

    /// No server's own member has any: a script makes up the members that it is about.
    async fn deactivate_alarms(&self) {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let active = client.alarm(AlarmRequest::default()).await.unwrap().into_inner();
        for alarm in active.alarms {
            let (member_id, alarm) = (alarm.member_id, alarm.alarm);
            let action = AlarmAction::Deactivate as i32;
            client.alarm(AlarmRequest { action, member_id, alarm }).await.unwrap();
        }
    }

    fn kv(&self) -> KvClient<Connection> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn lease(&self) -> LeaseClient<Connection> {
        LeaseClient::new(self.channel.clone())
    }

    fn election(&self) -> ElectionClient<Connection> {
        ElectionClient::new(self.channel.clone())
    }

    pub(crate) async fn answer(&mut self, request: Request) -> Lines {
        let answer = timeout(PATIENCE, self.ask(request)).await;
        match answer.unwrap_or(Ok(vec![format!("no answer for {PATIENCE:?}")])) {
            Ok(lines) => lines,
            Err(status) => answer::error(&status),
        }
    }

    /// What has come on a stream, once nothing more is under way, as requests that wait for it.
    pub(crate) async fn settle(&mut self, name: &str) -> Vec<(Request, Lines)> {
        let frame = self.frame;
        let stream = self.stream(name);
        let name = || name.to_owned();
        let mut heard = Vec::new();
        if let Err(status) = stream.settle().await {
            heard.push((Request::Silence { stream: name() }, answer::error(&status)));
        }
        let count = stream.events.len();
        if count > 0 {
            let events = stream.take(count, frame).await.expect("they are at hand");
            heard.push((Request::Events { stream: name(), count }, events));
        }
        // Watchers that a compaction cancels have no order among each other.
        stream.controls.make_contiguous().sort_by_key(|control| control.watch_id);
        let controls = stream.controls.drain(..);
        heard.extend(
            controls.map(|control| (Request::Next { stream: name() }, frame.control(&control))),
        );
        heard
    }

    /// What comes of a request for progress on a stream that has settled: the next response, or
    /// nothing.
    pub(crate) async fn progress(&mut self, name: &str) -> (Request, Lines) {
        let frame = self.frame;
        let stream = name.to_owned();
        match timeout(SILENCE, self.stream(name).control(|_| true)).await {
            Ok(Ok(progress)) => (Request::Next { stream }, frame.control(&progress)),
            Ok(Err(status)) => (Request::Next { stream }, answer::error(&status)),
            Err(_) => (Request::Silence { stream }, Lines::new()),
        }
    }

    /// The streams that are open.
    pub(crate) fn streams(&self) -> Vec<String> {
        self.streams.keys().cloned().collect()
    }

    /// What is asked is in the server's own numbers.
    async fn ask(&mut self, request: Request) -> Result<Lines, Status> {
        let frame = self.frame;
        Ok(match request {
            Request::Put(put) => {
                let put = self.kv().put(put).await?.into_inner();
                self.checked(put.header.as_ref(), frame.put(&put))
            }
            Request::Range(range) => {
                let range = self.kv().range(range).await?.into_inner();
                self.checked(range.header.as_ref(), frame.range(&range))
            }
            Request::RangeStream(range) => {
                let range = self.range_stream(range).await?;
                self.checked(range.header.as_ref(), frame.range(&range))
            }
            Request::Delete(delete) => {
                let delete = self.kv().delete_range(delete).await?.into_inner();
                self.checked(delete.header.as_ref(), frame.delete(&delete))
            }
            Request::Txn(txn) => {
                let txn = self.kv().txn(txn).await?.into_inner();
                self.checked(txn.header.as_ref(), frame.txn(&txn))
            }
            Request::Compact(CompactionRequest { revision, physical }) => {
                let compact = CompactionRequest { revision, physical };
                let compact = self.kv().compact(compact).await?.into_inner();
                self.checked(compact.header.as_ref(), frame.only_header(compact.header.as_ref()))
            }
            Request::Alarm(alarm) => {
                let mut client = MaintenanceClient::new(self.channel.clone());
                let alarms = client.alarm(alarm).await?.into_inner();
                self.checked(alarms.header.as_ref(), frame.alarm(&alarms))
            }
            Request::HashKv(revision) => {
                let mut client = MaintenanceClient::new(self.channel.clone());
                let hash = client.hash_kv(HashKvRequest { revision }).await?.into_inner();
                self.checked(hash.header.as_ref(), frame.hash_kv(&hash))
            }
            Request::Auth(words) => self.ask_auth(&words).await?,
            Request::Sleep(ms) => {
                sleep(Duration::from_millis(ms)).await;
                Lines::new()
            }
            request @ (Request::Grant(_)
            | Request::Revoke(_)
            | Request::KeepAlive(_)
            | Request::TimeToLive(_)
            | Request::Leases) => self.ask_lease(request).await?,
            request @ (Request::Watch { .. }
            | Request::Cancel { .. }
            | Request::Progress { .. }
            | Request::Events { .. }
            | Request::Next { .. }
            | Request::Silence { .. }) => self.ask_watch(request).await?,
            request => self.ask_lock(request).await?,
        })
    }

    async fn range_stream(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        let mut parts = self.kv().range_stream(range).await?.into_inner();
        let mut whole = RangeResponse::default();
        while let Some(part) = parts.message().await? {
            let part = part.range_response.unwrap_or_default();
            assert!(whole.header.is_none(), "a part follows the one with the header");
            whole.kvs.extend(part.kvs);
            (whole.header, whole.more, whole.count) = (part.header, part.more, part.count);
        }
        Ok(whole)
    }

    async fn ask_lease(&mut self, request: Request) -> Result<Lines, Status> {
        let frame = self.frame;
        Ok(match request {
            Request::Grant(grant) => {
                let chosen = grant.id == 0;
                let granted = self.lease().lease_grant(grant).await?.into_inner();
                if chosen {
                    self.frame.chosen = Some(granted.id);
                }
                self.checked(granted.header.as_ref(), self.frame.grant(&granted))
            }
            Request::Revoke(id) => {
                let revoked = self.lease().lease_revoke(LeaseRevokeRequest { id }).await?;
                let header = revoked.into_inner().header;
                self.checked(header.as_ref(), frame.only_header(header.as_ref()))
            }
            Request::KeepAlive(id) => {
                let kept = self.keep_alive(id).await?;
                self.checked(kept.header.as_ref(), frame.keep_alive(&kept))
            }
            Request::TimeToLive(request) => {
                let answer = self.lease().lease_time_to_live(request).await?.into_inner();
                self.checked(answer.header.as_ref(), frame.time_to_live(&answer))
            }
            _ => {
                let leases = self.lease().lease_leases(LeaseLeasesRequest {}).await?.into_inner();
                self.checked(leases.header.as_ref(), frame.leases(&leases))
            }
        })
    }

    /// `as NAME` asks in the name of whoever has come in under it, `as ""` of nobody, and in any
    /// other name with a token of that text. Streams are opened anew.
    async fn ask_auth(&mut self, words: &[String]) -> Result<Lines, Status> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["as", name] = words[..] {
            let token = self.tokens.get(name).map_or(name, String::as_str);
            self.token.show(Some(token).filter(|token| !token.is_empty()));
            (self.keep_alive, self.observed) = (None, None);
            self.streams.clear();
            return Ok(Lines::new());
        }
        let frame = self.frame;
        Ok(match auth::ask(self.channel.clone(), &words, frame).await? {
            Answer::Lines(header, lines) => self.checked(header.as_ref(), lines),
            Answer::Token(header, token) => {
                self.tokens.insert(words[1].to_owned(), token);
                self.checked(header.as_ref(), frame.only_header(header.as_ref()))
            }
        })
    }

    /// All keep-alives of a case go over one stream, until it ends with an error.
    async fn keep_alive(&mut self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        let request = LeaseKeepAliveRequest { id };
        let (requests, mut answers) = match self.keep_alive.take() {
            Some((requests, answers)) => {
                requests.send(request).await.map_err(|_| ended())?;
                (requests, answers)
            }
            None => {
                let (requests, sent) = mpsc::channel(1);
                requests.send(request).await.expect("the other end is here");
                let sent = ReceiverStream::new(sent);
                (requests, self.lease().lease_keep_alive(sent).await?.into_inner())
            }
        };
        let kept = answers.message().await?.ok_or_else(ended)?;
        self.keep_alive = Some((requests, answers));
        Ok(kept)
    }

    async fn ask_watch(&mut self, request: Request) -> Result<Lines, Status> {
        let frame = self.frame;
        let lines = match request {
            Request::Watch { stream, create } => {
                let fragment = create.fragment;
                let create = RequestUnion::CreateRequest(create);
                match self.streams.get_mut(&stream) {
                    Some(stream) => stream.send(create).await,
                    None => {
                        let opened = WatchStream::open(self.channel.clone(), create).await?;
                        self.streams.insert(stream.clone(), opened);
                    }
                }
                let stream = self.stream(&stream);
                stream.fragment |= fragment;
                stream.watchers += 1;
                let created = stream.control(|response| response.created).await?;
                frame.control(&created)
            }
            Request::Cancel { stream, id } => {
                let cancel = WatchCancelRequest { watch_id: id };
                self.stream(&stream).send(RequestUnion::CancelRequest(cancel)).await;
                Lines::new()
            }
            Request::Progress { stream } => {
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                self.stream(&stream).send(progress).await;
                Lines::new()
            }
            Request::Next { stream } if stream == OBSERVE => {
                let observed = self.observed.as_mut().expect("a script observes first");
                let leader = observed.recv().await.unwrap_or_else(|| Err(ended()))?;
                frame.leader(&leader)
            }
            Request::Next { stream } => {
                let next = self.stream(&stream).control(|_| true).await?;
                frame.control(&next)
            }
            Request::Events { stream, count } => self.stream(&stream).take(count, frame).await?,
            Request::Silence { stream } => {
                let stream = self.stream(&stream);
                let heard = timeout(SILENCE, stream.receive()).await;
                match (heard, stream.events.front(), stream.controls.front()) {
                    (Err(_), None, None) => Lines::new(),
                    (Ok(Err(status)), ..) => return Err(status),
                    (_, Some((id, event)), _) => frame.event(Some(*id), event),
                    (_, _, Some(control)) => frame.control(control),
                    (Ok(Ok(())), None, None) => vec!["an empty response".to_owned()],
                }
            }
            _ => unreachable!("the caller has sorted requests"),
        };
        Ok(lines)
    }

    fn stream(&mut self, name: &str) -> &mut WatchStream {
        let stream = self.streams.get_mut(name);
        stream.unwrap_or_else(|| panic!("no watch was created on stream {name}"))
    }

    async fn ask_lock(&mut self, request: Request) -> Result<Lines, Status> {
        let frame = self.frame;
        Ok(match request {
            Request::Lock { request, aside } => {
                let mut client = LockClient::new(self.channel.clone());
                let lock = async move {
                    let locked = client.lock(request).await?.into_inner();
                    Ok((frame.lock(&locked), None))
                };
                self.aside_or_now(lock, aside, None).await?
            }
            Request::Unlock(key) => {
                let mut client = LockClient::new(self.channel.clone());
                let header = client.unlock(UnlockRequest { key }).await?.into_inner().header;
                self.checked(header.as_ref(), frame.only_header(header.as_ref()))
            }
            Request::Campaign { request, aside, keep } => {
                let mut client = self.election();
                let campaign = async move {
                    let won = client.campaign(request).await?.into_inner();
                    Ok((frame.campaign(&won), won.leader))
                };
                self.aside_or_now(campaign, aside, keep).await?
            }
            Request::Forge { leader, keep } => {
                self.leaders.insert(keep, leader);
                Lines::new()
            }
            Request::Proclaim { leader, value } => {
                let leader = self.leaders.get(&leader).cloned();
                let proclaimed =
                    self.election().proclaim(ProclaimRequest { leader, value }).await?;
                let header = proclaimed.into_inner().header;
                self.checked(header.as_ref(), frame.only_header(header.as_ref()))
            }
            Request::Leader(name) => {
                let leader = self.election().leader(LeaderRequest { name }).await?.into_inner();
                self.checked(leader.header.as_ref(), frame.leader(&leader))
            }
            Request::Resign { leader } => {
                let leader = self.leaders.get(&leader).cloned();
                let header = self.election().resign(ResignRequest { leader }).await?;
                let header = header.into_inner().header;
                self.checked(header.as_ref(), frame.only_header(header.as_ref()))
            }
            Request::Observe(name) => {
                self.observed = Some(observe(self.election(), LeaderRequest { name }));
                Lines::new()
            }
            Request::Finish(name) => {
                let aside = self.aside.remove(&name).expect("a script begins what it finishes");
                let (lines, leader) = aside.await.expect("it does not panic")?;
                self.leaders.extend(leader.map(|leader| (name, leader)));
                lines
            }
            Request::Pending(name) => {
                sleep(SILENCE).await;
                let aside = self.aside.get(&name).expect("a script begins what is pending");
                let state = if aside.is_finished() { "has its answer" } else { "under way" };
                vec![state.to_owned()]
            }
            _ => unreachable!("the caller has sorted requests"),
        })
    }

    async fn aside_or_now(
        &mut self,
        work: impl Future<Output = Result<Held, Status>> + Send + 'static,
        aside: Option<String>,
        keep: Option<String>,
    ) -> Result<Lines, Status> {
        if let Some(name) = aside {
            self.aside.insert(name, tokio::spawn(work));
            return Ok(vec!["under way".to_owned()]);
        }
        let (lines, leader) = work.await?;
        self.leaders.extend(keep.zip(leader));
        Ok(lines)
    }

    /// Every header names the server that answered, and its term.
    fn checked(&self, header: Option<&ResponseHeader>, mut lines: Lines) -> Lines {
        if let Some(header) = header {
            let named = (header.cluster_id, header.member_id) == (self.cluster_id, self.member_id);
            if !named || header.raft_term == 0 {
                lines.push(format!("header of somebody else: {header:?}"));
            }
        }
        lines
    }
}
