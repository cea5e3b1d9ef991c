//! Sending a snapshot to one member: a connection of its own, for as long as it takes.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Interval, timeout};

use super::{
    PeerError,
    dial::{Dialer, bounded},
    wire::{self, Reader, Terms, Wire, Writer, quarters},
};
use crate::raft::message::{
    Message, Reply, SnapshotEnd, SnapshotPart, SnapshotReply, SnapshotStart,
};

/// How long the sender waits for the other side to take the next chunk. Writing one to a busy disk
/// takes far less.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the other side may take to verify and open what it received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Either side says four times in `dead_after` that it is there, whatever its disk does: a network
/// may fail in one direction only. The other gives up after so many beats without a word. A
/// snapshot has cost much, so its connection is given more time than others. Counted, not timed:
/// see the urgent lane.
const SILENT_BEATS: u32 = 16;

/// Sends all of it and waits for the reply. Dropping the future tells the other side to forget it.
pub(super) async fn send(
    dialer: &Dialer,
    start: SnapshotStart,
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
) -> Result<SnapshotReply, PeerError> {
    let snapshot_index = start.last.as_ref().map(|last| last.index);
    let reply = send_over(dialer.dial().await?, dialer.terms, start, chunks).await?;
    tracing::info!(snapshot_index, remote_peer_id = %dialer.target, "sent database snapshot");
    Ok(reply)
}

async fn send_over(
    wire: Wire,
    terms: Terms,
    start: SnapshotStart,
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
) -> Result<SnapshotReply, PeerError> {
    let Wire { mut reader, mut writer } = wire;
    let mut reply = pin!(read_reply(&mut reader, terms.dead_after));
    tokio::select! {
        // A reply before the end says that the other side gave up.
        reply = &mut reply => return reply,
        sent = send_parts(&mut writer, terms, start, chunks) => sent?,
    }
    timeout(INSTALL_TIMEOUT, reply).await.unwrap_or(Err(PeerError::TimedOut))
}

async fn send_parts(
    writer: &mut Writer,
    terms: Terms,
    start: SnapshotStart,
    mut chunks: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
) -> Result<(), PeerError> {
    let mut beats = quarters(terms.dead_after);
    let mut end = SnapshotEnd::default();
    let mut part = SnapshotPart::Start(start);
    loop {
        send_part(writer, part, terms.payload_bytes_max).await?;
        let chunk = loop {
            tokio::select! {
                chunk = chunks.next() => break chunk,
                _ = beats.tick() => {
                    writer.put(0, &Message::Pong);
                    drain(writer).await?;
                }
            }
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|error| PeerError::Source(error.to_string()))?;
        end.add(&chunk);
        part = SnapshotPart::Chunk(chunk);
    }
    send_part(writer, SnapshotPart::End(end), terms.payload_bytes_max).await
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
    drain(writer).await
}

async fn drain(writer: &mut Writer) -> Result<(), PeerError> {
    let drained = bounded(PROGRESS_TIMEOUT, writer.drain()).await;
    drained.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => PeerError::TimedOut,
        _ => PeerError::Disconnected,
    })
}

async fn read_reply(reader: &mut Reader, dead_after: Duration) -> Result<SnapshotReply, PeerError> {
    let mut beats = quarters(dead_after);
    let unexpected = loop {
        match next(reader, &mut beats).await {
            Ok(Message::Pong) => (),
            Ok(Message::Reply(Reply::Snapshot(reply))) => return Ok(reply),
            Ok(Message::Reply(Reply::Failed(failed))) => return Err(PeerError::Failed(failed)),
            Ok(message) => break wire::Error::Misplaced(message.kind()),
            Err(wire::Error::Silent) => return Err(PeerError::TimedOut),
            Err(error) => break error,
        }
    };
    tracing::debug!("no reply to a snapshot: {unexpected}");
    Err(PeerError::Disconnected)
}

/// What the other side says next, which it must do at times.
pub(super) async fn next(
    reader: &mut Reader,
    beats: &mut Interval,
) -> Result<Message, wire::Error> {
    let mut missed = 0;
    while missed <= SILENT_BEATS {
        tokio::select! {
            received = reader.next() => return received.map(|(_, message)| message),
            _ = beats.tick() => missed += 1,
        }
    }
    Err(wire::Error::Silent)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use futures::stream;

    use super::*;
    use crate::types::Vote;

    const TERMS: Terms =
        Terms { group: 0, payload_bytes_max: 1 << 20, dead_after: Duration::from_secs(1) };

    const VOTE: Vote = Vote { term: 1, node: 1, committed: true };

    fn start() -> SnapshotStart {
        SnapshotStart { vote: VOTE, last: None, meta: Bytes::new() }
    }

    fn wires() -> (Wire, Wire) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let wire = |stream| Wire::new(Box::new(stream), BytesMut::new(), TERMS);
        (wire(near), wire(far))
    }

    fn chunks(count: usize) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        stream::iter((0..count).map(|_| Ok(Bytes::from_static(&[7; 512]))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_of_which_nothing_is_heard_is_given_up_while_sending_and_afterwards() {
        for count in [0, 100] {
            let (near, _far) = wires();
            let begin = tokio::time::Instant::now();
            let sent = send_over(near, TERMS, start(), chunks(count)).await;
            assert_eq!(sent, Err(PeerError::TimedOut));
            assert_eq!(begin.elapsed(), Duration::from_secs(4));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_says_that_it_is_there_while_it_reads() {
        let (near, mut far) = wires();
        let reading = Duration::from_secs(60);
        let slow = stream::once(tokio::time::sleep(reading)).map(|()| Ok(Bytes::new()));
        let heard = async {
            let mut beats = 0;
            loop {
                match far.reader.next().await.unwrap().1 {
                    Message::Pong => beats += 1,
                    Message::Snapshot(SnapshotPart::End(_)) => break beats,
                    _ => (),
                }
                far.writer.put(0, &Message::Pong);
                far.writer.drain().await.unwrap();
            }
        };
        let sending = send_over(near, TERMS, start(), Box::pin(slow));
        let beats = tokio::select! {
            sent = sending => panic!("no reply was given: {sent:?}"),
            beats = heard => beats,
        };
        assert!((235..=245).contains(&beats), "{beats} in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_there_may_take_its_time() {
        let (near, mut far) = wires();
        let install = async {
            let mut beats = quarters(TERMS.dead_after);
            for _ in 0..100 {
                beats.tick().await;
                far.writer.put(0, &Message::Pong);
                far.writer.drain().await.unwrap();
            }
            far.writer.put(0, &Message::Reply(Reply::Snapshot(SnapshotReply { vote: VOTE })));
            far.writer.drain().await.unwrap();
            std::future::pending::<()>().await;
        };
        let sent = tokio::select! {
            sent = send_over(near, TERMS, start(), chunks(0)) => sent,
            () = install => unreachable!("it goes on waiting"),
        };
        assert_eq!(sent, Ok(SnapshotReply { vote: VOTE }));
    }
}
