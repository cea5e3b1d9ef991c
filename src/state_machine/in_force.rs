//! The rules of authentication as this member has applied them, for whoever reads.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::View;
use crate::{
    auth::{Rules, table::State},
    storage::{self, Storage},
};

/// The rules in force, kept in memory: a read need not look them up. Clones share them.
///
/// They are taken back before the state changes and given out again when it has changed. So whoever
/// takes a view and then finds rules that let everybody in has a view in which nobody had asked for
/// a user, or may by now see it without one.
#[derive(Clone, Default)]
pub struct InForce(Arc<ArcSwapOption<Rules>>);

impl InForce {
    /// Before the stored rules change.
    pub(crate) fn withdraw(&self) {
        self.0.store(None);
    }

    /// Once they have.
    pub(crate) fn settle(&self, rules: Arc<Rules>) {
        self.0.store(Some(rules));
    }

    /// The newest rules.
    ///
    /// # Errors
    /// This member's store can't be read.
    pub fn now(&self, storage: &Storage) -> Result<Arc<Rules>, storage::Error> {
        match self.0.load_full() {
            Some(rules) => Ok(rules),
            None => Ok(Arc::new(Rules::read(&storage.snapshot())?)),
        }
    }

    /// The rules of a view; `None` if everybody may read all of it.
    ///
    /// # Errors
    /// This member's store can't be read.
    pub fn of(&self, view: &View) -> Result<Option<Arc<Rules>>, storage::Error> {
        let newest = self.0.load();
        if newest.as_ref().is_some_and(|rules| !rules.state().enabled) {
            return Ok(None);
        }
        let rows = view.keys().snapshot();
        let state = State::read(rows)?;
        match newest.as_ref().filter(|rules| rules.state() == state) {
            Some(rules) => Ok(Some(Arc::clone(rules))),
            None => Ok(Some(Arc::new(Rules::read(rows)?))),
        }
    }
}
