//! Who takes part in the group, as far as others must still talk to them.
//!
//! Raft's membership follows the membership list, so a member that is off the list may still be
//! needed: its acknowledgement to take it out, its vote if the leader dies meanwhile. And a new
//! membership counts from the moment it is in the log, but can be lost until it is committed.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::{OpenMetrics, type_config::OpenMembership};
use crate::types::MemberId;

/// Keeps the set of participants up to date.
pub(crate) struct Participants {
    shown: watch::Sender<BTreeSet<MemberId>>,
    /// Index of the newest membership that has been seen, and whether it had been applied then.
    seen: Option<(u64, bool)>,
}

impl Participants {
    /// Begins with the membership that the state holds, if it holds one.
    pub(crate) fn new(
        applied: Option<&OpenMembership>,
    ) -> (Participants, watch::Receiver<BTreeSet<MemberId>>) {
        let (shown, receiver) = watch::channel(applied.map(ids).unwrap_or_default());
        (Participants { shown, seen: None }, receiver)
    }

    pub(crate) fn see(&mut self, metrics: &OpenMetrics) {
        let Some(id) = metrics.membership_config.log_id() else { return };
        let is_applied = metrics.last_applied.as_ref().is_some_and(|applied| applied >= id);
        let seen = (id.index(), is_applied);
        // Looked at very often, changed hardly ever.
        if self.seen != Some(seen) {
            self.seen = Some(seen);
            self.take(ids(metrics.membership_config.membership()), is_applied);
        }
    }

    fn take(&mut self, newest: BTreeSet<MemberId>, is_applied: bool) {
        self.shown.send_if_modified(|shown| {
            let now = if is_applied { newest } else { shown.union(&newest).copied().collect() };
            std::mem::replace(shown, now.clone()) != now
        });
    }
}

fn ids(membership: &OpenMembership) -> BTreeSet<MemberId> {
    membership.nodes().map(|(id, _)| MemberId(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(newest: &[u64], is_applied: bool, expected: &[u64]) {
        let set = |ids: &[u64]| ids.iter().copied().map(MemberId).collect::<BTreeSet<_>>();
        let before = OpenMembership::new_with_defaults(vec![BTreeSet::from([1, 2])], [3]);
        let (mut participants, shown) = Participants::new(Some(&before));
        assert_eq!(*shown.borrow(), set(&[1, 2, 3]));
        participants.take(set(newest), is_applied);
        assert_eq!(*shown.borrow(), set(expected));
    }

    #[test]
    fn who_leaves_takes_part_until_that_is_applied() {
        check(&[1, 3], false, &[1, 2, 3]);
        check(&[1, 3], true, &[1, 3]);
        check(&[1, 2, 3, 4], false, &[1, 2, 3, 4]);
    }
}
