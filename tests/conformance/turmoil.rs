//! What happens to a cluster in the middle of the scripts, and must change no answer: leader
//! changes, compactions, restarts, and members that fall behind until they need a snapshot.

use std::time::Duration;

use orrery::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, kv_client::KvClient,
    lease_client::LeaseClient,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::{
    members::{Cluster, Setup},
    request::Request,
    run::Between,
    script::Exchange,
    server::Server,
};

/// One exchange of so many, on average, has something happen before it.
const ONE_IN: u32 = 20;

/// A member that misses more entries than this needs a snapshot; see [`Turmoil::setup`].
const ENTRIES_KEPT: usize = 5;

/// Long enough for the others to drop what the member misses from their logs.
const UNTIL_PURGED: Duration = Duration::from_millis(1200);

/// Leases that come and go while a member is away. They leave no trace but in the log.
const LEASES_MISSED: i64 = 20;
const FIRST_LEASE: i64 = 0x7fff_0000;

/// Three members, and the one that is asked.
pub(crate) struct Turmoil {
    pub cluster: Cluster,
    pub asked: usize,
    random: StdRng,
    pub done: Done,
}

/// How often each thing has happened.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub leader_changes: usize,
    pub compactions: usize,
    pub restarts: usize,
    /// How often it was made to fall behind.
    pub fallen_behind: usize,
}

impl Turmoil {
    /// Members that keep little of their log.
    pub(crate) fn setup() -> Setup {
        let mut setup = Setup::new(3);
        setup.flags = vec![
            "--snapshot-count=10".to_owned(),
            format!("--snapshot-catchup-entries={ENTRIES_KEPT}"),
        ];
        setup
    }

    pub(crate) async fn new(cluster: Cluster, seed: u64) -> Turmoil {
        let asked = (cluster.leader().await + 1) % 3;
        let (random, done) = (StdRng::seed_from_u64(seed), Done::default());
        Turmoil { cluster, asked, random, done }
    }

    /// Snapshots that the asked member had to install.
    pub(crate) fn snapshots(&self) -> usize {
        self.cluster.log(self.asked).matches("installed a snapshot").count()
    }

    fn channel(&self, member: usize) -> Channel {
        let endpoint = Channel::from_shared(self.cluster.endpoint(member)).expect("it is a URL");
        endpoint.connect_lazy()
    }

    async fn change_leader(&mut self) {
        let leader = self.cluster.leader().await;
        let mut client = self.cluster.client(leader).await;
        let target = (leader + self.random.random_range(1..3)) % 3;
        let status = self.cluster.client(target).await.status().await.expect("it runs");
        let target = status.header().expect("a status has a header").member_id();
        // Leadership may have gone elsewhere meanwhile.
        let moved = client.move_leader(target).await;
        self.done.leader_changes += usize::from(moved.is_ok());
    }

    /// Up to what the case began with, so that all it can ask for is left.
    async fn compact(&mut self, server: &Server) {
        let compact = CompactionRequest { revision: server.frame.base, physical: true };
        let done = KvClient::new(self.channel(self.asked)).compact(compact).await;
        // It may have been compacted so far before.
        self.done.compactions += usize::from(done.is_ok());
    }

    async fn restart(&mut self) {
        self.cluster.kill(&[self.asked]);
        self.cluster.restart(&[self.asked]).await.unwrap();
        self.done.restarts += 1;
    }

    /// Stands still while the others go on, and must catch up by a snapshot.
    async fn fall_behind(&mut self) {
        if self.cluster.leader().await == self.asked {
            return;
        }
        self.cluster.pause(&[self.asked]);
        let mut leases = LeaseClient::new(self.channel((self.asked + 1) % 3));
        for id in FIRST_LEASE..FIRST_LEASE + LEASES_MISSED {
            let granted = leases.lease_grant(LeaseGrantRequest { id, ttl: 600 }).await;
            granted.expect("two of three members are a quorum");
            leases.lease_revoke(LeaseRevokeRequest { id }).await.expect("it was granted");
        }
        sleep(UNTIL_PURGED).await;
        self.cluster.resume(&[self.asked]);
        self.done.fallen_behind += 1;
    }

    /// Until the asked member answers as if nothing had happened.
    async fn settle(&self) {
        let mut client = KvClient::new(self.channel(self.asked));
        let range = RangeRequest { key: vec![0].into(), count_only: true, ..Default::default() };
        while let Err(status) = client.range(range.clone()).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
    }
}

impl Between for Turmoil {
    async fn exchange(&mut self, server: &mut Server, case: &[&Exchange], next: usize) {
        // A new leader gives leases more time, which what counts seconds would notice.
        let is_timed = case.iter().any(|exchange| matches!(exchange.request, Request::Sleep(_)));
        if is_timed || !self.random.random_ratio(1, ONE_IN) {
            return;
        }
        let is_open = case[..next].iter().any(|exchange| is_open(&exchange.request));
        // A watcher that catches up leaves requests for progress unanswered, and so does etcd's.
        let asks_progress =
            case.iter().any(|exchange| matches!(exchange.request, Request::Progress { .. }));
        match self.random.random_range(0..4) {
            0 => Box::pin(self.change_leader()).await,
            1 => self.compact(server).await,
            2 if !asks_progress => self.fall_behind().await,
            3 if !is_open => self.restart().await,
            _ => return,
        }
        self.settle().await;
    }
}

/// Does a request leave something open that a restart would end?
fn is_open(request: &Request) -> bool {
    match request {
        Request::Watch { .. } | Request::Observe(_) | Request::KeepAlive(_) => true,
        Request::Lock { aside, .. } => aside.is_some(),
        Request::Campaign { aside, .. } => aside.is_some(),
        _ => false,
    }
}
