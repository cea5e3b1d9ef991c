//! etcd's gRPC services over the handles of a node.

mod header;
mod status;
mod watch;

/// What clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-request-bytes`: largest request that may enter the log, in bytes.
    pub max_request_bytes: usize,
}

/// What a message may have beyond the request limit.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

impl Limits {
    /// Largest message that is read at all, in bytes.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.max_request_bytes + MESSAGE_OVERHEAD_BYTES
    }
}
