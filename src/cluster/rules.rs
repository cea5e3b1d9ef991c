//! Which changes of the list are allowed. Asked when a change is applied; the edge may ask as well,
//! to refuse early.

use super::{Members, Rejection, Row};
use crate::{proto::etcdserverpb::Member, types::MemberId};

impl Members {
    /// With `strict`, a voter is added only while enough of the voters have started to form a
    /// quorum with it.
    pub fn check_add(
        &self,
        member: &Member,
        max_learners: u64,
        strict: bool,
    ) -> Result<(), Rejection> {
        let id = MemberId(member.id);
        if strict && !member.is_learner && !self.is_ready_to_add_voter() {
            return Err(Rejection::NotEnoughStarted);
        }
        if self.get(id).is_some() || self.is_removed(id) {
            return Err(Rejection::IdExists(id));
        }
        self.check_peer_urls(id, &member.peer_ur_ls)?;
        let learners = self.rows.iter().filter(|row| row.member.is_learner).count();
        if member.is_learner && learners as u64 >= max_learners {
            return Err(Rejection::TooManyLearners);
        }
        Ok(())
    }

    pub fn check_remove(&self, id: MemberId) -> Result<&Row, Rejection> {
        let row = self.get(id).ok_or(Rejection::NotFound(id))?;
        if !row.member.is_learner && self.voters().count() == 1 {
            return Err(Rejection::NotEnoughStarted);
        }
        Ok(row)
    }

    pub fn check_update(&self, id: MemberId, peer_urls: &[String]) -> Result<&Row, Rejection> {
        let row = self.get(id).ok_or(Rejection::NotFound(id))?;
        self.check_peer_urls(id, peer_urls)?;
        Ok(row)
    }

    pub fn check_promote(&self, id: MemberId) -> Result<&Row, Rejection> {
        let row = self.get(id).ok_or(Rejection::NotFound(id))?;
        if !row.member.is_learner {
            return Err(Rejection::NotLearner(id));
        }
        Ok(row)
    }

    pub fn check_publish(&self, id: MemberId, incarnation: u64) -> Result<&Row, Rejection> {
        let row = self.get(id).ok_or(Rejection::NotFound(id))?;
        if row.incarnation.is_some_and(|known| known != incarnation) {
            return Err(Rejection::OtherIncarnation(id));
        }
        Ok(row)
    }

    /// Whether the voters that have started are a quorum once another voter is added.
    pub fn is_ready_to_add_voter(&self) -> bool {
        let (voters, started) = (self.voters().count(), self.started_voters(None));
        // A cluster of one is how a cluster is restored: it must be able to grow.
        (voters, started) == (1, 1) || started >= quorum(voters + 1)
    }

    /// Whether the voters that have started are a quorum once this one is removed. Learners may
    /// always go.
    pub fn is_ready_to_remove(&self, id: MemberId) -> bool {
        if self.get(id).is_some_and(|row| row.member.is_learner) {
            return true;
        }
        let voters = self.voters().filter(|voter| voter.id != id.0).count();
        self.started_voters(Some(id)) >= quorum(voters)
    }

    /// Whether the voters that have started are a quorum once a learner, which has, is one of them.
    pub fn is_ready_to_promote(&self) -> bool {
        self.started_voters(None) + 1 >= quorum(self.voters().count() + 1)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.rows.iter().map(|row| &row.member).filter(|member| !member.is_learner)
    }

    /// A member that has started has told the others its name.
    fn started_voters(&self, without: Option<MemberId>) -> usize {
        let counts = |voter: &&Member| {
            !voter.name.is_empty() && without.is_none_or(|without| voter.id != without.0)
        };
        self.voters().filter(counts).count()
    }

    fn check_peer_urls(&self, of: MemberId, peer_urls: &[String]) -> Result<(), Rejection> {
        let others = self.rows.iter().filter(|row| row.member.id != of.0);
        let mut taken = others.flat_map(|row| &row.member.peer_ur_ls);
        if taken.any(|url| peer_urls.contains(url)) {
            return Err(Rejection::PeerUrlExists);
        }
        Ok(())
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word for each member: `1` has started, `2?` has not, `3l` is a learner, `4x` was removed.
    fn members(words: &str) -> Members {
        let mut members = Members::default();
        for word in words.split(' ') {
            let id = word[..1].parse().unwrap();
            let member = Member {
                id,
                name: if word.ends_with('?') { "".into() } else { format!("m{id}") },
                peer_ur_ls: vec![format!("http://{id}")],
                client_ur_ls: Vec::new(),
                is_learner: word.ends_with('l'),
            };
            let row = Row { member, incarnation: (id == 1).then_some(11) };
            match word.ends_with('x') {
                true => members.removed.push(row),
                false => members.rows.push(row),
            }
        }
        members
    }

    fn new(id: u64, url: &str, is_learner: bool) -> Member {
        Member { id, peer_ur_ls: vec![url.into()], is_learner, ..Member::default() }
    }

    #[test]
    fn adding_needs_a_new_id_new_urls_and_room() {
        let list = members("1 2 3l 4x");
        let add = |id, url, learner, max| list.check_add(&new(id, url, learner), max, false);
        assert_eq!(add(5, "http://5", false, 0), Ok(()));
        assert_eq!(add(2, "http://5", false, 0), Err(Rejection::IdExists(MemberId(2))));
        assert_eq!(add(4, "http://4", false, 0), Err(Rejection::IdExists(MemberId(4))));
        assert_eq!(add(5, "http://2", false, 0), Err(Rejection::PeerUrlExists));
        assert_eq!(add(5, "http://5", true, 1), Err(Rejection::TooManyLearners));
        assert_eq!(add(5, "http://5", true, 2), Ok(()));
    }

    /// The cases of etcd's TestIsReadyToAddVotingMember and TestIsReadyToRemoveVotingMember in
    /// short.
    #[test]
    fn changes_of_the_voters_leave_a_quorum_that_has_started() {
        let add = |list| members(list).is_ready_to_add_voter();
        assert_eq!([add("1"), add("1 2"), add("1 2?"), add("1 2 3?")], [true, true, false, false]);
        assert_eq!([add("1 2 3"), add("1 2 3 4?"), add("1 3l")], [true, true, true]);
        let remove = |list, id| members(list).is_ready_to_remove(MemberId(id));
        assert_eq!([remove("1", 1), remove("1 2", 1), remove("1 2?", 1)], [false, true, false]);
        assert_eq!(
            [remove("1 2?", 2), remove("1 2 3?", 1), remove("1 2 3?", 3)],
            [true, false, true]
        );
        assert!(remove("1 2? 3l", 3));
        assert!(members("1 3l").is_ready_to_promote());
        assert!(!members("1? 2? 3l").is_ready_to_promote());
        let strict = |list, learner| members(list).check_add(&new(9, "", learner), 9, true);
        assert_eq!(strict("1 2?", false), Err(Rejection::NotEnoughStarted));
        assert_eq!(strict("1 2?", true), Ok(()));
    }

    #[test]
    fn only_members_can_be_changed_and_only_learners_promoted() {
        let list = members("1 2 3l");
        let unknown = MemberId(9);
        assert_eq!(list.check_remove(unknown), Err(Rejection::NotFound(unknown)));
        assert_eq!(list.check_update(unknown, &[]), Err(Rejection::NotFound(unknown)));
        assert_eq!(list.check_promote(unknown), Err(Rejection::NotFound(unknown)));
        assert_eq!(list.check_promote(MemberId(1)), Err(Rejection::NotLearner(MemberId(1))));
        assert!(list.check_promote(MemberId(3)).is_ok());
        assert_eq!(members("1 3l").check_remove(MemberId(1)), Err(Rejection::NotEnoughStarted));
        let url = |id| vec![format!("http://{id}")];
        assert!(list.check_update(MemberId(1), &url(1)).is_ok());
        assert_eq!(list.check_update(MemberId(1), &url(2)), Err(Rejection::PeerUrlExists));
    }

    #[test]
    fn a_member_that_comes_back_with_another_data_directory_is_refused() {
        let list = members("1 2?");
        assert!(list.check_publish(MemberId(1), 11).is_ok());
        let other = Rejection::OtherIncarnation(MemberId(1));
        assert_eq!(list.check_publish(MemberId(1), 12), Err(other));
        assert!(list.check_publish(MemberId(2), 12).is_ok());
    }
}
