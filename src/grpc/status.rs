//! Our errors as gRPC statuses: the one place that knows both.
//!
//! Codes and texts are protocol. clientv3 recognises an error by its text and retries by its code,
//! so a failure that may have been applied must never look like one that was not.

mod auth;
mod region;

use std::time::Duration;

use tonic::{Code, Status};

use crate::{
    cluster,
    grpc::{consistency::Wrong, gate::Refusal, queue::Refused, validate::Invalid},
    mvcc, node,
    state_machine::Rejection,
};

impl From<node::Error> for Status {
    fn from(error: node::Error) -> Status {
        use node::Error;
        let (code, text) = match error {
            Error::Rejected(rejection) => return of_rejection(&rejection),
            Error::Mvcc(error) => of_mvcc(&error),
            Error::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Error::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Error::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            // etcd's Raft does not take what nobody leads; the deadline that ends the wait is not
            // given words of its own.
            Error::NotProposed => (Code::DeadlineExceeded, "context deadline exceeded"),
            Error::TimeoutLeaderFail => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Error::TimeoutConnectionLost => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            // etcd means ResourceExhausted, but what it sends carries no code.
            Error::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Error::RequestTooLarge => REQUEST_TOO_LARGE,
            Error::TooStale(age) => return too_stale(age),
            Error::SessionNotAvailable { asked, newest } => {
                let text = format!(
                    "etcdserver: read session not available: revision {asked} was asked for, and \
                     this member is at {newest}"
                );
                return Status::new(Code::Unavailable, text);
            }
            Error::Stopped => STOPPED,
            Error::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Error::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Error::BadTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            // etcd has no status for this one; an error without a status travels as Unknown.
            Error::TransferTimeout => {
                (Code::Unknown, "etcdserver: request timed out, leader transfer took too long")
            }
            Error::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            // etcd's words for it are those of the system call that failed.
            Error::NoRoomToDefragment => (Code::Unknown, "no space left on device"),
            Error::InvalidToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            // etcd has no statuses for these two.
            Error::PasswordTooLong => (Code::Unknown, "bcrypt: password length exceeds 72 bytes"),
            Error::VerifyOnly => {
                (Code::Unknown, "auth: token signing attempted with verify-only key")
            }
            Error::Storage(error) => of_storage(&error),
            Error::NoRoomToSave => {
                (Code::ResourceExhausted, "etcdserver: no room on the disk to save a snapshot")
            }
            Error::Save(error) => of_storage(&error),
        };
        Status::new(code, text)
    }
}

const REQUEST_TOO_LARGE: (Code, &str) = (Code::InvalidArgument, "etcdserver: request is too large");
const STOPPED: (Code, &str) = (Code::Unavailable, "etcdserver: server stopped");
const LEASE_NOT_FOUND: (Code, &str) = (Code::NotFound, "etcdserver: requested lease not found");
const LEASE_TTL_TOO_LARGE: (Code, &str) = (Code::OutOfRange, "etcdserver: too large lease TTL");
const NO_SPACE: (Code, &str) =
    (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
const KEY_NOT_FOUND: (Code, &str) = (Code::InvalidArgument, "etcdserver: key not found");
const COMPACTED: (Code, &str) =
    (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
const FUTURE_REVISION: (Code, &str) =
    (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");

/// Another member may be fresher, so the client may ask there.
fn too_stale(age: Option<Duration>) -> Status {
    let why = match age {
        Some(age) => format!("this member's state may be {} ms old", age.as_millis()),
        None => "this member does not know how old its state is".to_owned(),
    };
    Status::new(Code::Unavailable, format!("etcdserver: bounded read not available: {why}"))
}

fn of_rejection(rejection: &Rejection) -> Status {
    let (code, text) = match rejection {
        Rejection::KeyNotFound => KEY_NOT_FOUND,
        Rejection::Compacted(_) => COMPACTED,
        Rejection::FutureRevision(_) => FUTURE_REVISION,
        Rejection::LeaseNotFound(_) => LEASE_NOT_FOUND,
        Rejection::LeaseExists(_) => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Rejection::LeaseTtlTooLarge(_) => LEASE_TTL_TOO_LARGE,
        Rejection::Cluster(rejection) => of_cluster(rejection),
        Rejection::NoSpace => NO_SPACE,
        Rejection::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
        Rejection::Auth(rejection) => auth::of_rejection(*rejection),
        Rejection::Region(rejection) => {
            return Status::new(region::code(rejection), rejection.to_string());
        }
        Rejection::Malformed(what) => {
            tracing::error!(what, "a command that makes no sense came through the checks");
            (Code::Internal, "etcdserver: malformed command")
        }
    };
    Status::new(code, text)
}

fn of_cluster(rejection: &cluster::Rejection) -> (Code, &'static str) {
    use cluster::Rejection;
    match rejection {
        Rejection::NotFound(_) => (Code::NotFound, "etcdserver: member not found"),
        Rejection::IdExists(_) => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
        Rejection::PeerUrlExists => {
            (Code::FailedPrecondition, "etcdserver: Peer URLs already exists")
        }
        // etcd means FailedPrecondition, but what it sends carries no code.
        Rejection::NotEnoughStarted => {
            (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
        }
        Rejection::TooManyLearners => {
            (Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
        }
        Rejection::NotLearner(_) => {
            (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
        }
        // Answers a member, never a client: etcd has no words for it.
        Rejection::OtherIncarnation(_) => {
            (Code::FailedPrecondition, "etcdserver: the member's data directory is another one")
        }
        // Answers a leader, never a client.
        Rejection::VersionChanged => {
            (Code::FailedPrecondition, "etcdserver: the cluster version has changed")
        }
        Rejection::VersionUnknown => {
            (Code::FailedPrecondition, "etcdserver: cluster version not found during downgrade")
        }
        Rejection::InvalidDowngradeTarget(_) => {
            (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
        }
        Rejection::DowngradeInProgress => {
            (Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
        }
        Rejection::NoDowngrade => {
            (Code::FailedPrecondition, "etcdserver: no inflight downgrade job")
        }
    }
}

fn of_mvcc(error: &mvcc::Error) -> (Code, &'static str) {
    match error {
        mvcc::Error::Compacted(_) => COMPACTED,
        mvcc::Error::FutureRevision(_) => FUTURE_REVISION,
        mvcc::Error::Storage(error) => of_storage(error),
    }
}

/// Not retryable: the client cannot know whether another member has the same trouble. Where the
/// trouble is stays in our log.
fn of_storage(error: &dyn std::fmt::Display) -> (Code, &'static str) {
    tracing::error!(%error, "a request failed on this member's store");
    (Code::Internal, "etcdserver: storage failure")
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Status {
        let (code, text) = match invalid {
            Invalid::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Invalid::EmptyOperation => KEY_NOT_FOUND,
            Invalid::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Invalid::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Invalid::TooManyOperations => {
                (Code::InvalidArgument, "etcdserver: too many operations in txn request")
            }
            Invalid::DuplicateKey => {
                (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
            }
            Invalid::SortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Invalid::StreamSorted => {
                (Code::Unimplemented, "RangeStream does not support custom sort orders")
            }
            Invalid::StreamFiltered => {
                (Code::Unimplemented, "RangeStream does not support revision filters")
            }
            Invalid::RequestTooLarge => REQUEST_TOO_LARGE,
            Invalid::NoLease => LEASE_NOT_FOUND,
            Invalid::LeaseTtlTooLarge => LEASE_TTL_TOO_LARGE,
            Invalid::DowngradeVersion => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Invalid::UnknownMethod => (Code::Unknown, "etcdserver: unknown method"),
            Invalid::MemberUrls => {
                (Code::InvalidArgument, "etcdserver: given member URLs are invalid")
            }
        };
        Status::new(code, text)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let (code, text) = match refusal {
            Refusal::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Refusal::NotSupportedForLearner => {
                (Code::FailedPrecondition, "etcdserver: rpc not supported for learner")
            }
            Refusal::ClientApiVersion => {
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            }
            Refusal::Stopped => STOPPED,
            Refusal::MessageTooLarge { size, limit } => {
                let text = format!("grpc: received message larger than max ({size} vs. {limit})");
                return Status::new(Code::ResourceExhausted, text);
            }
            Refusal::UnknownMethod { service, method: None } => {
                return Status::new(Code::Unimplemented, format!("unknown service {service}"));
            }
            Refusal::UnknownMethod { service, method: Some(method) } => {
                let text = format!("unknown method {method} for service {service}");
                return Status::new(Code::Unimplemented, text);
            }
        };
        Status::new(code, text)
    }
}

/// None of them is etcd's, whose clients say nothing of consistency.
impl From<Wrong> for Status {
    fn from(wrong: Wrong) -> Status {
        let code = match wrong {
            Wrong::NotText(_)
            | Wrong::NotALevel { .. }
            | Wrong::NotANumber { .. }
            | Wrong::NotAToken { .. }
            | Wrong::SaidTwice(_)
            | Wrong::NoBound
            | Wrong::BoundOf(_)
            | Wrong::Exceeds { .. } => Code::InvalidArgument,
            Wrong::OtherCluster | Wrong::OtherEpoch => Code::FailedPrecondition,
        };
        Status::new(code, format!("etcdserver: {wrong}"))
    }
}

/// etcd has no statuses for these; errors without a status travel as Unknown.
impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        let text = match refused {
            Refused::SessionExpired => "mutex: session is expired",
            Refused::NotLeader => "election: not leader",
            Refused::NoLeader => "election: no leader",
            Refused::LeaderMissing => "\"leader\" field must be provided",
        };
        Status::new(Code::Unknown, text)
    }
}

/// What locks and elections make of an error of another service. etcd asks the others through a
/// client of its own, whose errors have kept their texts and lost their codes.
pub(crate) fn from_within(status: Status) -> Status {
    Status::new(Code::Unknown, status.message())
}

/// Why a watch is not opened or goes no further. etcd puts the whole status into words here.
pub(crate) fn as_reason(status: &Status) -> String {
    let code = match status.code() {
        Code::InvalidArgument => "InvalidArgument",
        Code::Unauthenticated => "Unauthenticated",
        _ => "PermissionDenied",
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}

/// What ended the body of a request: a refusal of ours, or the connection's trouble.
pub(crate) fn of_body(error: axum::Error) -> Status {
    Status::from_error(error.into_inner())
}

/// The answer when a read's task died: our bug, and the panic is in the log.
pub(crate) fn read_panicked() -> Status {
    Status::new(Code::Internal, "etcdserver: the read failed")
}

#[cfg(test)]
mod tests;
