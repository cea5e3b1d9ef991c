//! The members that have been found in the registry, in the order in which they came.

/// Who has registered.
#[derive(Debug, Default)]
pub(crate) struct Found {
    members: Vec<Registered>,
}

#[derive(Debug)]
struct Registered {
    key: String,
    /// As `--initial-cluster` has it.
    member: String,
    create_revision: i64,
}

/// Why an entry of the registry counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ignored {
    #[error("invalid peer info returned from discovery service")]
    NoMember,
    #[error("found duplicate peer from discovery service")]
    Duplicate,
}

impl Found {
    pub(crate) fn add(
        &mut self,
        key: &str,
        member: &str,
        create_revision: i64,
    ) -> Result<(), Ignored> {
        if !member.contains('=') {
            return Err(Ignored::NoMember);
        }
        if self.members.iter().any(|known| known.key == key) {
            return Err(Ignored::Duplicate);
        }
        let registered = Registered { key: key.into(), member: member.into(), create_revision };
        self.members.push(registered);
        self.members.sort_by_key(|member| member.create_revision);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the member with this key is one of the first `size`, or can still become one.
    pub(crate) fn has_room_for(&self, key: &str, size: usize) -> bool {
        let mut first = self.members.iter().take(size);
        self.members.len() < size || first.any(|member| member.key == key)
    }

    /// The first `size` members: more may have registered at the same time.
    pub(crate) fn cluster(&self, size: usize) -> String {
        let first = self.members.iter().take(size).map(|member| member.member.as_str());
        first.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by their names, which are the ends of their keys, each with its revision.
    fn found(members: &[(&str, i64)]) -> Found {
        let mut found = Found::default();
        for (name, revision) in members {
            found
                .add(&format!("/members/{name}"), &format!("{name}=http://{name}:1"), *revision)
                .unwrap();
        }
        found
    }

    #[test]
    fn the_first_members_to_register_are_the_cluster() {
        let found = found(&[("a", 9), ("b", 3), ("c", 5)]);
        assert_eq!(found.cluster(2), "b=http://b:1,c=http://c:1");
        assert_eq!(found.cluster(3), "b=http://b:1,c=http://c:1,a=http://a:1");
    }

    #[test]
    fn a_full_cluster_has_room_for_those_who_are_in_it() {
        let found = found(&[("a", 9), ("b", 3), ("c", 5)]);
        let room = |name, size| found.has_room_for(&format!("/members/{name}"), size);
        assert_eq!([room("b", 2), room("c", 2), room("a", 2)], [true, true, false]);
        assert_eq!([room("new", 3), room("new", 4)], [false, true]);
    }

    #[test]
    fn what_is_no_member_or_known_already_does_not_count() {
        let mut found = found(&[("a", 1)]);
        assert_eq!(found.add("/members/b", "nonsense", 2), Err(Ignored::NoMember));
        assert_eq!(found.add("/members/a", "a=http://other:1", 2), Err(Ignored::Duplicate));
        assert_eq!(found.len(), 1);
    }
}
