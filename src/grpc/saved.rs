//! A saved file on its way to a client.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::info;

use crate::{node::Saved, proto::etcdserverpb::SnapshotResponse};

/// Chunks that are read ahead: enough that the disk and the network work at the same time.
const CHUNKS_AHEAD: usize = 32;

/// The messages of Maintenance.Snapshot. Reading ends when the client does not listen any more.
pub(crate) fn stream(mut saved: Saved) -> ReceiverStream<Result<SnapshotResponse, Status>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let (start, total_bytes) = (Instant::now(), saved.size());
        let version = saved.storage_version();
        let storage_version = version.map(|version| version.to_string()).unwrap_or_default();
        info!(total_bytes, storage_version, "sending database snapshot to client");
        loop {
            let message = match saved.next_chunk() {
                Ok(Some(chunk)) => Ok(SnapshotResponse {
                    header: None,
                    remaining_bytes: chunk.remaining,
                    blob: chunk.bytes.into(),
                    version: storage_version.clone(),
                }),
                Ok(None) => break,
                Err(error) => Err(Status::from(error)),
            };
            let failed = message.is_err();
            if sender.blocking_send(message).is_err() || failed {
                return;
            }
        }
        let took = format!("{:?}", start.elapsed());
        info!(total_bytes, took, "successfully sent database snapshot to client");
    });
    ReceiverStream::new(receiver)
}
