//! What can go wrong between members.

use std::io;

use super::handshake::Refusal;
use crate::{raft::message::Failed, types::MemberId};

/// Why a request to a member has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("member {0} has no known address")]
    Unknown(MemberId),
    #[error("unreachable: {reason}")]
    Unreachable { kind: io::ErrorKind, reason: String },
    /// The other member does not let this one in.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// This member does not take the other one for what it says it is.
    #[error("refused the peer: {0}")]
    Unrecognised(Refusal),
    #[error("a message of {bytes} bytes, more than the {maximum} allowed")]
    TooLarge { bytes: usize, maximum: usize },
    /// The connection ended after the request was handed over: it may have been received.
    #[error("the connection was lost")]
    Disconnected,
    /// No reply in time. The request may have been received.
    #[error("no reply in time")]
    TimedOut,
    #[error("failed at the peer: {0}")]
    Failed(Failed),
    #[error("a reply of the wrong kind")]
    WrongReply,
    /// A newer append stream to the same member took its place.
    #[error("superseded by a newer stream")]
    Superseded,
    /// The chunks of a snapshot could not be read here.
    #[error("the snapshot can't be read: {0}")]
    Source(String),
    #[error("cancelled")]
    Cancelled,
    #[error("stopped")]
    Stopped,
}

impl PeerError {
    pub(super) fn unreachable(kind: io::ErrorKind, reason: impl Into<String>) -> PeerError {
        PeerError::Unreachable { kind, reason: reason.into() }
    }

    /// Whether it is certain that the other member did not receive the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            PeerError::Unknown(_)
            | PeerError::Unreachable { .. }
            | PeerError::Refused(_)
            | PeerError::Unrecognised(_)
            | PeerError::TooLarge { .. } => true,
            PeerError::Disconnected
            | PeerError::TimedOut
            | PeerError::Failed(_)
            | PeerError::WrongReply
            | PeerError::Superseded
            | PeerError::Source(_)
            | PeerError::Cancelled
            | PeerError::Stopped => false,
        }
    }
}

/// Why a snapshot that is being received will not be complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the sender's connection: {0}")]
    Interrupted(String),
    #[error("the sender sends nothing more")]
    TimedOut,
    #[error("chunks are missing")]
    Incomplete,
}
