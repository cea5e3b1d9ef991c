//! How members and clusters get their ids: as in etcd, so that tools and people find the ids they
//! know.

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId};

/// Id of a member. `unix_secs` is when it is added to a running cluster; founding members have
/// none, so that all of them compute the same ids.
pub fn member_id(peer_urls: &[String], cluster_token: &str, unix_secs: Option<u64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let secs = unix_secs.map(|secs| secs.to_string()).unwrap_or_default();
    MemberId(hash(format!("{}{cluster_token}{secs}", urls.concat()).as_bytes()))
}

/// Id of a cluster that these members found.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<MemberId> = members.into_iter().collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0.to_be_bytes()).collect();
    ClusterId(hash(&bytes))
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    let first = digest.first_chunk().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 23 December 1984, 15:04:05 UTC.
    const LATER: Option<u64> = Some(472_662_245);

    #[track_caller]
    fn check(peer_urls: &[&str], token: &str, unix_secs: Option<u64>, expected: u64) {
        let peer_urls: Vec<String> = peer_urls.iter().map(|url| (*url).into()).collect();
        assert_eq!(member_id(&peer_urls, token, unix_secs), MemberId(expected));
    }

    /// The values of etcd's TestMemberTime.
    #[test]
    fn member_ids_are_etcds() {
        let (one, two) = ("http://10.0.0.1:2379", "http://10.0.0.2:2379");
        let eight = "http://10.0.0.8:2379";
        check(&[eight], "", None, 14544069596553697298);
        check(&[eight], "", LATER, 2448790162483548276);
        check(&[eight], "etcd", LATER, 6973882743191604649);
        check(&[one], "", LATER, 1466075294948436910);
        check(&[one, two], "", None, 16552244735972308939);
        check(&[two, one], "", None, 16552244735972308939);
    }

    /// What etcd's documentation shows for `--name default` without further flags.
    #[test]
    fn the_default_member_and_cluster_have_the_ids_that_people_know() {
        let member = member_id(&["http://localhost:2380".into()], "etcd-cluster", None);
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id([member]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn the_cluster_id_does_not_depend_on_the_order_of_its_members() {
        let [a, b] = [MemberId(1), MemberId(2)];
        assert_eq!(cluster_id([a, b]), cluster_id([b, a]));
        assert_ne!(cluster_id([a, b]), cluster_id([a]));
    }
}
