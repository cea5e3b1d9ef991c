//! Sending a snapshot to one member: a connection of its own, for as long as it takes.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::timeout;

use super::{
    PeerError,
    dial::{Dialer, bounded},
    wire::{self, Reader, Wire, Writer},
};
use crate::raft::message::{
    Message, Reply, SnapshotEnd, SnapshotPart, SnapshotReply, SnapshotStart,
};

/// How long either side waits for the other to take or send the next chunk. Writing one to a busy
/// disk takes far less.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the other side may take to verify and open what it received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Sends all of it and waits for the reply. Dropping the future tells the other side to forget it.
pub(super) async fn send(
    dialer: &Dialer,
    start: SnapshotStart,
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
) -> Result<SnapshotReply, PeerError> {
    let Wire { mut reader, mut writer } = dialer.dial().await?;
    let payload_bytes_max = dialer.terms.payload_bytes_max;
    tokio::select! {
        // A reply before the end says that the other side gave up.
        reply = read_reply(&mut reader) => return reply,
        sent = send_parts(&mut writer, start, chunks, payload_bytes_max) => sent?,
    }
    timeout(INSTALL_TIMEOUT, read_reply(&mut reader)).await.unwrap_or(Err(PeerError::TimedOut))
}

async fn send_parts(
    writer: &mut Writer,
    start: SnapshotStart,
    mut chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    payload_bytes_max: usize,
) -> Result<(), PeerError> {
    send_part(writer, SnapshotPart::Start(start), payload_bytes_max).await?;
    let mut end = SnapshotEnd::default();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| PeerError::Source(error.to_string()))?;
        end.add(&chunk);
        send_part(writer, SnapshotPart::Chunk(chunk), payload_bytes_max).await?;
    }
    send_part(writer, SnapshotPart::End(end), payload_bytes_max).await
}

async fn send_part(
    writer: &mut Writer,
    part: SnapshotPart,
    payload_bytes_max: usize,
) -> Result<(), PeerError> {
    let message = Message::Snapshot(part);
    if message.bytes() > payload_bytes_max {
        return Err(PeerError::TooLarge { bytes: message.bytes(), maximum: payload_bytes_max });
    }
    writer.put(0, &message);
    let drained = bounded(PROGRESS_TIMEOUT, writer.drain()).await;
    drained.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => PeerError::TimedOut,
        _ => PeerError::Disconnected,
    })
}

async fn read_reply(reader: &mut Reader) -> Result<SnapshotReply, PeerError> {
    let unexpected = match reader.next().await {
        Ok((_, Message::Reply(Reply::Snapshot(reply)))) => return Ok(reply),
        Ok((_, Message::Reply(Reply::Failed(failed)))) => return Err(PeerError::Failed(failed)),
        Ok((_, message)) => wire::Error::Misplaced(message.kind()),
        Err(error) => error,
    };
    tracing::debug!("no reply to a snapshot: {unexpected}");
    Err(PeerError::Disconnected)
}
