//! Who holds something else than the others, by what each of them says: etcd's rules.

use std::collections::BTreeMap;

use crate::types::MemberId;

/// What a member said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) hash: u32,
    /// Its newest revision when it answered.
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
}

/// What the leader found in its own store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) member: MemberId,
    /// At the revision that the others were asked about.
    pub(super) before: Hash,
    /// When the others had answered, and all that they could have had by then was applied.
    pub(super) after: Hash,
    /// The revision that `after` is about.
    pub(super) after_at: i64,
}

/// The first member that is to blame, and why. `None` when nothing contradicts the leader.
pub(super) fn of_everything(
    own: &Own,
    others: &[(MemberId, Hash)],
) -> Option<(MemberId, &'static str)> {
    let Own { member, before, after, after_at } = *own;
    let nothing_happened =
        after_at == before.revision && after.compact_revision == before.compact_revision;
    if nothing_happened && after.hash != before.hash {
        return Some((member, "found hash mismatch"));
    }
    others.iter().find_map(|(member, other)| {
        let why = if other.revision > after.revision {
            "revision from follower must be less than or equal to leader's"
        } else if other.compact_revision > after.compact_revision {
            "compact revision from follower must be less than or equal to leader's"
        } else if other.compact_revision == before.compact_revision && other.hash != before.hash {
            "same compact revision then hashes must match"
        } else {
            return None;
        };
        Some((*member, why))
    })
}

/// What comes of comparing the hashes that one compaction has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// On all members.
    Same,
    /// No two differ, but not all could be compared.
    Unsure { checked: usize },
    /// These have something else than most of the members; 0 when most do not agree.
    Different(Vec<MemberId>),
}

/// `asked` counts the other members, with those that gave no answer.
pub(super) fn of_compaction(
    leader: MemberId,
    own: Hash,
    others: &[(MemberId, Hash)],
    asked: usize,
) -> Verdict {
    let mut by_hash = BTreeMap::from([(own.hash, vec![leader])]);
    let comparable = others.iter().filter(|(_, it)| it.compact_revision == own.compact_revision);
    let mut checked = 0;
    for (member, other) in comparable {
        by_hash.entry(other.hash).or_default().push(*member);
        checked += 1;
    }
    if by_hash.len() == 1 {
        return if checked == asked { Verdict::Same } else { Verdict::Unsure { checked } };
    }
    let members = asked + 1;
    let quorum = members / 2 + 1;
    if !by_hash.values().any(|members| members.len() >= quorum) {
        return Verdict::Different(vec![MemberId(0)]);
    }
    let minorities = by_hash.into_values().filter(|members| members.len() < quorum);
    Verdict::Different(minorities.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: MemberId = MemberId(1);

    fn hash(hash: u32, revision: i64, compact_revision: i64) -> Hash {
        Hash { hash, revision, compact_revision }
    }

    #[test]
    fn whoever_contradicts_the_leader_is_to_blame() {
        #[track_caller]
        fn check(after: Hash, others: &[Hash], accused: Option<u64>) {
            let own =
                Own { member: LEADER, before: hash(7, 20, 5), after, after_at: after.revision };
            let ids = (2..).map(MemberId);
            let others: Vec<_> = ids.zip(others.iter().copied()).collect();
            let found = of_everything(&own, &others).map(|(member, _)| member.0);
            assert_eq!(found, accused);
        }
        let same = hash(7, 20, 5);
        check(same, &[same, same], None);
        check(same, &[], None);
        check(hash(8, 20, 5), &[same], Some(1));
        // Something happened in between.
        check(hash(8, 21, 5), &[same], None);
        check(hash(8, 21, 9), &[hash(9, 21, 9)], None);
        check(same, &[hash(7, 21, 5)], Some(2));
        check(same, &[same, hash(7, 20, 6)], Some(3));
        check(same, &[same, hash(9, 20, 5)], Some(3));
        check(same, &[hash(9, 18, 3), same], None);
    }

    #[test]
    fn the_minority_is_to_blame_and_without_a_majority_nobody_knows() {
        #[track_caller]
        fn check(others: &[(u32, i64)], asked: usize, expected: Verdict) {
            let ids = (2..).map(MemberId);
            let others: Vec<_> =
                ids.zip(others.iter().map(|(it, floor)| hash(*it, 30, *floor))).collect();
            assert_eq!(of_compaction(LEADER, hash(7, 20, 5), &others, asked), expected);
        }
        let different =
            |ids: &[u64]| Verdict::Different(ids.iter().copied().map(MemberId).collect());
        check(&[(7, 5), (7, 5)], 2, Verdict::Same);
        check(&[(7, 5)], 2, Verdict::Unsure { checked: 1 });
        check(&[(7, 5), (9, 4)], 2, Verdict::Unsure { checked: 1 });
        check(&[(7, 5), (9, 5)], 2, different(&[3]));
        check(&[(9, 5), (9, 5)], 2, different(&[1]));
        check(&[(8, 5), (9, 5)], 2, different(&[0]));
        // One of two says nothing: who is right?
        check(&[(9, 5)], 1, different(&[0]));
        check(&[(9, 5)], 2, different(&[0]));
        check(&[(7, 5), (8, 5), (7, 5), (9, 5)], 4, different(&[3, 5]));
    }
}
