//! Whether all members hold the same: asked before a member serves, at times, and after
//! compactions.
//!
//! A member compares itself with the others before it takes part; after that the leader asks all of
//! them, and raises a CORRUPT alarm for whom it finds to differ.

mod verdict;

use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::watch;
use tracing::{error, info, warn};

use self::verdict::{Hash, Verdict};
use crate::{
    alarm::{Alarm, Alarms, Kind},
    cluster::Members,
    mvcc::{self, HashKv},
    node::{Error, Freshness, Identity, Node, Proposer, Reader, hashes::Hashes},
    proto::{
        command::command::Operation,
        etcdserverpb::{AlarmRequest, alarm_request::AlarmAction},
        peer::{self, HashKvReply, hash_kv_reply::Trouble, reply, request},
    },
    raft::{Peers, Raft},
    types::{MemberId, Revision},
};

/// When members compare what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionRules {
    pub at_start: bool,
    /// Time between two comparisons of everything.
    pub period: Option<Duration>,
    /// Time between two comparisons of the hashes that compactions leave.
    pub compaction_period: Option<Duration>,
}

/// This member holds other data than its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} found data inconsistency with peers")]
pub struct Inconsistent(pub MemberId);

/// Asks the other members what they hold. Clones share it.
#[derive(Clone)]
pub(crate) struct Comparison {
    pub(crate) identity: Identity,
    pub(crate) hashes: Hashes,
    pub(crate) peers: Peers,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    /// How long another member may take to hash what it has.
    pub(crate) timeout: Duration,
}

/// What another member said.
struct Answer {
    member: MemberId,
    found: Result<Hash, Trouble>,
}

impl Comparison {
    /// Compares this member with the others before it takes part. Who can't be asked, is behind or
    /// ahead, or was compacted elsewhere says nothing.
    ///
    /// # Errors
    /// Another member was compacted at the same revision and holds something else.
    pub(crate) async fn at_start(&self) -> Result<(), Inconsistent> {
        let local = self.identity.member;
        info!(
            "local-member-id" = %local,
            timeout = ?self.timeout,
            "starting initial corruption check"
        );
        let own = match self.hashes.at(0).await {
            Ok((own, _)) => own,
            Err(error) => {
                error!(%error, "checkInitialHashKV failed");
                return Err(Inconsistent(local));
            }
        };
        let mut differs = false;
        for Answer { member, found } in self.ask_all(own.hash_revision).await {
            match found {
                Ok(other) if other.hash == own.hash => (),
                Ok(other) => {
                    let same_floor = other.compact_revision == floor(&own);
                    differs |= same_floor;
                    let message = match same_floor {
                        true => "found different hash values from remote peer",
                        false => "found different compact revision values from remote peer",
                    };
                    warn!(
                        "local-member-id" = %local,
                        "local-member-revision" = own.hash_revision,
                        "local-member-compact-revision" = floor(&own),
                        "local-member-hash" = own.hash,
                        "remote-peer-id" = %member,
                        "remote-peer-revision" = other.revision,
                        "remote-peer-compact-revision" = other.compact_revision,
                        "remote-peer-hash" = other.hash,
                        "{message}"
                    );
                }
                Err(Trouble::Future) => {
                    warn!("remote-peer-id" = %member, "cannot fetch hash from slow remote peer");
                }
                Err(Trouble::Compacted) => warn!(
                    "remote-peer-id" = %member,
                    "cannot fetch hash from remote peer; local member is behind"
                ),
                Err(Trouble::None | Trouble::Failed) => (),
            }
        }
        if differs {
            let found = Inconsistent(local);
            error!(error = %found, "checkInitialHashKV failed");
            return Err(found);
        }
        info!(
            "local-member-id" = %local,
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    async fn ask_all(&self, revision: i64) -> Vec<Answer> {
        let ids: Vec<MemberId> = {
            let members = self.members.borrow();
            members.rows.iter().map(|row| MemberId(row.member.id)).collect()
        };
        let others = ids.into_iter().filter(|id| *id != self.identity.member);
        let asked = others.map(|member| async move {
            Answer { member, found: self.ask(member, revision).await }
        });
        futures::future::join_all(asked).await
    }

    async fn ask(&self, member: MemberId, revision: i64) -> Result<Hash, Trouble> {
        let request = request::Request::HashKv(peer::HashKv { revision });
        let request = peer::Request { request: Some(request) };
        let call = self.peers.call(member, request.encode_to_vec().into(), self.timeout).await;
        let failed = |why: &dyn std::fmt::Display| {
            warn!(
                "requested-revision" = revision,
                "remote-peer-id" = %member,
                error = %why,
                "failed hash kv request"
            );
            Trouble::Failed
        };
        let reply = call.map_err(|error| failed(&error))?;
        let reply = peer::Reply::decode(reply).map_err(|error| failed(&error))?;
        let Some(reply::Reply::HashKv(reply)) = reply.reply else {
            return Err(failed(&"it answered something else"));
        };
        match reply.trouble() {
            Trouble::None => Ok(Hash {
                hash: reply.hash,
                revision: reply.revision,
                compact_revision: reply.compact_revision,
            }),
            trouble @ (Trouble::Compacted | Trouble::Future | Trouble::Failed) => Err(trouble),
        }
    }
}

/// As it goes over the wire: etcd's number for a store that was never compacted.
fn floor(hash: &HashKv) -> i64 {
    hash.compact_revision.map_or(-1, Revision::get)
}

/// What this member answers when another compares.
pub(crate) async fn answer(hashes: &Hashes, revision: i64) -> HashKvReply {
    let trouble = match hashes.at(revision).await {
        Ok((found, now)) => {
            return HashKvReply {
                trouble: Trouble::None.into(),
                hash: found.hash,
                compact_revision: floor(&found),
                revision: now.get(),
            };
        }
        Err(mvcc::Error::Compacted(_)) => Trouble::Compacted,
        Err(mvcc::Error::FutureRevision(_)) => Trouble::Future,
        Err(mvcc::Error::Storage(error)) => {
            warn!(%error, "failed to get hashKV");
            Trouble::Failed
        }
    };
    HashKvReply { trouble: trouble.into(), ..HashKvReply::default() }
}

/// The leader's part.
pub(crate) struct Watchman {
    comparison: Comparison,
    rules: CorruptionRules,
    reader: Reader,
    proposer: Proposer,
    alarms: watch::Receiver<Arc<Alarms>>,
}

impl Watchman {
    pub(crate) fn new(
        comparison: Comparison,
        rules: CorruptionRules,
        node: &Node,
        alarms: watch::Receiver<Arc<Alarms>>,
    ) -> Watchman {
        let (reader, proposer) = (node.reader.clone(), node.proposer.clone());
        Watchman { comparison, rules, reader, proposer, alarms }
    }

    /// Compares at times while this member leads, until Raft has ended.
    pub(crate) async fn run(self, raft: Raft) {
        let leads = || raft.leadership().borrow().leader == Some(raft.id());
        let everything = async {
            let Some(period) = self.rules.period else { return };
            info!(interval = ?period, "enabled corruption checking");
            while !raft.is_stopped() {
                tokio::time::sleep(period).await;
                if leads()
                    && let Err(error) = self.compare().await
                {
                    warn!(%error, "failed to check hash KV");
                }
            }
        };
        let compactions = async {
            let Some(period) = self.rules.compaction_period else { return };
            let mut checked = 0;
            while !raft.is_stopped() {
                tokio::time::sleep(period).await;
                if leads() {
                    checked = self.compare_compactions(checked).await;
                }
            }
        };
        tokio::join!(everything, compactions);
    }

    async fn compare(&self) -> Result<(), Error> {
        let comparison = &self.comparison;
        let (before, _) = comparison.hashes.at(0).await?;
        let answers = comparison.ask_all(before.hash_revision).await;
        // Everything that the others had when they answered is here after this.
        self.reader.view(Freshness::Linearizable).await?;
        let (after, now) = comparison.hashes.at(0).await?;
        let found = answers.iter().filter_map(|answer| Some((answer.member, answer.found.ok()?)));
        let found: Vec<(MemberId, Hash)> = found.collect();
        let member = comparison.identity.member;
        let own = verdict::Own {
            member,
            before: hash(&before, before.hash_revision),
            after: hash(&after, now.get()),
            after_at: after.hash_revision,
        };
        if let Some((accused, why)) = verdict::of_everything(&own, &found) {
            warn!(
                "leader-revision" = now.get(),
                "leader-compact-revision" = own.after.compact_revision,
                "leader-hash" = own.before.hash,
                "follower-peer-id" = %accused,
                "{why}"
            );
            self.raise(accused).await;
        }
        info!("number-of-peers-checked" = found.len(), "finished peer corruption check");
        Ok(())
    }

    /// Compares the hashes of compactions past the one checked last, the newest first. The newest
    /// that everybody agrees on.
    async fn compare_compactions(&self, checked: i64) -> i64 {
        let comparison = &self.comparison;
        let local = comparison.identity.member;
        info!("local-member-id" = %local, "starting compact hash check");
        let hashes = comparison.hashes.of_compactions();
        let due = hashes.iter().rev().filter(|hash| hash.hash_revision > checked);
        let mut count = 0;
        for own in due {
            count += 1;
            let answers = comparison.ask_all(own.hash_revision).await;
            if answers.is_empty() {
                continue;
            }
            let asked = answers.len();
            let found = answers.into_iter().filter_map(|it| Some((it.member, it.found.ok()?)));
            let found: Vec<(MemberId, Hash)> = found.collect();
            match verdict::of_compaction(local, hash(own, own.hash_revision), &found, asked) {
                Verdict::Same => {
                    info!(
                        "number-of-peers-checked" = asked,
                        revision = own.hash_revision,
                        compactRevision = floor(own),
                        "successfully checked hash on whole cluster"
                    );
                    log_finished(count);
                    return own.hash_revision;
                }
                Verdict::Unsure { checked } => warn!(
                    "number-of-peers-checked" = checked,
                    "number-of-peers" = asked,
                    revision = own.hash_revision,
                    compactRevision = floor(own),
                    "skipped revision in compaction hash check; was not able to check all peers"
                ),
                Verdict::Different(accused) => {
                    for member in accused {
                        error!(
                            "leader-id" = %local,
                            "leader-revision" = own.hash_revision,
                            "leader-compact-revision" = floor(own),
                            "leader-hash" = own.hash,
                            "peer-ids" = %member,
                            "Detected compaction hash mismatch"
                        );
                        self.raise(member).await;
                    }
                    log_finished(count);
                    return checked;
                }
            }
        }
        log_finished(count);
        checked
    }

    async fn raise(&self, member: MemberId) {
        let alarm = Alarm { kind: Kind::CORRUPT, member };
        if self.alarms.borrow().contains(alarm) {
            return;
        }
        error!("peer-id" = %member, "found data inconsistency with peers");
        let action = AlarmAction::Activate as i32;
        let alarm = alarm.to_wire();
        let request = AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        if let Err(error) = self.proposer.command(Operation::Alarm(request)).await {
            warn!(%error, "could not raise the alarm; the next comparison tries again");
        }
    }
}

fn hash(found: &HashKv, revision: i64) -> Hash {
    Hash { hash: found.hash, revision, compact_revision: floor(found) }
}

fn log_finished(count: usize) {
    info!("number-of-hashes-checked" = count, "finished compaction hash check");
}
