//! openraft's types as we fill them in, and the way between them and our own.

use std::{collections::BTreeSet, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::{
    EntryPayload, Membership, StoredMembership,
    entry::RaftEntry,
    impls::{EmptyNode, leader_id_adv::LeaderId},
    type_config::alias::{CommittedLeaderIdOf, LogIdOf, VoteOf},
    vote::RaftLeaderId,
};

use super::runtime::SeededTokio;
use crate::{
    log,
    types::{LogId, MemberId, Vote},
};

openraft::declare_raft_types!(
    /// Commands are opaque bytes here: encoded once where they are proposed, decoded where applied.
    pub(crate) TypeConfig:
        D = EncodedCommand,
        R = (),
        Node = EmptyNode,
        AsyncRuntime = SeededTokio,
);

/// An encoded `orrery.Command`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EncodedCommand(pub(crate) Bytes);

impl fmt::Debug for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(crate) type OpenEntry = openraft::Entry<CommittedLeaderIdOf<TypeConfig>, OpenPayload>;
pub(crate) type OpenPayload = EntryPayload<EncodedCommand, u64, EmptyNode>;
pub(crate) type OpenMembership = Membership<u64, EmptyNode>;
pub(crate) type OpenStoredMembership =
    StoredMembership<CommittedLeaderIdOf<TypeConfig>, u64, EmptyNode>;

pub(crate) fn log_id_to_open(id: LogId) -> LogIdOf<TypeConfig> {
    LogIdOf::<TypeConfig>::new(LeaderId::new(id.term, id.node), id.index)
}

pub(crate) fn log_id_from_open(id: &LogIdOf<TypeConfig>) -> LogId {
    let leader = id.committed_leader_id();
    LogId { term: leader.term, node: leader.node_id, index: id.index() }
}

pub(crate) fn vote_to_open(vote: Vote) -> VoteOf<TypeConfig> {
    let mut open = VoteOf::<TypeConfig>::new(vote.term, vote.node);
    open.committed = vote.committed;
    open
}

pub(crate) fn vote_from_open(vote: &VoteOf<TypeConfig>) -> Vote {
    Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn entry_from_open(entry: OpenEntry) -> log::Entry {
    let id = log_id_from_open(&entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (log::EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(command) => (log::EntryKind::Command, command.0),
        EntryPayload::Membership(membership) => {
            (log::EntryKind::Membership, encode_membership(&membership))
        }
    };
    log::Entry { id, kind, payload }
}

/// # Errors
/// The entry holds a membership that does not decode.
pub(crate) fn entry_to_open(entry: log::Entry) -> Result<OpenEntry, BadMembership> {
    let payload = match entry.kind {
        log::EntryKind::Blank => EntryPayload::Blank,
        log::EntryKind::Command => EntryPayload::Normal(EncodedCommand(entry.payload)),
        log::EntryKind::Membership => EntryPayload::Membership(decode_membership(entry.payload)?),
    };
    Ok(OpenEntry::new(log_id_to_open(entry.id), payload))
}

/// The bytes are not a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Raft membership does not decode")]
pub(crate) struct BadMembership;

/// A membership as it stands in logs and snapshots: the number of configurations (two while one
/// replaces the other), each as a list of voters; then the list of learners. Numbers are
/// little-endian, lists start with their length as u32.
pub(crate) fn encode_membership(membership: &OpenMembership) -> Bytes {
    let mut out = BytesMut::new();
    let configs = membership.get_joint_config();
    out.put_u32_le(list_len(configs.len()));
    for voters in configs {
        put_ids(&mut out, voters.iter().copied());
    }
    put_ids(&mut out, membership.learner_ids());
    out.freeze()
}

/// The membership of a group that begins with these voters.
pub fn founding_membership(voters: impl IntoIterator<Item = MemberId>) -> Bytes {
    let voters: BTreeSet<u64> = voters.into_iter().map(|id| id.0).collect();
    encode_membership(&OpenMembership::new_with_defaults(vec![voters], []))
}

fn put_ids(out: &mut BytesMut, ids: impl Iterator<Item = u64>) {
    let ids: Vec<u64> = ids.collect();
    out.put_u32_le(list_len(ids.len()));
    for id in ids {
        out.put_u64_le(id);
    }
}

fn list_len(len: usize) -> u32 {
    u32::try_from(len).expect("memberships are short")
}

pub(crate) fn decode_membership(mut bytes: Bytes) -> Result<OpenMembership, BadMembership> {
    let configs = bytes.try_get_u32_le().map_err(|_| BadMembership)?;
    let mut joint = Vec::new();
    for _ in 0..configs {
        joint.push(take_ids(&mut bytes)?.into_iter().collect());
    }
    let learners = take_ids(&mut bytes)?;
    if bytes.has_remaining() {
        return Err(BadMembership);
    }
    Ok(Membership::new_with_defaults(joint, learners))
}

/// A membership with the entry that it comes from; empty when there is none.
pub(crate) fn encode_stored_membership(stored: &OpenStoredMembership) -> Bytes {
    let mut out = BytesMut::new();
    if let Some(id) = stored.log_id() {
        let LogId { term, node, index } = log_id_from_open(id);
        out.put_u64_le(term);
        out.put_u64_le(node);
        out.put_u64_le(index);
        out.extend_from_slice(&encode_membership(stored.membership()));
    }
    out.freeze()
}

/// The entry that a membership comes from and its encoding, as a state's position holds them.
pub(crate) fn decode_stored_membership(
    mut bytes: Bytes,
) -> Result<Option<(LogId, Bytes)>, BadMembership> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut next = || bytes.try_get_u64_le().map_err(|_| BadMembership);
    let id = LogId { term: next()?, node: next()?, index: next()? };
    decode_membership(bytes.clone())?;
    Ok(Some((id, bytes)))
}

fn take_ids(bytes: &mut Bytes) -> Result<Vec<u64>, BadMembership> {
    let count = bytes.try_get_u32_le().map_err(|_| BadMembership)?;
    (0..count).map(|_| bytes.try_get_u64_le().map_err(|_| BadMembership)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_survives_its_encoding() {
        for (configs, learners) in [
            (vec![vec![]], vec![]),
            (vec![vec![1]], vec![]),
            (vec![vec![1, 2, 3]], vec![9]),
            (vec![vec![1, 2, 3], vec![2, 3, 4]], vec![u64::MAX]),
        ] {
            let configs: Vec<BTreeSet<u64>> =
                configs.into_iter().map(|ids| ids.into_iter().collect()).collect();
            let membership = Membership::new_with_defaults(configs, learners);
            assert_eq!(decode_membership(encode_membership(&membership)), Ok(membership));
        }
    }

    #[test]
    fn a_damaged_membership_is_refused() {
        let membership = OpenMembership::new_with_defaults(vec![BTreeSet::from([1, 2])], [3]);
        let encoded = encode_membership(&membership);
        for len in 0..encoded.len() {
            assert_eq!(decode_membership(encoded.slice(..len)), Err(BadMembership), "cut at {len}");
        }
        let longer = Bytes::from([encoded.as_ref(), &[0]].concat());
        assert_eq!(decode_membership(longer), Err(BadMembership));
    }
}
