//! Which version the cluster speaks: decided by the leader from the versions of the members, told
//! by every member; and going back to an earlier one.
//!
//! One program has one version of its own, so a downgrade changes what the cluster promises, not
//! what runs: the cluster's version and that of what is stored go down by one, so that whoever is
//! to follow finds nothing that it does not know. It is complete when every member runs a program
//! of that version.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    cluster::{self, Members, Versions},
    node::{
        Error, Identity,
        propose::Proposer,
        read::{Freshness, Reader},
    },
    proto::{
        command::{ClusterVersionSet, DowngradeSet, command::Operation},
        peer::{Reply, Request, VersionsAsked, reply, request},
    },
    raft::Raft,
    state_machine::Rejection,
    types::{MemberId, Version},
};

/// How often the leader looks at the members' versions when nothing tells it to, as in etcd.
const TURN: Duration = Duration::from_secs(4);

/// The same while there is no version, or only the one that a cluster begins with whose members
/// have not all been heard: they are about to start.
const FIRST_TURN: Duration = Duration::from_millis(200);

/// Turns to wait for the members of a new cluster before its version is set without them.
const FIRST_TURNS: u32 = 5;

/// How long a member may take to tell its version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// `/version`: what this member knows, with etcd's words for what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VersionPage {
    etcdserver: String,
    etcdcluster: String,
    storage: String,
}

impl VersionPage {
    pub fn new(server: &str, versions: Versions) -> VersionPage {
        let text = |version: Option<Version>, unknown: &str| {
            version.map_or_else(|| unknown.to_owned(), |version| version.to_string())
        };
        VersionPage {
            etcdserver: server.to_owned(),
            etcdcluster: text(versions.cluster, "not_decided"),
            storage: text(versions.storage(), "unknown"),
        }
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("three strings become JSON")
    }
}

/// Going back to an earlier version. Clones share everything.
#[derive(Clone)]
pub struct Downgrades {
    pub(crate) proposer: Proposer,
    pub(crate) reader: Reader,
}

impl Downgrades {
    /// The cluster's version, if it could be changed to this one.
    ///
    /// # Errors
    /// It could not, or no leader could be asked in time.
    pub async fn validate(&self, target: Version) -> Result<Version, Error> {
        let versions = self.versions().await?;
        versions.check_downgrade(target).map_err(rejected)?;
        versions.cluster.ok_or(rejected(cluster::Rejection::VersionUnknown))
    }

    /// Has the cluster go back to this version; returns the one that it comes from.
    ///
    /// # Errors
    /// It can't, or the outcome is unknown.
    pub async fn enable(&self, target: Version) -> Result<Version, Error> {
        let from = self.validate(target).await?;
        let target = target.to_string();
        self.proposer.command(Operation::DowngradeSet(DowngradeSet { target })).await?;
        Ok(from)
    }

    /// Calls it off; returns the cluster's version.
    ///
    /// # Errors
    /// No version is decided yet, or the outcome is unknown. That there is nothing to call off is
    /// only logged, as in etcd.
    pub async fn cancel(&self) -> Result<Version, Error> {
        let cluster = self.versions().await?.cluster;
        let cluster = cluster.ok_or(rejected(cluster::Rejection::VersionUnknown))?;
        match self.proposer.command(cancel()).await {
            Err(Error::Rejected(Rejection::Cluster(cluster::Rejection::NoDowngrade))) => {
                let error = "etcdserver: no inflight downgrade job";
                warn!(error, "failed to cancel downgrade");
                Ok(cluster)
            }
            done => done.map(|_| cluster),
        }
    }

    async fn versions(&self) -> Result<Versions, Error> {
        Ok(self.reader.view(Freshness::Linearizable).await?.members()?.versions)
    }
}

fn cancel() -> Operation {
    Operation::DowngradeSet(DowngradeSet { target: String::new() })
}

fn rejected(rejection: cluster::Rejection) -> Error {
    Error::Rejected(Rejection::Cluster(rejection))
}

/// The work that goes on beside requests.
pub(crate) struct VersionKeeper {
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) identity: Identity,
    /// The version of etcd that this program stands in for, with its patch number.
    pub(crate) server: String,
    /// Time between two looks at a downgrade; none for zero.
    pub(crate) downgrade_check: Duration,
}

impl VersionKeeper {
    pub(crate) async fn run(self) {
        tokio::join!(self.keep_decided(), self.end_downgrades(), self.tell());
    }

    /// While this member leads: sets the cluster's version whenever another one is due.
    async fn keep_decided(&self) {
        let mut members = self.members.clone();
        let mut leadership = self.raft.leadership();
        let mut turns = 0;
        while !self.raft.is_stopped() {
            let versions = members.borrow_and_update().versions;
            let leads = leadership.borrow_and_update().leader == Some(self.identity.member);
            let is_first = versions.storage().is_none();
            if leads && members.borrow().cluster.is_some() {
                turns += 1;
                let servers = self.oldest_server().await;
                let wait = versions.cluster.is_none() && servers.is_none() && turns <= FIRST_TURNS;
                if let Some(to) = versions.decide(servers).filter(|_| !wait) {
                    self.set(versions.cluster, to).await;
                }
            }
            // A downgrade waits for its turn, as in etcd: so it can be called off.
            let turn = if is_first { FIRST_TURN } else { TURN };
            tokio::select! {
                () = tokio::time::sleep(turn) => (),
                Ok(()) = leadership.changed() => (),
                Ok(()) = members.changed(), if is_first => (),
            }
        }
    }

    async fn set(&self, from: Option<Version>, to: Version) {
        match from {
            None => info!(
                cluster_version = to.short(),
                "setting up initial cluster version using v3 API"
            ),
            Some(from) => {
                info!(from = from.short(), to = to.short(), "updating cluster version using v3 API")
            }
        }
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let set = ClusterVersionSet { from, to: to.to_string() };
        match self.proposer.command(Operation::ClusterVersionSet(set)).await {
            Ok(_) => info!(cluster_version = to.short(), "cluster version is updated"),
            Err(error) => warn!(%error, "failed to update cluster version"),
        }
    }

    /// While this member leads: ends a downgrade once every member has come down.
    async fn end_downgrades(&self) {
        if self.downgrade_check.is_zero() {
            return;
        }
        while !self.raft.is_stopped() {
            tokio::time::sleep(self.downgrade_check).await;
            let versions = self.members.borrow().versions;
            let leads = self.raft.leadership().borrow().leader == Some(self.identity.member);
            let (true, Some(target)) = (leads, versions.downgrade) else { continue };
            if !versions.is_downgraded(self.servers().await.into_iter()) {
                debug!(target_version = %target, "not all members run the target of the downgrade");
                continue;
            }
            info!(cluster_version = %target, "the cluster has been downgraded");
            if let Err(error) = self.proposer.command(cancel()).await {
                warn!(%error, "failed to cancel downgrade");
            }
        }
    }

    /// Says in the log what has come of it on this member.
    async fn tell(&self) {
        let mut members = self.members.clone();
        let mut told = members.borrow_and_update().versions;
        while members.changed().await.is_ok() {
            let now = members.borrow_and_update().versions;
            let Identity { cluster, member } = self.identity;
            match (told.cluster, now.cluster) {
                (None, Some(version)) => info!(
                    cluster_id = %cluster, local_member_id = %member,
                    cluster_version = version.short(),
                    "set initial cluster version"
                ),
                (Some(from), Some(to)) if from != to => info!(
                    cluster_id = %cluster, local_member_id = %member,
                    from = from.short(), to = to.short(),
                    "updated cluster version"
                ),
                (Some(_) | None, Some(_) | None) => (),
            }
            if let Some(storage) = now.storage().filter(|_| told.storage() != now.storage()) {
                info!(new_storage_version = %storage, "updated storage version");
                if now.downgrade == Some(storage) {
                    info!(
                        target_version = %storage, server_version = self.server,
                        "The server is ready to downgrade"
                    );
                }
            }
            told = now;
        }
    }

    /// The lowest version of all members; `None` if one does not tell.
    async fn oldest_server(&self) -> Option<Version> {
        self.servers().await.into_iter().collect::<Option<Vec<Version>>>()?.into_iter().min()
    }

    /// The version of each member, `None` for one that does not tell.
    async fn servers(&self) -> Vec<Option<Version>> {
        let members = self.members.borrow().clone();
        let asked = members.rows.iter().map(|row| self.server_of(MemberId(row.member.id)));
        futures::future::join_all(asked).await
    }

    async fn server_of(&self, member: MemberId) -> Option<Version> {
        if member == self.identity.member {
            return Version::parse(&self.server);
        }
        let request = Request { request: Some(request::Request::Versions(VersionsAsked {})) };
        let encoded = Bytes::from(request.encode_to_vec());
        let answer = self.raft.call(member, encoded, ANSWER_TIMEOUT).await.ok()?;
        match Reply::decode(answer).ok()?.reply? {
            reply::Reply::Versions(versions) => Version::parse(&versions.server),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cluster: Option<&str>, page: &str) {
        let cluster = cluster.map(|text| Version::parse(text).unwrap());
        let versions = Versions { cluster, downgrade: None };
        assert_eq!(VersionPage::new("3.7.0", versions).json(), page);
    }

    #[test]
    fn what_is_not_known_yet_has_etcds_words() {
        let page = r#"{"etcdserver":"3.7.0","etcdcluster":"not_decided","storage":"unknown"}"#;
        check(None, page);
        let page = r#"{"etcdserver":"3.7.0","etcdcluster":"3.0.0","storage":"unknown"}"#;
        check(Some("3.0"), page);
        let page = r#"{"etcdserver":"3.7.0","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
        check(Some("3.6"), page);
    }
}
