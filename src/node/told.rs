//! What the apply thread keeps up to date for the rest of the member.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::{
    alarm::Alarms,
    cluster::Members,
    mvcc::Head,
    node::{
        Options, announce::Announcer, compaction::Compactions, credentials::Tokens, hashes::Hashes,
        keeper::LeaseKeeper, replies::Replies,
    },
    region::{self, Account},
    state_machine::InForce,
    storage::{self, Storage},
};

/// What the apply thread keeps up to date for whoever asks about users.
pub(crate) struct Authority {
    pub(crate) tokens: Tokens,
    pub(crate) in_force: InForce,
}

impl Authority {
    pub(crate) fn new(options: &Options) -> Authority {
        let tokens = Tokens::new(options.credentials.token_ttl());
        Authority { tokens, in_force: InForce::default() }
    }
}

/// What the apply thread tells.
pub(crate) struct Told {
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) account: watch::Receiver<Option<Arc<Account>>>,
    pub(crate) alarms: watch::Receiver<Arc<Alarms>>,
    pub(crate) compactions: Compactions,
    pub(crate) hashes: Hashes,
    pub(crate) authority: Authority,
}

impl Told {
    /// As it is in the store, with who tells of its changes.
    pub(crate) fn new(
        options: &Options,
        storage: &Storage,
        replies: &Replies,
        keeper: &Arc<OnceLock<LeaseKeeper>>,
    ) -> Result<(Told, Announcer), storage::Error> {
        let snapshot = storage.snapshot();
        let (members, members_now) = watch::channel(Arc::new(Members::read(&snapshot)?));
        let account = region::table::read(&snapshot)?.map(Arc::new);
        let (account, account_now) = watch::channel(account);
        let (alarms, alarms_now) = watch::channel(Arc::new(Alarms::read(&snapshot)?));
        let compactions = Compactions::new(Head::read(&snapshot)?.floor, options.tuning);
        let hashes = Hashes::new(storage.clone(), compactions.clone());
        let authority = Authority::new(options);
        let announcer = Announcer {
            identity: options.identity,
            storage: storage.clone(),
            replies: replies.clone(),
            members,
            account,
            alarms,
            compactions: compactions.clone(),
            keeper: keeper.clone(),
            election: options.timing.election,
            tokens: authority.tokens.clone(),
        };
        let told = Told {
            members: members_now,
            account: account_now,
            alarms: alarms_now,
            compactions,
            hashes,
            authority,
        };
        Ok((told, announcer))
    }
}
