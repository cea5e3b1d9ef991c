//! Which version a cluster speaks, and how it goes back to an earlier one: etcd's rules.

use super::Rejection;
use crate::types::Version;

/// What the members have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// `None` before the first leader has decided it.
    pub cluster: Option<Version>,
    /// The version that the cluster is to go back to, while somebody wants that.
    pub downgrade: Option<Version>,
}

impl Versions {
    /// The oldest etcd that can read what this member stores, which follows the cluster's version;
    /// `None` until a real one is decided.
    pub fn storage(self) -> Option<Version> {
        self.cluster.filter(|version| *version != Version::OLDEST)
    }

    /// The cluster version that should be set now, if another one should. `servers` is the lowest
    /// version of all members, `None` while it is not known of each.
    pub fn decide(self, servers: Option<Version>) -> Option<Version> {
        let Some(cluster) = self.cluster else { return Some(servers.unwrap_or(Version::OLDEST)) };
        let servers = servers?;
        match self.downgrade {
            Some(target) => (cluster.previous() == Some(target)
                && servers.previous() == Some(target))
            .then_some(target),
            None => (cluster.major == servers.major && cluster < servers).then_some(servers),
        }
    }

    /// Whether nothing is left to do of the downgrade: all members are of the target's version.
    pub fn is_downgraded(self, mut servers: impl Iterator<Item = Option<Version>>) -> bool {
        self.downgrade.is_some_and(|target| servers.all(|version| version == Some(target)))
    }

    /// A new cluster version is decided on top of another one; of two decisions only one counts.
    pub fn check_set(self, from: Option<Version>) -> Result<(), Rejection> {
        if self.cluster == from { Ok(()) } else { Err(Rejection::VersionChanged) }
    }

    pub fn check_downgrade(self, target: Version) -> Result<(), Rejection> {
        let cluster = self.cluster.ok_or(Rejection::VersionUnknown)?;
        if cluster.previous() != Some(target) {
            return Err(Rejection::InvalidDowngradeTarget(target));
        }
        if self.downgrade.is_some() {
            return Err(Rejection::DowngradeInProgress);
        }
        Ok(())
    }

    pub fn check_cancel(self) -> Result<(), Rejection> {
        if self.downgrade.is_some() { Ok(()) } else { Err(Rejection::NoDowngrade) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<Version> {
        (text != "-").then(|| Version::parse(text).unwrap())
    }

    fn versions(cluster: &str, downgrade: &str) -> Versions {
        Versions { cluster: version(cluster), downgrade: version(downgrade) }
    }

    /// Cluster version, target of a downgrade, lowest version of the servers; what follows. `-` is
    /// none.
    #[track_caller]
    fn check(words: &str, decided: &str) {
        let [cluster, downgrade, servers] = words.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{words}")
        };
        let decision = versions(cluster, downgrade).decide(version(servers));
        assert_eq!(decision, version(decided), "{words}");
    }

    #[test]
    fn the_cluster_version_follows_the_oldest_server() {
        check("- - 3.7", "3.7");
        check("- - -", "3.0");
        check("3.0 - -", "-");
        check("3.0 - 3.7", "3.7");
        check("3.6 - 3.7", "3.7");
        check("3.7 - 3.7", "-");
        check("3.7 - 3.6", "-");
        check("3.7 - 4.0", "-");
    }

    #[test]
    fn a_downgrade_lowers_the_cluster_version_by_one_and_keeps_it_there() {
        check("3.7 3.6 3.7", "3.6");
        check("3.7 3.6 -", "-");
        check("3.6 3.6 3.7", "-");
        check("3.6 3.6 3.6", "-");
        check("3.6 - 3.7", "3.7");
        check("3.7 3.5 3.7", "-");
        check("3.7 3.6 3.8", "-");
    }

    #[test]
    fn a_downgrade_is_complete_when_every_server_is_of_the_target() {
        let done = |cluster, downgrade, servers: &[&str]| {
            versions(cluster, downgrade).is_downgraded(servers.iter().map(|text| version(text)))
        };
        assert!(done("3.6", "3.6", &["3.6", "3.6"]));
        assert!(!done("3.6", "3.6", &["3.6", "3.7"]));
        assert!(!done("3.6", "3.6", &["3.6", "-"]));
        assert!(!done("3.6", "-", &["3.6"]));
    }

    #[test]
    fn only_one_step_back_is_allowed_and_only_once_at_a_time() {
        let target = |text| Version::parse(text).unwrap();
        let check =
            |cluster, downgrade, to| versions(cluster, downgrade).check_downgrade(target(to));
        let invalid = |text| Err(Rejection::InvalidDowngradeTarget(target(text)));
        assert_eq!(check("3.7", "-", "3.6"), Ok(()));
        assert_eq!(check("3.7", "-", "3.7"), invalid("3.7"));
        assert_eq!(check("3.7", "-", "3.5"), invalid("3.5"));
        assert_eq!(check("3.7", "-", "4.0"), invalid("4.0"));
        assert_eq!(check("3.7", "3.6", "3.6"), Err(Rejection::DowngradeInProgress));
        assert_eq!(check("3.7", "3.6", "3.5"), invalid("3.5"));
        // etcd goes by the cluster's version, which has moved by now.
        assert_eq!(check("3.6", "3.6", "3.5"), Err(Rejection::DowngradeInProgress));
        assert_eq!(check("3.6", "3.6", "3.6"), invalid("3.6"));
        assert_eq!(check("-", "-", "3.6"), Err(Rejection::VersionUnknown));
        assert_eq!(versions("3.7", "-").check_cancel(), Err(Rejection::NoDowngrade));
        assert_eq!(versions("3.7", "3.6").check_cancel(), Ok(()));
    }

    #[test]
    fn of_two_decisions_on_top_of_one_version_one_counts() {
        assert_eq!(versions("3.0", "-").check_set(version("3.0")), Ok(()));
        let late = versions("3.7", "-").check_set(version("3.0"));
        assert_eq!(late, Err(Rejection::VersionChanged));
    }

    #[test]
    fn the_storage_version_is_unknown_until_a_real_version_is_decided() {
        assert_eq!(versions("-", "-").storage(), None);
        assert_eq!(versions("3.0", "-").storage(), None);
        assert_eq!(versions("3.6", "3.6").storage(), version("3.6"));
    }
}
