//! Who waits for which proposal. A reply comes from applying the entry on this very member, so a
//! client that has its answer finds its own write here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::oneshot;

use crate::{
    proto::command::Command,
    raft::{Content, Outcome},
    state_machine::Applied,
    types::MemberId,
};

/// What became of a proposal.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Applied here; boxed because the other fates are small and replies are moved about.
    Applied(Box<Applied>),
    /// It never entered a log: proposing it again is safe.
    NotProposed,
    /// The leader refused it, because it has too much to do.
    Overloaded,
    /// It entered the log of a leader that was deposed, or a snapshot has covered its place.
    Unknown,
    /// The connection over which it went to the leader is gone.
    ConnectionLost,
}

/// The proposals of this process that have no answer yet. Clones share them.
#[derive(Clone)]
pub(crate) struct Replies(Arc<Shared>);

struct Shared {
    member: MemberId,
    epoch: u64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    last: u64,
    /// Bounded by the admission control of the proposer. In order, so that whoever waits is woken
    /// in the same order in every run of a simulation.
    waiting: BTreeMap<u64, oneshot::Sender<Fate>>,
}

impl Replies {
    /// `epoch` must differ from that of every other start of this member.
    pub(crate) fn new(member: MemberId, epoch: u64) -> Replies {
        Replies(Arc::new(Shared { member, epoch, pending: Mutex::default() }))
    }

    /// Names a new proposal in the command.
    pub(crate) fn stamp(&self, command: &mut Command) -> u64 {
        let mut pending = self.lock();
        pending.last += 1;
        command.proposal = pending.last;
        command.proposer = self.0.member.0;
        command.proposer_epoch = self.0.epoch;
        pending.last
    }

    /// Waits for the fate of a stamped proposal; forgets it when dropped.
    pub(crate) fn wait(&self, proposal: u64) -> Waiter {
        let (sender, fate) = oneshot::channel();
        self.lock().waiting.insert(proposal, sender);
        Waiter { replies: self.clone(), proposal, fate }
    }

    /// Answers the proposal, if somebody still waits.
    pub(crate) fn settle(&self, proposal: u64, fate: Fate) {
        let waiter = self.lock().waiting.remove(&proposal);
        if let Some(waiter) = waiter {
            // Whoever waited may have given up meanwhile.
            let _ = waiter.send(fate);
        }
    }

    /// Hands out the replies of applied commands that this process proposed.
    pub(crate) fn applied(&self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            let Content::Command(origin) = outcome.content else { continue };
            if origin.proposer == self.0.member && origin.epoch == self.0.epoch {
                self.settle(origin.proposal, Fate::Applied(Box::new(outcome.applied)));
            }
        }
    }

    /// Nobody will ever be told what became of what is pending now.
    pub(crate) fn forget_all(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for waiter in waiting.into_values() {
            let _ = waiter.send(Fate::Unknown);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().expect("no code panics while it holds this lock")
    }
}

/// A wait for one proposal.
pub(crate) struct Waiter {
    replies: Replies,
    proposal: u64,
    fate: oneshot::Receiver<Fate>,
}

impl Waiter {
    pub(crate) async fn fate(mut self) -> Fate {
        (&mut self.fate).await.unwrap_or(Fate::Unknown)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.replies.lock().waiting.remove(&self.proposal);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_dropped_wait_is_forgotten() {
        let replies = Replies::new(MemberId(1), 7);
        let mut command = Command::default();
        let proposal = replies.stamp(&mut command);
        assert_eq!((command.proposal, command.proposer, command.proposer_epoch), (proposal, 1, 7));
        drop(replies.wait(proposal));
        assert_eq!(replies.len(), 0);
    }

    #[test]
    fn each_wait_gets_its_own_fate() {
        let replies = Replies::new(MemberId(1), 7);
        let mut proposals = std::iter::repeat_with(|| replies.stamp(&mut Command::default()));
        let (one, two) = (proposals.next().unwrap(), proposals.next().unwrap());
        let (first, second) = (replies.wait(one), replies.wait(two));
        replies.settle(two, Fate::NotProposed);
        replies.forget_all();
        assert!(matches!(second.fate().now_or_never(), Some(Fate::NotProposed)));
        assert!(matches!(first.fate().now_or_never(), Some(Fate::Unknown)));
    }
}
