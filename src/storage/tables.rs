//! Everything that is on disk, on one page: the tables, and what their keys and values look like.
//!
//! All tables share one RocksDB column family, told apart by the first byte of the key, so that a
//! crash leaves every table at the same moment. Numbers here are on disk and never change. Integers
//! in keys are big-endian, so that rows sort as numbers do; integers in values are LEB128
//! (`varint`).

use crate::{
    storage::Error,
    types::{LeaseId, LogId, MemberId, Revision, SubRevision},
};

/// What `MetaKey::Format` holds. A store with another number is not opened.
pub(super) const FORMAT: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Key: a [`MetaKey`] byte. Value: see there.
    Meta = 0,
    /// Key: main revision (u64), sub-revision (u64). Value: `b'p'` for a put or `b't'` for a
    /// tombstone, then `mvccpb.KeyValue` as HashKV hashes it; a tombstone's has nothing but the
    /// key.
    Revisions = 1,
    /// Key: [`escaped`] user key, inverted main revision (u64): a key's newest version comes first.
    /// Value: [`VersionRow`].
    Versions = 2,
    /// Key: [`lease_key`]. Value: [`LeaseRow`].
    Leases = 3,
    /// Key: [`lease_key`], user key. Value: empty.
    LeaseKeys = 4,
    /// Key: member id (u64). Value: 0, or 1 and the incarnation (u64); then `etcdserverpb.Member`.
    Members = 5,
    /// Key: member id (u64). Value: empty.
    RemovedMembers = 6,
    /// Key: user name. Value: `authpb.User`, as in etcd's bucket.
    Users = 7,
    /// Key: role name. Value: `authpb.Role`, as in etcd's bucket.
    Roles = 8,
    /// Key: kind of alarm (u32), member id (u64). Value: empty.
    Alarms = 9,
    /// Key: member id (u64). Value: `orrery.Labels`; no row for a member without.
    MemberLabels = 10,
}

impl Table {
    /// Every table with its name in messages.
    pub const ALL: [(Table, &str); 11] = [
        (Table::Meta, "meta"),
        (Table::Revisions, "revisions"),
        (Table::Versions, "versions"),
        (Table::Leases, "leases"),
        (Table::LeaseKeys, "lease keys"),
        (Table::Members, "members"),
        (Table::RemovedMembers, "removed members"),
        (Table::Users, "users"),
        (Table::Roles, "roles"),
        (Table::Alarms, "alarms"),
        (Table::MemberLabels, "labels of members"),
    ];

    pub fn name(self) -> &'static str {
        let row = Table::ALL.iter().find(|(table, _)| *table == self);
        row.expect("every table is in the list").1
    }

    /// The error for a row of this table that does not decode.
    pub fn corrupt(self, what: impl Into<String>) -> Error {
        Error::Corrupt { table: self.name(), what: what.into() }
    }

    /// The key of a row in RocksDB.
    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + key.len());
        full.push(self as u8);
        full.extend_from_slice(key);
        full
    }
}

/// The rows of [`Table::Meta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MetaKey {
    /// [`FORMAT`], a u64.
    Format = 0,
    /// The newest entry applied: [`LogId`] as three u64.
    Applied = 1,
    /// The newest Raft membership: [`LogId`] of its entry as three u64, then the Raft layer's
    /// bytes.
    Membership = 2,
    /// [`HeadRow`].
    Head = 3,
    /// [`CompactionRow`]: this member's own; members differ in it.
    Compaction = 4,
    /// A u64, once the cluster is founded.
    ClusterId = 5,
    /// 0 or 1 for whether authentication is enabled, then the auth revision (u64).
    Auth = 6,
    /// The cluster's version as text, `3.7.0`, once it is decided.
    ClusterVersion = 7,
    /// The version that the cluster is to go back to, as text; no row when it is to go nowhere.
    Downgrade = 8,
    /// The account of regions, an `orrery.Account`, once there is one.
    Account = 9,
}

impl MetaKey {
    pub fn key(self) -> [u8; 1] {
        [self as u8]
    }
}

/// The newest revision and the compaction floor. Value: two varints, the second of which is 0 for
/// no floor and otherwise one more than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRow {
    pub revision: Revision,
    pub floor: Option<Revision>,
}

/// How far the removal of compacted revisions has come. Value: four varints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionRow {
    /// The floor that the round before has reached.
    pub done: Revision,
    /// The floor that is being worked towards.
    pub target: Revision,
    /// The first revision not looked at yet; past `target` when the round is complete.
    pub next: SubRevision,
}

/// One version of a key without its value. Value: a kind byte, then varints; see `encode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionRow {
    Put { sub: i64, create_revision: Revision, version: i64, lease: Option<LeaseId> },
    Tombstone { sub: i64 },
}

/// A lease. Value: two varints, 0 for no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    pub ttl_secs: i64,
    pub remaining_secs: Option<i64>,
}

impl HeadRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        put_varint(&mut row, self.revision.get());
        put_varint(&mut row, self.floor.map_or(0, |floor| floor.next().get()));
        row
    }

    pub fn decode(mut row: &[u8]) -> Option<HeadRow> {
        let revision = Revision::from_wire(varint(&mut row)?)?;
        let floor = match varint(&mut row)? {
            0 => None,
            1 => Some(Revision::BEFORE_ALL),
            next => Some(Revision::from_wire(next)?.previous()?),
        };
        row.is_empty().then_some(HeadRow { revision, floor })
    }
}

impl CompactionRow {
    /// What `next` is when the round is complete.
    pub fn end(&self) -> SubRevision {
        SubRevision { main: self.target.next(), sub: 0 }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        put_varint(&mut row, self.done.get());
        put_varint(&mut row, self.target.get());
        put_varint(&mut row, self.next.main.get());
        put_varint(&mut row, self.next.sub);
        row
    }

    pub fn decode(mut row: &[u8]) -> Option<CompactionRow> {
        let done = Revision::from_wire(varint(&mut row)?)?;
        let target = Revision::from_wire(varint(&mut row)?)?;
        let main = Revision::from_wire(varint(&mut row)?)?;
        let next = SubRevision { main, sub: varint(&mut row)? };
        row.is_empty().then_some(CompactionRow { done, target, next })
    }
}

impl VersionRow {
    const TOMBSTONE: u8 = 0;
    const PUT: u8 = 1;
    const PUT_WITH_LEASE: u8 = 2;

    pub fn sub(&self) -> i64 {
        match self {
            VersionRow::Put { sub, .. } | VersionRow::Tombstone { sub } => *sub,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(16);
        match *self {
            VersionRow::Tombstone { sub } => {
                row.push(VersionRow::TOMBSTONE);
                put_varint(&mut row, sub);
            }
            VersionRow::Put { sub, create_revision, version, lease } => {
                row.push(match lease {
                    None => VersionRow::PUT,
                    Some(_) => VersionRow::PUT_WITH_LEASE,
                });
                put_varint(&mut row, sub);
                put_varint(&mut row, create_revision.get());
                put_varint(&mut row, version);
                row.extend(lease.into_iter().flat_map(|lease| lease.get().to_be_bytes()));
            }
        }
        row
    }

    pub fn decode(row: &[u8]) -> Option<VersionRow> {
        let (kind, mut row) = row.split_first()?;
        let sub = varint(&mut row)?;
        if *kind == VersionRow::TOMBSTONE {
            return row.is_empty().then_some(VersionRow::Tombstone { sub });
        }
        let create_revision = Revision::from_wire(varint(&mut row)?)?;
        let version = varint(&mut row)?;
        let lease = match *kind {
            VersionRow::PUT => row.is_empty().then_some(None)?,
            VersionRow::PUT_WITH_LEASE => {
                Some(LeaseId::from_wire(i64::from_be_bytes(row.try_into().ok()?))?)
            }
            _ => return None,
        };
        Some(VersionRow::Put { sub, create_revision, version, lease })
    }
}

impl LeaseRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        put_varint(&mut row, self.ttl_secs);
        put_varint(&mut row, self.remaining_secs.unwrap_or(0));
        row
    }

    pub fn decode(mut row: &[u8]) -> Option<LeaseRow> {
        let ttl_secs = varint(&mut row)?;
        let remaining = varint(&mut row)?;
        let remaining_secs = (remaining != 0).then_some(remaining);
        row.is_empty().then_some(LeaseRow { ttl_secs, remaining_secs })
    }
}

pub fn revision_key(at: SubRevision) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&at.main.get().to_be_bytes());
    key[8..].copy_from_slice(&at.sub.to_be_bytes());
    key
}

pub fn parse_revision_key(key: &[u8]) -> Option<SubRevision> {
    let (main, sub) = key.split_first_chunk()?;
    let main = Revision::from_wire(i64::from_be_bytes(*main))?;
    Some(SubRevision { main, sub: i64::from_be_bytes(sub.try_into().ok()?) })
}

/// A user key so that keys sort as before and none is the beginning of another: a zero byte becomes
/// `00 FF`, and the key ends with `00 01`.
pub fn escaped(key: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(key.len() + 2 + 8);
    for byte in key {
        escaped.push(*byte);
        if *byte == 0 {
            escaped.push(0xFF);
        }
    }
    escaped.extend([0, 1]);
    escaped
}

/// The first possible row behind all versions of the key that [`escaped`] made `key` of.
pub fn behind(key: &[u8]) -> Vec<u8> {
    let mut behind = key.to_vec();
    if let Some(last) = behind.last_mut() {
        *last += 1;
    }
    behind
}

/// Key of the version that was written at `at`; `key` is [`escaped`].
pub fn version_key(key: &[u8], at: Revision) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 8);
    row.extend_from_slice(key);
    row.extend((!at.get()).to_be_bytes());
    row
}

/// The [`escaped`] key and the revision of a row of [`Table::Versions`].
pub fn parse_version_key(row: &[u8]) -> Option<(&[u8], Revision)> {
    let (key, at) = row.split_last_chunk()?;
    key.ends_with(&[0, 1]).then_some(())?;
    Some((key, Revision::from_wire(!i64::from_be_bytes(*at))?))
}

/// The user key that `escaped` was made of.
pub fn unescaped(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut rest = escaped.strip_suffix(&[0, 1])?;
    let mut key = Vec::with_capacity(rest.len());
    while let Some((byte, behind)) = rest.split_first() {
        key.push(*byte);
        rest = if *byte == 0 { behind.strip_prefix(&[0xFF])? } else { behind };
    }
    Some(key)
}

/// Lease ids sort as signed numbers: the sign bit is inverted.
pub fn lease_key(id: LeaseId) -> [u8; 8] {
    (id.get() ^ i64::MIN).to_be_bytes()
}

/// The lease of a row of [`Table::Leases`] or [`Table::LeaseKeys`], and what comes behind it.
pub fn parse_lease_key(row: &[u8]) -> Option<(LeaseId, &[u8])> {
    let (id, behind) = row.split_first_chunk()?;
    Some((LeaseId::from_wire(i64::from_be_bytes(*id) ^ i64::MIN)?, behind))
}

pub fn member_key(id: MemberId) -> [u8; 8] {
    id.0.to_be_bytes()
}

pub fn parse_member_key(row: &[u8]) -> Option<MemberId> {
    Some(MemberId(u64::from_be_bytes(row.try_into().ok()?)))
}

pub fn alarm_key(kind: u32, id: MemberId) -> [u8; 12] {
    let mut row = [0; 12];
    row[..4].copy_from_slice(&kind.to_be_bytes());
    row[4..].copy_from_slice(&id.0.to_be_bytes());
    row
}

pub fn parse_alarm_key(row: &[u8]) -> Option<(u32, MemberId)> {
    let (kind, id) = row.split_first_chunk()?;
    Some((u32::from_be_bytes(*kind), parse_member_key(id)?))
}

pub fn encode_log_id(id: LogId) -> [u8; 24] {
    let mut row = [0; 24];
    row[..8].copy_from_slice(&id.term.to_be_bytes());
    row[8..16].copy_from_slice(&id.node.to_be_bytes());
    row[16..].copy_from_slice(&id.index.to_be_bytes());
    row
}

/// The log id that a row starts with, and what comes behind it.
pub fn decode_log_id(row: &[u8]) -> Option<(LogId, &[u8])> {
    let (term, row) = row.split_first_chunk()?;
    let (node, row) = row.split_first_chunk()?;
    let (index, row) = row.split_first_chunk()?;
    let [term, node, index] = [term, node, index].map(|raw| u64::from_be_bytes(*raw));
    Some((LogId { term, node, index }, row))
}

/// LEB128: seven bits per byte, lowest first; the top bit says that more follow.
fn put_varint(row: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    while rest >= 0x80 {
        row.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    row.push(rest as u8);
}

fn varint(row: &mut &[u8]) -> Option<i64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = row.split_first()?;
        *row = rest;
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number.cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn revision() -> impl Strategy<Value = Revision> {
        (1..=i64::MAX).prop_map(|raw| Revision::from_wire(raw).unwrap())
    }

    fn lease() -> impl Strategy<Value = LeaseId> {
        any::<i64>().prop_filter_map("zero is no lease", LeaseId::from_wire)
    }

    fn user_key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xFF), any::<u8>()], 0..6)
    }

    #[test]
    fn tables_stand_in_the_order_of_their_numbers() {
        assert!(Table::ALL.is_sorted_by_key(|(table, _)| *table as u8));
        for (table, name) in Table::ALL {
            assert_eq!(table.name(), name);
        }
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_written(
            (main, create_revision) in (revision(), revision()),
            sub in 0..i64::MAX,
            version in 1..i64::MAX,
            lease in prop::option::of(lease()),
            floor in prop::option::of(revision()),
            remaining_secs in prop::option::of(1..i64::MAX),
        ) {
            let at = SubRevision { main, sub };
            prop_assert_eq!(parse_revision_key(&revision_key(at)), Some(at));
            let head = HeadRow { revision: main, floor };
            prop_assert_eq!(HeadRow::decode(&head.encode()), Some(head));
            let compaction = CompactionRow { done: main, target: create_revision, next: at };
            prop_assert_eq!(CompactionRow::decode(&compaction.encode()), Some(compaction));
            let put = VersionRow::Put { sub, create_revision, version, lease };
            prop_assert_eq!(VersionRow::decode(&put.encode()), Some(put));
            let tombstone = VersionRow::Tombstone { sub };
            prop_assert_eq!(VersionRow::decode(&tombstone.encode()), Some(tombstone));
            let row = LeaseRow { ttl_secs: version, remaining_secs };
            prop_assert_eq!(LeaseRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn keys_of_versions_come_back_and_sort_by_key_and_then_newest_first(
            (one, other) in (user_key(), user_key()),
            (early, late) in (revision(), revision()),
        ) {
            let row = version_key(&escaped(&one), early);
            let (key, at) = parse_version_key(&row).unwrap();
            prop_assert_eq!((unescaped(key), at), (Some(one.clone()), early));
            let expected = one.cmp(&other).then(late.cmp(&early));
            prop_assert_eq!(row.cmp(&version_key(&escaped(&other), late)), expected);
            prop_assert!(row < behind(&escaped(&one)));
            prop_assert_eq!(behind(&escaped(&one)) < escaped(&other), one < other);
        }

        #[test]
        fn lease_keys_come_back_and_sort_as_numbers(one in lease(), other in lease()) {
            let row = lease_key(one);
            prop_assert_eq!(parse_lease_key(&row), Some((one, &[][..])));
            prop_assert_eq!(lease_key(one).cmp(&lease_key(other)), one.cmp(&other));
        }

        #[test]
        fn log_ids_come_back(term: u64, node: u64, index: u64) {
            let id = LogId { term, node, index };
            let row = encode_log_id(id);
            prop_assert_eq!(decode_log_id(&row), Some((id, &[][..])));
        }

        #[test]
        fn garbage_decodes_to_nothing_or_to_a_row_but_never_panics(
            row in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = (HeadRow::decode(&row), CompactionRow::decode(&row), LeaseRow::decode(&row));
            let _ = (VersionRow::decode(&row), parse_revision_key(&row), decode_log_id(&row));
            let _ = (parse_version_key(&row), unescaped(&row), parse_lease_key(&row));
            let _ = (parse_member_key(&row), parse_alarm_key(&row));
        }
    }
}
