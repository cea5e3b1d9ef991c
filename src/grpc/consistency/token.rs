//! How far a session has seen, as a text that its client carries.

use std::fmt;

use super::Wrong;
use crate::types::{ClusterId, Revision};

/// `cluster:epoch:revision`, the cluster in hexadecimal as everywhere; or the revision alone, which
/// is what every answer of etcd has in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// `None` when the token does not say, and then not its epoch either.
    pub(super) cluster: Option<ClusterId>,
    pub(super) epoch: u64,
    /// `None` for a session that has seen nothing.
    pub(super) revision: Option<Revision>,
}

impl Token {
    /// `None` for what is no token.
    pub(super) fn parse(text: &str) -> Option<Token> {
        let revision = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<i64>().ok().filter(|_| digits)?;
            Some(Revision::from_wire(number))
        };
        let Some((cluster, rest)) = text.split_once(':') else {
            return Some(Token { cluster: None, epoch: 0, revision: revision(text)? });
        };
        let (epoch, seen) = rest.split_once(':')?;
        let is_hex = !cluster.is_empty() && cluster.bytes().all(|byte| byte.is_ascii_hexdigit());
        let cluster = u64::from_str_radix(cluster, 16).ok().filter(|_| is_hex)?;
        let is_number = epoch.bytes().all(|byte| byte.is_ascii_digit());
        let epoch = epoch.parse::<u64>().ok().filter(|_| is_number)?;
        Some(Token { cluster: Some(ClusterId(cluster)), epoch, revision: revision(seen)? })
    }

    /// Revisions of another history mean nothing in this one.
    pub(super) fn check(self, cluster: ClusterId, epoch: u64) -> Result<(), Wrong> {
        match self.cluster {
            None => Ok(()),
            Some(other) if other != cluster => Err(Wrong::OtherCluster),
            Some(_) if self.epoch != epoch => Err(Wrong::OtherEpoch),
            Some(_) => Ok(()),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cluster) = self.cluster {
            write!(f, "{cluster}:{}:", self.epoch)?;
        }
        write!(f, "{}", self.revision.map_or(0, Revision::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, cluster: Option<u64>, epoch: u64, revision: i64) {
        let revision = Revision::from_wire(revision);
        let token = Token { cluster: cluster.map(ClusterId), epoch, revision };
        assert_eq!(Token::parse(text), Some(token));
        assert_eq!(token.to_string(), text);
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        check("0", None, 0, 0);
        check("17", None, 0, 17);
        check("9223372036854775807", None, 0, i64::MAX);
        check("cdf818194e3a8c32:0:12", Some(0xcdf8_1819_4e3a_8c32), 0, 12);
        check("1:18446744073709551615:0", Some(1), u64::MAX, 0);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1.5",
            "9223372036854775808",
            ":0:1",
            "1:0",
            "1::1",
            "1:0:",
            "1:0:1:1",
            "1:-1:1",
            "1:+1:1",
            "x:0:1",
            "+1:0:1",
            "11111111111111111:0:1",
            "0:-1#12",
        ] {
            assert_eq!(Token::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_of_another_history_is_refused() {
        let check = |text: &str| Token::parse(text).unwrap().check(ClusterId(0xa), 3);
        assert_eq!(check("a:3:7"), Ok(()));
        assert_eq!(check("7"), Ok(()));
        assert_eq!(check("b:3:7"), Err(Wrong::OtherCluster));
        assert_eq!(check("a:2:7"), Err(Wrong::OtherEpoch));
    }
}
