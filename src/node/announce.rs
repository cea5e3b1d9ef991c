//! What the apply thread tells the rest of a member, in the order of the log.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use crate::{
    alarm::Alarms,
    auth,
    cluster::Members,
    mvcc::Head,
    node::{
        Identity, compaction::Compactions, credentials::Tokens, keeper::LeaseKeeper,
        replies::Replies,
    },
    raft::{Content, Notice},
    region::{self, Account},
    state_machine::{Reply, View},
    storage::Storage,
};

/// What the apply thread tells, and whom.
pub(crate) struct Announcer {
    pub(crate) identity: Identity,
    pub(crate) storage: Storage,
    pub(crate) replies: Replies,
    pub(crate) members: watch::Sender<Arc<Members>>,
    pub(crate) account: watch::Sender<Option<Arc<Account>>>,
    pub(crate) alarms: watch::Sender<Arc<Alarms>>,
    pub(crate) compactions: Compactions,
    /// Set once Raft runs; nothing is kept before.
    pub(crate) keeper: Arc<OnceLock<LeaseKeeper>>,
    pub(crate) election: Duration,
    pub(crate) tokens: Tokens,
}

impl Announcer {
    pub(crate) fn announce(&mut self, notice: Notice) {
        let outcomes = match notice {
            Notice::Applied(outcomes) => outcomes,
            Notice::Replaced(_) => {
                self.replies.forget_all();
                self.refresh_members();
                self.refresh_alarms();
                self.refresh_floor();
                return;
            }
        };
        let mut members_changed = false;
        for outcome in &outcomes {
            members_changed |= outcome.applied.members_changed;
            outcome.applied.auth.iter().for_each(|change| self.authentication_changed(change));
            if let Ok(Reply::Compact(compacted)) = &outcome.applied.reply {
                self.compactions.add(*compacted);
            }
        }
        if outcomes.iter().any(|outcome| outcome.applied.alarms_changed) {
            self.refresh_alarms();
        }
        if members_changed {
            self.refresh_members();
        }
        if let Some(keeper) = self.keeper.get() {
            for outcome in &outcomes {
                keeper.applied(&outcome.applied.leases, Instant::now());
                // A leader's first entry: all that its predecessors committed has been applied.
                let first = matches!(outcome.content, Content::Blank);
                if first && outcome.id.node == self.identity.member.0 {
                    self.take_over(keeper, outcome.id.term);
                }
            }
        }
        self.replies.applied(outcomes);
    }

    fn authentication_changed(&self, change: &auth::Change) {
        self.tokens.applied(change, Instant::now());
        match change {
            auth::Change::Enabled => info!("enabled authentication"),
            auth::Change::Disabled => info!("disabled authentication"),
            auth::Change::TokenGiven { .. } | auth::Change::LoggedOut(_) => {}
        }
    }

    fn take_over(&self, keeper: &LeaseKeeper, term: u64) {
        match View::new(self.storage.snapshot()).and_then(|view| Ok(view.leases()?)) {
            Ok(leases) => keeper.take_over(term, leases, Instant::now(), self.election),
            // Without its timers this leader revokes nothing: safe, and worth a word.
            Err(error) => error!(%error, "could not read the leases on becoming leader"),
        }
    }

    fn refresh_floor(&self) {
        match Head::read(&self.storage.snapshot()) {
            Ok(head) => self.compactions.replaced(head.floor),
            Err(error) => error!(%error, "could not read the compaction floor"),
        }
    }

    fn refresh_alarms(&self) {
        match Alarms::read(&self.storage.snapshot()) {
            Ok(alarms) => drop(self.alarms.send_replace(Arc::new(alarms))),
            Err(error) => error!(%error, "could not read the alarms"),
        }
    }

    fn refresh_members(&self) {
        match Members::read(&self.storage.snapshot()) {
            Ok(members) => drop(self.members.send_replace(Arc::new(members))),
            Err(error) => error!(%error, "could not read the membership list"),
        }
        match region::table::read(&self.storage.snapshot()) {
            Ok(account) => drop(self.account.send_replace(account.map(Arc::new))),
            Err(error) => error!(%error, "could not read the account of regions"),
        }
    }
}
