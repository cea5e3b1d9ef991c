//! Reads that may take long.

use tonic::Status;

use crate::{grpc::status, mvcc, node};

/// Runs a read on a thread of its own, where it holds up no other request.
///
/// Costs some ten microseconds, so reads of single keys do without. tokio bounds the threads; a
/// read beyond them waits its turn.
pub(crate) async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, mvcc::Error> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(read).await {
        Ok(outcome) => Ok(outcome.map_err(node::Error::from)?),
        Err(_) => Err(status::read_panicked()),
    }
}
