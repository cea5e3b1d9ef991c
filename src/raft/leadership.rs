//! Who leads, as the rest of the server may believe it.
//!
//! openraft's leader does not step down when it loses its quorum, and its followers remember a dead
//! leader until another one is elected. Clients must be told sooner: a leader counts only while a
//! quorum has answered it, or while this member has heard from it, within one election timeout.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::types::MemberId;

/// Who leads and in which term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// `None` while leaderless.
    pub leader: Option<MemberId>,
    pub term: u64,
}

/// When this member last took entries or a heartbeat from a leader.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    pub(crate) fn now(&self) {
        *self.0.lock().expect("no code panics while it holds this lock") = Some(Instant::now());
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        *self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// What the verdict is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) id: MemberId,
    pub(crate) term: u64,
    /// openraft's opinion.
    pub(crate) leader: Option<MemberId>,
    /// This member is the one voter.
    pub(crate) alone: bool,
    /// When a quorum last answered this member as leader.
    pub(crate) quorum_acked: Option<Instant>,
    pub(crate) heard: Option<Instant>,
}

pub(crate) fn judge(evidence: Evidence, now: Instant, election: Duration) -> Leadership {
    let fresh = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < election);
    let leader = evidence.leader.filter(|leader| {
        if *leader == evidence.id {
            evidence.alone || fresh(evidence.quorum_acked)
        } else {
            fresh(evidence.heard)
        }
    });
    Leadership { leader, term: evidence.term }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(leader: u64, alone: bool, acked_ms: u64, heard_ms: u64, expected: Option<u64>) {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let evidence = Evidence {
            id: MemberId(1),
            term: 3,
            leader: Some(MemberId(leader)),
            alone,
            quorum_acked: at(acked_ms),
            heard: at(heard_ms),
        };
        let judged = judge(evidence, start + Duration::from_secs(5), ELECTION);
        assert_eq!(judged, Leadership { leader: expected.map(MemberId), term: 3 });
    }

    #[test]
    fn a_leader_counts_while_its_quorum_answers() {
        check(1, false, 4500, 0, Some(1));
        check(1, false, 3900, 4900, None);
        check(1, true, 0, 0, Some(1));
    }

    #[test]
    fn a_followers_leader_counts_while_it_is_heard() {
        check(2, false, 0, 4500, Some(2));
        check(2, false, 4900, 3900, None);
    }
}
