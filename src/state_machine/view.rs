//! Reading everything that is replicated, at one moment.

use bytes::Bytes;

use super::{Judge, Position};
use crate::{
    alarm::Alarms,
    auth::{self, Asker, Rules},
    cluster::Members,
    lease::{self, Lease},
    mvcc,
    proto::authpb::{Role, User},
    region::{self, Account},
    storage::{self, Snapshot},
    types::LeaseId,
};

/// Everything that can be read, at one moment.
pub struct View {
    keys: mvcc::View,
}

impl View {
    pub fn new(snapshot: Snapshot) -> Result<View, mvcc::Error> {
        Ok(View { keys: mvcc::View::new(snapshot)? })
    }

    pub fn keys(&self) -> &mvcc::View {
        &self.keys
    }

    pub fn lease(&self, id: LeaseId) -> Result<Option<Lease>, storage::Error> {
        lease::table::get(self.keys.snapshot(), id)
    }

    /// All leases, by id.
    pub fn leases(&self) -> Result<Vec<Lease>, storage::Error> {
        lease::table::all(self.keys.snapshot())
    }

    /// Keys attached to a lease, sorted.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, storage::Error> {
        lease::table::keys(self.keys.snapshot(), id)
    }

    pub fn members(&self) -> Result<Members, storage::Error> {
        Members::read(self.keys.snapshot())
    }

    /// The account of regions, if there is one.
    pub fn account(&self) -> Result<Option<Account>, storage::Error> {
        region::table::read(self.keys.snapshot())
    }

    pub fn alarms(&self) -> Result<Alarms, storage::Error> {
        Alarms::read(self.keys.snapshot())
    }

    /// Whether authentication is enabled, and the auth revision.
    pub fn auth(&self) -> Result<auth::table::State, storage::Error> {
        auth::table::State::read(self.keys.snapshot())
    }

    pub fn user(&self, name: &str) -> Result<Option<User>, storage::Error> {
        auth::table::user(self.keys.snapshot(), name)
    }

    pub fn role(&self, name: &str) -> Result<Option<Role>, storage::Error> {
        auth::table::role(self.keys.snapshot(), name)
    }

    /// All users, by name.
    pub fn users(&self) -> Result<Vec<User>, storage::Error> {
        auth::table::users(self.keys.snapshot())
    }

    /// All roles, by name.
    pub fn roles(&self) -> Result<Vec<Role>, storage::Error> {
        auth::table::roles(self.keys.snapshot())
    }

    /// What somebody may read here, by rules that are those of this view.
    pub fn judge<'a>(&'a self, rules: &'a Rules, asker: Asker<'a>) -> Judge<'a> {
        Judge::new(rules, asker, self.keys.snapshot())
    }

    /// CRC32C of everything that this member stores.
    pub fn checksum(&self) -> Result<u32, storage::Error> {
        self.keys.snapshot().checksum()
    }

    pub fn position(&self) -> Result<Position, storage::Error> {
        self.keys.snapshot().position()
    }
}
