//! Bounds of what clients may ask for, from the flags.

use std::time::Duration;

/// What clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-request-bytes`: largest request that may enter the log, in bytes.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`: operations of a transaction, for each of its lists.
    pub max_txn_ops: usize,
    /// `--watch-progress-notify-interval`: idle time after which a watcher that asked for it is
    /// told how far it has come.
    pub progress_interval: Duration,
    /// `--election-timeout`; a stream that asks for a leader is ended after three without one.
    pub election_timeout: Duration,
    /// `--warning-unary-request-duration`: a call that takes longer is logged.
    pub slow_unary: Duration,
    /// `--warning-apply-duration`: a read that takes longer is logged.
    pub slow_apply: Duration,
}

impl Limits {
    /// etcd's defaults.
    pub const DEFAULT: Limits = Limits {
        max_request_bytes: 1536 * 1024,
        max_txn_ops: 128,
        progress_interval: Duration::from_mins(10),
        election_timeout: Duration::from_secs(1),
        slow_unary: Duration::from_millis(300),
        slow_apply: Duration::from_millis(100),
    };
}

/// What a message may have beyond the request limit, so that a request that is a little too large
/// is refused in etcd's words.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

impl Limits {
    /// Largest message that is read at all, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.max_request_bytes + MESSAGE_OVERHEAD_BYTES
    }
}
