//! stub
use crate::types::MemberId;
use bytes::Bytes;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("no answer in time")]
    Timeout,
    #[error("disconnected")]
    Disconnected,
    #[error("failed: {0}")]
    Failed(String),
    #[error("protocol: {0}")]
    Protocol(String),
}
