//! Bringing Raft's membership in line with the membership list. Run by the leader, one step at a
//! turn: Raft allows one change at a time, and each step is judged anew.

use std::collections::BTreeSet;

use crate::{cluster::Members, types::MemberId};

/// The next step from what Raft has to what the list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A listed member that Raft does not know yet begins as a learner, voter or not.
    AddLearner(MemberId),
    /// A listed voter that has caught up.
    Promote(MemberId),
    /// A member that is not listed any more.
    Remove(MemberId),
    /// One set of voters was about to replace another when its leader was lost.
    Finish,
}

/// Raft's membership, as the leader has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RaftMembers {
    pub(crate) voters: BTreeSet<MemberId>,
    pub(crate) learners: BTreeSet<MemberId>,
    /// Learners that are connected and have caught up.
    pub(crate) ready: BTreeSet<MemberId>,
    /// The voters are those of two sets, one about to replace the other.
    pub(crate) joint: bool,
}

/// `None` when nothing is left to do. Removals come first: a member that was removed may be the
/// reason why others can't be added.
pub(crate) fn next_step(listed: &Members, raft: &RaftMembers) -> Option<Step> {
    let ids = |learner: bool| {
        let rows = listed.rows.iter().filter(move |row| row.member.is_learner == learner);
        rows.map(|row| MemberId(row.member.id))
    };
    let all: BTreeSet<MemberId> = ids(true).chain(ids(false)).collect();
    if raft.joint {
        return Some(Step::Finish);
    }
    if all.is_empty() {
        return None;
    }
    let known = || raft.voters.union(&raft.learners);
    let remove = known().find(|id| !all.contains(id)).map(|id| Step::Remove(*id));
    let promote = || ids(false).find(|id| raft.ready.contains(id)).map(Step::Promote);
    let add =
        || all.iter().find(|id| !known().any(|raft| raft == *id)).map(|id| Step::AddLearner(*id));
    remove.or_else(promote).or_else(add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Row, proto::etcdserverpb::Member};

    /// Lists are written as ids, `l` for learners; Raft's side as voters | learners | ready
    /// learners, with `joint` before it while voters change.
    #[track_caller]
    fn check(listed: &str, raft: &str, step: Option<Step>) {
        let rows = listed.split_whitespace().map(|word| Row {
            member: Member {
                id: word.trim_end_matches('l').parse().unwrap(),
                is_learner: word.ends_with('l'),
                ..Default::default()
            },
            incarnation: None,
        });
        let (joint, sets) = match raft.strip_prefix("joint ") {
            Some(sets) => (true, sets),
            None => (false, raft),
        };
        let mut sets = sets
            .split('|')
            .map(|part| part.split_whitespace().map(|id| MemberId(id.parse().unwrap())).collect());
        let raft = RaftMembers {
            voters: sets.next().unwrap(),
            learners: sets.next().unwrap(),
            ready: sets.next().unwrap(),
            joint,
        };
        let members = Members { rows: rows.collect(), ..Default::default() };
        assert_eq!(next_step(&members, &raft), step);
    }

    #[test]
    fn raft_follows_the_list_step_by_step() {
        check("1 2 3", "1 2 3 | |", None);
        check("1 2 3 4", "1 2 3 | |", Some(Step::AddLearner(MemberId(4))));
        check("1 2 3 4", "1 2 3 | 4 |", None);
        check("1 2 3 4", "1 2 3 | 4 | 4", Some(Step::Promote(MemberId(4))));
        check("1 2 3 4l", "1 2 3 | 4 | 4", None);
        check("1 2", "1 2 3 | |", Some(Step::Remove(MemberId(3))));
        check("1 2", "1 2 | 3 |", Some(Step::Remove(MemberId(3))));
        check("1 2 4", "1 2 3 | |", Some(Step::Remove(MemberId(3))));
    }

    #[test]
    fn a_change_that_its_leader_left_half_done_is_finished_first() {
        check("1 2 3", "joint 1 2 3 | |", Some(Step::Finish));
        check("1 2", "joint 1 2 3 | 4 | 4", Some(Step::Finish));
        check("", "joint 1 2 3 | |", Some(Step::Finish));
    }

    #[test]
    fn a_list_that_is_not_there_yet_changes_nothing() {
        check("", "1 2 3 | |", None);
    }
}
