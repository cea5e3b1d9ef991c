//! Who may do what, at one auth revision.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ROOT, Rejection,
    key_set::KeySet,
    table::{self, State},
};
use crate::{
    proto::authpb::{Permission, Role, User, permission::Type},
    storage::{Error, Rows},
    types::KeyRange,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Empty for nobody, and for a certificate without a name.
    pub user: &'a str,
    /// Auth revision that the credentials were checked at; 0 for nobody.
    pub auth_revision: u64,
}

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// What all users may do, at one auth revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    state: State,
    /// By name. Empty while authentication is disabled.
    users: BTreeMap<Bytes, Rights>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rights {
    is_root: bool,
    readable: KeySet,
    writable: KeySet,
}

impl Rules {
    pub fn read(rows: &dyn Rows) -> Result<Rules, Error> {
        let state = State::read(rows)?;
        if !state.enabled {
            return Ok(Rules { state, users: BTreeMap::new() });
        }
        let roles = table::roles(rows)?.into_iter().map(|role| (role.name.clone(), role)).collect();
        let users = table::users(rows)?.into_iter();
        let users = users.map(|user| (user.name.clone(), Rights::of(&user, &roles))).collect();
        Ok(Rules { state, users })
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Somebody must have come in.
    pub fn check_user(&self, asker: Asker<'_>) -> Result<(), Rejection> {
        if self.state.enabled && asker.auth_revision == 0 {
            return Err(Rejection::UserEmpty);
        }
        Ok(())
    }

    /// As in etcd, root may do what it could when it came in even if the rules have changed since.
    pub fn check_root(&self, asker: Asker<'_>) -> Result<(), Rejection> {
        if !self.state.enabled {
            return Ok(());
        }
        if asker.user.is_empty() {
            return Err(Rejection::UserEmpty);
        }
        match self.users.get(asker.user.as_bytes()) {
            None => Err(Rejection::UserNotFound),
            Some(rights) if rights.is_root => Ok(()),
            Some(_) => Err(Rejection::PermissionDenied),
        }
    }

    /// Whether the asker may do this to every key of the range.
    pub fn check(
        &self,
        asker: Asker<'_>,
        access: Access,
        range: &KeyRange,
    ) -> Result<(), Rejection> {
        if !self.state.enabled {
            return Ok(());
        }
        self.check_user(asker)?;
        if asker.auth_revision != self.state.revision {
            return Err(Rejection::OldRevision);
        }
        let rights = self.users.get(asker.user.as_bytes()).ok_or(Rejection::PermissionDenied)?;
        let keys = match access {
            Access::Read => &rights.readable,
            Access::Write => &rights.writable,
        };
        if rights.is_root || keys.covers(range) {
            return Ok(());
        }
        Err(Rejection::PermissionDenied)
    }
}

impl Rights {
    fn of(user: &User, roles: &BTreeMap<Bytes, Role>) -> Rights {
        let granted = || {
            let roles = user.roles.iter().filter_map(|name| roles.get(name.as_bytes()));
            roles.flat_map(|role| &role.key_permission)
        };
        let keys = |types: [Type; 2]| {
            // Of a type that does not exist, nothing comes.
            let is_one = |permission: &&Permission| {
                Type::try_from(permission.perm_type).is_ok_and(|kind| types.contains(&kind))
            };
            granted().filter(is_one).map(range).collect()
        };
        Rights {
            is_root: user.roles.iter().any(|role| role == ROOT),
            readable: keys([Type::Read, Type::Readwrite]),
            writable: keys([Type::Write, Type::Readwrite]),
        }
    }
}

/// The keys that a permission is for.
fn range(permission: &Permission) -> KeyRange {
    KeyRange::from_wire(permission.key.clone(), permission.range_end.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(enabled: bool) -> Rules {
        let permission = |kind: Type, key: &'static str, range_end: &'static str| Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: range_end.into(),
        };
        let role = |name: &'static str, key_permission| {
            (name.into(), Role { name: name.into(), key_permission })
        };
        let roles = BTreeMap::from([
            role("r", vec![permission(Type::Read, "a", "d")]),
            role("w", vec![permission(Type::Write, "c", "f")]),
            role(
                "odd",
                vec![
                    permission(Type::Readwrite, "x", ""),
                    Permission { perm_type: 7, ..permission(Type::Read, "y", "") },
                ],
            ),
        ]);
        let user = |name: &'static str, roles_of: &[&str]| {
            let user = User {
                name: name.into(),
                roles: roles_of.iter().map(|&role| role.to_owned()).collect(),
                ..User::default()
            };
            (user.name.clone(), Rights::of(&user, &roles))
        };
        let users = BTreeMap::from([
            user("root", &["root"]),
            user("u", &["gone", "odd", "r", "w"]),
            user("nobody", &[]),
        ]);
        Rules { state: State { enabled, revision: 7 }, users }
    }

    fn asker(user: &str, auth_revision: u64) -> Asker<'_> {
        Asker { user, auth_revision }
    }

    #[track_caller]
    fn check(
        user: &str,
        auth_revision: u64,
        access: Access,
        keys: [&'static str; 2],
        expected: Result<(), Rejection>,
    ) {
        let range = KeyRange::from_wire(keys[0].into(), keys[1].into());
        assert_eq!(rules(true).check(asker(user, auth_revision), access, &range), expected);
        assert_eq!(rules(false).check(asker(user, auth_revision), access, &range), Ok(()));
    }

    #[test]
    fn permissions_of_all_roles_come_together() {
        use Access::{Read, Write};
        let denied = Err(Rejection::PermissionDenied);
        check("u", 7, Read, ["a", "d"], Ok(()));
        check("u", 7, Read, ["a", "e"], denied);
        check("u", 7, Write, ["c", "f"], Ok(()));
        check("u", 7, Write, ["a", ""], denied);
        check("u", 7, Read, ["x", ""], Ok(()));
        check("u", 7, Write, ["x", ""], Ok(()));
        check("u", 7, Read, ["y", ""], denied);
        check("nobody", 7, Read, ["a", ""], denied);
        check("gone", 7, Read, ["a", ""], denied);
        check("root", 7, Write, ["\0", "\0"], Ok(()));
    }

    #[test]
    fn who_asks_must_have_come_in_by_the_rules_in_force() {
        check("", 0, Access::Read, ["a", ""], Err(Rejection::UserEmpty));
        check("", 7, Access::Read, ["a", ""], Err(Rejection::PermissionDenied));
        check("u", 6, Access::Read, ["a", ""], Err(Rejection::OldRevision));
        check("u", 8, Access::Read, ["a", ""], Err(Rejection::OldRevision));
        check("root", 6, Access::Read, ["a", ""], Err(Rejection::OldRevision));
    }

    #[test]
    fn only_the_root_role_makes_root() {
        for (user, revision, expected) in [
            ("root", 7, Ok(())),
            ("root", 1, Ok(())),
            ("", 0, Err(Rejection::UserEmpty)),
            ("u", 7, Err(Rejection::PermissionDenied)),
            ("gone", 7, Err(Rejection::UserNotFound)),
        ] {
            assert_eq!(rules(true).check_root(asker(user, revision)), expected, "{user}");
            assert_eq!(rules(false).check_root(asker(user, revision)), Ok(()));
        }
        assert_eq!(rules(true).check_user(asker("", 7)), Ok(()));
        assert_eq!(rules(true).check_user(asker("", 0)), Err(Rejection::UserEmpty));
        assert_eq!(rules(false).check_user(asker("", 0)), Ok(()));
    }
}
