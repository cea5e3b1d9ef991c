//! Reading everything that is replicated, at one moment.

use bytes::Bytes;

use super::Position;
use crate::{
    alarm::Alarms,
    cluster::Members,
    lease::{self, Lease},
    mvcc,
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

    pub fn alarms(&self) -> Result<Alarms, storage::Error> {
        Alarms::read(self.keys.snapshot())
    }

    /// CRC32C of everything that this member stores.
    pub fn checksum(&self) -> Result<u32, storage::Error> {
        self.keys.snapshot().checksum()
    }

    pub fn position(&self) -> Result<Position, storage::Error> {
        self.keys.snapshot().position()
    }
}
