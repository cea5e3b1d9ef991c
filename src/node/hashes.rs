//! HashKV: what members compare to find out whether they hold the same.

use crate::{
    mvcc::{self, HashKv},
    node::compaction::Compactions,
    state_machine::View,
    storage::{Storage, off_thread},
    types::Revision,
};

/// Hashes what this member holds. Clones share it.
#[derive(Clone)]
pub(crate) struct Hashes {
    storage: Storage,
    compactions: Compactions,
}

impl Hashes {
    pub(crate) fn new(storage: Storage, compactions: Compactions) -> Hashes {
        Hashes { storage, compactions }
    }

    /// HashKV, and the newest revision when it was asked for. Of a revision that this member has
    /// compacted at, the hash is the one that it found then, if it remembers that.
    ///
    /// # Errors
    /// The revision is compacted or in the future, or the store can't be read.
    pub(crate) async fn at(&self, revision: i64) -> Result<(HashKv, Revision), mvcc::Error> {
        let view = View::new(self.storage.snapshot())?;
        let now = view.keys().revision();
        if let Some(found) = self.compactions.hash_at(revision) {
            return Ok((found, now));
        }
        let found = off_thread(move || view.keys().hash_kv(revision)).await?;
        Ok((found, now))
    }

    /// The hashes that compactions have left, oldest first.
    pub(crate) fn of_compactions(&self) -> Vec<HashKv> {
        self.compactions.hashes()
    }
}
