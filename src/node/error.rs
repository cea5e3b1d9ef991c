//! Why a member could not answer: local trouble, as opposed to a deterministic rejection.

use std::time::Duration;

use crate::{mvcc, state_machine::Rejection, storage, types::Revision};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("rejected: {0:?}")]
    Rejected(Rejection),
    #[error("{0}")]
    Mvcc(#[from] mvcc::Error),
    #[error("no leader")]
    NoLeader,
    /// The leader changed while the request was under way.
    #[error("leader changed")]
    LeaderChanged,
    #[error("the request timed out")]
    Timeout,
    /// No leader took the command in time. It is in no log.
    #[error("the request timed out, and no leader took it")]
    NotProposed,
    /// The outcome is unknown: the leader failed while the request was under way.
    #[error("the request timed out, possibly due to a failed leader")]
    TimeoutLeaderFail,
    /// The outcome is unknown: the connection over which the request went is gone.
    #[error("the request timed out, possibly due to a lost connection")]
    TimeoutConnectionLost,
    /// Committed is too far ahead of applied, or too many bytes are under way.
    #[error("too many requests")]
    TooManyRequests,
    /// The command is larger than `max-request-bytes`.
    #[error("request is too large")]
    RequestTooLarge,
    /// This member did not become fresh enough in time. How old its state may be, if it knows.
    #[error("the state may be too old: {0:?}")]
    TooStale(Option<Duration>),
    /// This member has not come as far as the caller has seen elsewhere.
    #[error("revision {asked} was asked for, and {newest} is the newest here")]
    SessionNotAvailable { asked: Revision, newest: Revision },
    #[error("the member is stopping")]
    Stopped,
    /// Too few members are connected for a change of membership.
    #[error("unhealthy cluster")]
    Unhealthy,
    #[error("not the leader")]
    NotLeader,
    #[error("not a voter that leadership can go to")]
    BadTransferee,
    #[error("the leadership transfer took too long")]
    TransferTimeout,
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    #[error("the disk has no room to defragment")]
    NoRoomToDefragment,
    /// Nobody knows the token, or it is out of date.
    #[error("invalid token")]
    InvalidToken,
    /// bcrypt would ignore what is beyond its limit.
    #[error("the password is too long")]
    PasswordTooLong,
    /// Tokens are signed elsewhere: this member only has the public key.
    #[error("there is no key to sign tokens with")]
    VerifyOnly,
    #[error("{0}")]
    Storage(#[from] storage::Error),
    /// The disk has no room for a copy of the state.
    #[error("no room on the disk to save a snapshot")]
    NoRoomToSave,
    #[error("cannot save a snapshot: {0}")]
    Save(String),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Error {
        Error::Rejected(rejection)
    }
}
