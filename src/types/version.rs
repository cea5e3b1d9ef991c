//! Versions of etcd's protocol, as a cluster agrees on one.

use std::fmt;

/// A version of etcd without its patch number: all that a cluster agrees on.
///
/// Printed as etcd prints it, with a patch number of 0: `3.7.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// What a cluster begins with that does not know the versions of all its members.
    pub const OLDEST: Version = Version { major: 3, minor: 0 };

    /// Reads a semantic version, `3.7.1-rc.0+build`, of which two numbers stay, or those two
    /// numbers alone.
    pub fn parse(text: &str) -> Option<Version> {
        Version::semantic(text).or_else(|| Version::semantic(&format!("{text}.0")))
    }

    fn semantic(text: &str) -> Option<Version> {
        let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
        let (text, prerelease) = text.split_once('-').unwrap_or((text, ""));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !metadata.bytes().chain(prerelease.bytes()).all(fits) {
            return None;
        }
        let mut numbers = text.split('.').map(number);
        let (major, minor, _patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(Version { major, minor })
    }

    /// The version that a cluster of this one may go back to.
    pub fn previous(self) -> Option<Version> {
        Some(Version { minor: self.minor.checked_sub(1)?, ..self })
    }

    /// The two numbers, `3.7`: how answers and log lines name a cluster's version.
    pub fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// Digits alone: what is read elsewhere as `+3` or ` 3` is no part of a version.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(Version::parse(text).map(Version::short).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn versions_are_read_as_etcd_reads_the_target_of_a_downgrade() {
        check("3.6", Some("3.6"));
        check("3.6.9", Some("3.6"));
        check("3.6.9-rc.1+b-2", Some("3.6"));
        check("0.0", Some("0.0"));
        for text in ["", "abc", "3", "v3.6", "3.5.1.2", "3.", "3.x", "3.-1", "+3.6", "3.6.0-r_c"] {
            check(text, None);
        }
        check("3.99999999999", None);
    }

    #[test]
    fn versions_are_ordered_and_printed_as_etcds() {
        let (older, newer) = (Version::OLDEST, Version { major: 3, minor: 10 });
        assert!(older < newer && newer > Version { major: 3, minor: 9 });
        assert_eq!(newer.to_string(), "3.10.0");
        assert_eq!(newer.previous(), Some(Version { major: 3, minor: 9 }));
        assert_eq!(older.previous(), None);
    }
}
