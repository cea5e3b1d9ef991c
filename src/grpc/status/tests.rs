//! The table of errors.

use super::*;
use crate::{
    node::Consistency,
    types::{LeaseId, MemberId, Revision, Version},
};

/// What clients see of each error that this server can answer with, one `code: text` a line.
const GOLDEN: &str = include_str!("../../../tests/golden/errors.txt");

#[test]
fn every_error_has_etcds_code_and_text() {
    let statuses = [
        of_nodes(),
        of_rejections(),
        of_clusters(),
        of_auth(),
        of_invalids(),
        of_refusals(),
        of_consistency(),
        of_locks_and_elections(),
    ];
    let lines: Vec<String> = statuses
        .into_iter()
        .flatten()
        .map(|status| format!("{:?}: {}", status.code(), status.message()))
        .collect();
    let golden: Vec<&str> = GOLDEN.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, golden, "\n{}", lines.join("\n"));
}

fn of_nodes() -> Vec<Status> {
    use node::Error;
    let revision = Revision::EMPTY_STORE;
    let storage = || crate::storage::Error::Engine("IO error: /secret/path".to_owned());
    [
        Error::Mvcc(mvcc::Error::Compacted(revision)),
        Error::Mvcc(mvcc::Error::FutureRevision(revision)),
        Error::Mvcc(mvcc::Error::Storage(storage())),
        Error::NoLeader,
        Error::LeaderChanged,
        Error::Timeout,
        Error::NotProposed,
        Error::TimeoutLeaderFail,
        Error::TimeoutConnectionLost,
        Error::TooManyRequests,
        Error::RequestTooLarge,
        Error::TooStale(None),
        Error::TooStale(Some(Duration::from_millis(5200))),
        Error::SessionNotAvailable { asked: revision.next(), newest: revision },
        Error::Stopped,
        Error::Unhealthy,
        Error::NotLeader,
        Error::BadTransferee,
        Error::TransferTimeout,
        Error::LearnerNotReady,
        Error::NoRoomToDefragment,
        Error::InvalidToken,
        Error::PasswordTooLong,
        Error::VerifyOnly,
        Error::Storage(storage()),
    ]
    .map(Status::from)
    .to_vec()
}

fn of_consistency() -> Vec<Status> {
    let value = || "x".to_owned();
    [
        Wrong::NotText("x-consistency"),
        Wrong::NotALevel { header: "x-consistency", value: value() },
        Wrong::NotANumber { header: "x-max-staleness-ms", value: value() },
        Wrong::NotAToken { header: "x-min-revision", value: value() },
        Wrong::SaidTwice("x-consistency"),
        Wrong::NoBound,
        Wrong::BoundOf("prefix"),
        Wrong::Exceeds { asked: Consistency::Strong, default: Consistency::Session },
        Wrong::OtherCluster,
        Wrong::OtherEpoch,
    ]
    .map(Status::from)
    .to_vec()
}

fn of_rejections() -> Vec<Status> {
    let lease = LeaseId::from_wire(7).unwrap();
    let revision = Revision::EMPTY_STORE;
    [
        Rejection::KeyNotFound,
        Rejection::Compacted(revision),
        Rejection::FutureRevision(revision),
        Rejection::LeaseNotFound(lease),
        Rejection::LeaseExists(lease),
        Rejection::LeaseTtlTooLarge(9_000_000_001),
        Rejection::NoSpace,
        Rejection::Corrupt,
        Rejection::Malformed("no operation"),
    ]
    .map(|rejection| Status::from(node::Error::Rejected(rejection)))
    .to_vec()
}

fn of_clusters() -> Vec<Status> {
    use cluster::Rejection as Refused;
    [
        Refused::NotFound(MemberId(1)),
        Refused::IdExists(MemberId(1)),
        Refused::PeerUrlExists,
        Refused::NotEnoughStarted,
        Refused::TooManyLearners,
        Refused::NotLearner(MemberId(1)),
        Refused::VersionUnknown,
        Refused::InvalidDowngradeTarget(Version::OLDEST),
        Refused::DowngradeInProgress,
        Refused::NoDowngrade,
    ]
    .map(|refused| Status::from(node::Error::Rejected(Rejection::Cluster(refused))))
    .to_vec()
}

fn of_auth() -> Vec<Status> {
    use crate::auth::Rejection as Refused;
    [
        Refused::RootUserNotFound,
        Refused::RootRoleNotGranted,
        Refused::NotEnabled,
        Refused::UserEmpty,
        Refused::UserExists,
        Refused::UserNotFound,
        Refused::RoleEmpty,
        Refused::RoleExists,
        Refused::RoleNotFound,
        Refused::RoleNotGranted,
        Refused::PermissionNotGiven,
        Refused::PermissionNotGranted,
        Refused::PermissionDenied,
        Refused::OldRevision,
        Refused::InvalidManagement,
        Refused::AuthenticationFailed,
        Refused::NoPasswordUser,
    ]
    .map(|refused| Status::from(node::Error::Rejected(Rejection::Auth(refused))))
    .to_vec()
}

#[test]
fn a_watch_is_refused_with_the_whole_status() {
    let denied = crate::auth::Rejection::PermissionDenied;
    let status = Status::from(node::Error::Rejected(Rejection::Auth(denied)));
    let expected = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(as_reason(&status), expected);
}

fn of_invalids() -> Vec<Status> {
    [
        Invalid::EmptyKey,
        Invalid::EmptyOperation,
        Invalid::ValueProvided,
        Invalid::LeaseProvided,
        Invalid::TooManyOperations,
        Invalid::DuplicateKey,
        Invalid::SortOption,
        Invalid::StreamSorted,
        Invalid::StreamFiltered,
        Invalid::RequestTooLarge,
        Invalid::NoLease,
        Invalid::LeaseTtlTooLarge,
        Invalid::MemberUrls,
        Invalid::DowngradeVersion,
        Invalid::UnknownMethod,
    ]
    .map(Status::from)
    .to_vec()
}

fn of_refusals() -> Vec<Status> {
    let unknown = |method: Option<&str>| Refusal::UnknownMethod {
        service: "etcdserverpb.KV".to_owned(),
        method: method.map(str::to_owned),
    };
    [
        Refusal::NoLeader,
        Refusal::NotSupportedForLearner,
        Refusal::ClientApiVersion,
        Refusal::Stopped,
        Refusal::MessageTooLarge { size: 104_857_600, limit: 2_097_152 },
        unknown(None),
        unknown(Some("Get")),
    ]
    .map(Status::from)
    .to_vec()
}

fn of_locks_and_elections() -> Vec<Status> {
    let mut statuses =
        [Refused::SessionExpired, Refused::NotLeader, Refused::NoLeader, Refused::LeaderMissing]
            .map(Status::from)
            .to_vec();
    statuses.push(from_within(Invalid::NoLease.into()));
    statuses
}
