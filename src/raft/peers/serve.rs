//! Answering a member: one loop per lane, which owns its connection.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, Interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Handler, SnapshotError,
    handshake::{Hello, Lane},
    replication::{WINDOW_MESSAGES, ends_stream, frame_id, split_id},
    snapshot::next,
    urgent::OPEN_REQUESTS,
    wire::{Error, Reader, Terms, Wire, quarters},
};
use crate::{
    raft::message::{
        AppendReply, AppendRequest, Failed, Message, Reply, Request, SnapshotEnd, SnapshotPart,
        SnapshotStart,
    },
    types::MemberId,
};

/// Chunks received ahead of the disk.
const QUEUED_CHUNKS: usize = 4;

/// How long what a sender still has under way is read and thrown away after its snapshot failed: a
/// connection closed before that could lose the reply.
const LINGER: Duration = Duration::from_secs(5);

/// Serves the connection until it ends; why it ended.
pub(super) async fn run(
    hello: &Hello,
    wire: Wire,
    handler: Arc<dyn Handler>,
    terms: Terms,
) -> Error {
    let served = match hello.lane {
        Lane::Urgent => urgent(hello.member, wire, handler, terms).await,
        Lane::Replication => replication(hello.member, wire, handler).await,
        Lane::Snapshot => snapshot(hello.member, wire, handler, terms).await,
    };
    served.err().unwrap_or(Error::Closed)
}

/// Handlers run side by side; replies go out as they come.
async fn urgent(
    from: MemberId,
    wire: Wire,
    handler: Arc<dyn Handler>,
    terms: Terms,
) -> Result<(), Error> {
    let Wire { mut reader, mut writer } = wire;
    let mut handlers = JoinSet::new();
    loop {
        tokio::select! {
            received = reader.next(), if writer.has_room() => match received? {
                (id, Message::Ping) => writer.put(id, &Message::Pong),
                (id, Message::Request(_)) if handlers.len() >= OPEN_REQUESTS => {
                    let failed = Failed("too many requests at a time".to_owned());
                    writer.put(id, &Message::Reply(Reply::Failed(failed)));
                }
                (id, Message::Request(request)) => {
                    let handler = Arc::clone(&handler);
                    handlers.spawn(async move {
                        let reply = handler.answer(from, request).await;
                        (id, reply.unwrap_or_else(Reply::Failed))
                    });
                }
                (_, message) => return Err(Error::Misplaced(message.kind())),
            },
            Some(handled) = handlers.join_next(), if writer.has_room() => {
                // A panic ends the process, so a handler that did not finish was aborted with us.
                let Ok((id, reply)) = handled else { continue };
                writer.put(id, &Message::Reply(within(terms.payload_bytes_max, reply)));
            }
            drained = writer.drain(), if writer.has_output() => drained?,
        }
    }
}

/// A reply that no frame can carry fails its request, not the connection.
fn within(payload_bytes_max: usize, reply: Reply) -> Reply {
    let bytes = reply.bytes();
    if bytes <= payload_bytes_max {
        return reply;
    }
    Reply::Failed(Failed(format!("the reply has {bytes} bytes, which is too many")))
}

/// One stream of requests at a time, answered in order.
async fn replication(from: MemberId, wire: Wire, handler: Arc<dyn Handler>) -> Result<(), Error> {
    let Wire { mut reader, mut writer } = wire;
    let (reply_sender, mut replies) = mpsc::channel(WINDOW_MESSAGES);
    let mut streams = JoinSet::new(); // the current one, and for a moment the one before
    let mut current: Option<(u32, mpsc::Sender<AppendRequest>)> = None;
    loop {
        tokio::select! {
            received = reader.next() => match received? {
                (id, Message::Request(Request::Append(request))) => {
                    let (number, _) = split_id(id);
                    let requests = match current.take() {
                        Some((known, requests)) if known == number => requests,
                        _ => {
                            streams.abort_all();
                            let (requests, receiver) = mpsc::channel(WINDOW_MESSAGES);
                            let (handler, replies) = (Arc::clone(&handler), reply_sender.clone());
                            streams.spawn(answer_stream(handler, from, number, receiver, replies));
                            requests
                        }
                    };
                    if let Err(mpsc::error::TrySendError::Full(_)) = requests.try_send(request) {
                        return Err(Error::Window);
                    } // a closed one is over, and the other side will know when the replies arrive
                    current = Some((number, requests));
                }
                (id, Message::Ping) => writer.put(id, &Message::Pong),
                (_, message) => return Err(Error::Misplaced(message.kind())),
            },
            Some((id, reply)) = replies.recv(), if writer.has_room() => {
                writer.put(id, &Message::Reply(reply));
                while writer.has_room() && let Ok((id, reply)) = replies.try_recv() {
                    writer.put(id, &Message::Reply(reply));
                }
            }
            drained = writer.drain(), if writer.has_output() => drained?,
            Some(_) = streams.join_next() => (), // it has said all it had to say
        }
    }
}

async fn answer_stream(
    handler: Arc<dyn Handler>,
    from: MemberId,
    number: u32,
    requests: mpsc::Receiver<AppendRequest>,
    replies: mpsc::Sender<(u64, Reply)>,
) {
    let mut answers = handler.append_stream(from, ReceiverStream::new(requests));
    let mut request = 0;
    let failed = loop {
        let answer = answers.next().await;
        let reply: AppendReply = match answer {
            Some(Ok(reply)) => reply,
            Some(Err(failed)) => break failed,
            None => break Failed("the follower ended the stream".to_owned()),
        };
        let is_last = ends_stream(&reply);
        if replies.send((frame_id(number, request), Reply::Append(reply))).await.is_err() || is_last
        {
            return;
        }
        request = request.wrapping_add(1);
    };
    // Fails when the connection is over, and then nobody is there to be told.
    let _ = replies.send((frame_id(number, request), Reply::Failed(failed))).await;
}

/// One snapshot, then the end. The sender hears regularly that this member is there.
async fn snapshot(
    from: MemberId,
    wire: Wire,
    handler: Arc<dyn Handler>,
    terms: Terms,
) -> Result<(), Error> {
    let Wire { mut reader, mut writer } = wire;
    let mut silence = quarters(terms.dead_after);
    let start: SnapshotStart = match next(&mut reader, &mut silence).await? {
        Message::Snapshot(SnapshotPart::Start(start)) => start,
        message => return Err(Error::Misplaced(message.kind())),
    };
    let (chunk_sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let receive = async {
        receive(&mut reader, &mut silence, chunk_sender).await;
        std::future::pending::<()>().await;
    };
    let beat = async {
        let mut beats = quarters(terms.dead_after);
        loop {
            beats.tick().await;
            writer.put(0, &Message::Pong);
            if let Err(error) = writer.drain().await {
                break error;
            }
        }
    };
    let reply = tokio::select! {
        reply = handler.snapshot(from, start, ReceiverStream::new(chunks)) => reply,
        () = receive => return Err(Error::Closed), // `receive` never ends
        error = beat => return Err(error.into()),
    };
    let reply = reply.map_or_else(Reply::Failed, Reply::Snapshot);
    writer.put(0, &Message::Reply(reply));
    writer.finish().await?;
    let linger = async { while reader.next().await.is_ok() {} };
    let _ = timeout(LINGER, linger).await;
    Ok(())
}

/// Passes chunks on until the end, which it checks, or until the handler wants no more.
async fn receive(
    reader: &mut Reader,
    silence: &mut Interval,
    chunks: mpsc::Sender<Result<Bytes, SnapshotError>>,
) {
    let mut found = SnapshotEnd::default();
    let error = loop {
        let part = match next(reader, silence).await {
            Ok(Message::Snapshot(part)) => part,
            Ok(Message::Pong) => continue,
            Ok(message) => {
                break SnapshotError::Interrupted(Error::Misplaced(message.kind()).to_string());
            }
            Err(Error::Silent) => break SnapshotError::TimedOut,
            Err(error) => break SnapshotError::Interrupted(error.to_string()),
        };
        match part {
            SnapshotPart::Chunk(chunk) => {
                found.add(&chunk);
                if chunks.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            SnapshotPart::End(end) if end == found => return,
            SnapshotPart::End(_) => break SnapshotError::Incomplete,
            SnapshotPart::Start(_) => {
                break SnapshotError::Interrupted("it starts twice".to_owned());
            }
        }
    };
    let _ = chunks.send(Err(error)).await; // the handler may be gone
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sender_of_which_nothing_is_heard_is_given_up() {
        let terms =
            Terms { group: 0, payload_bytes_max: 1 << 20, dead_after: Duration::from_secs(1) };
        let (near, far) = tokio::io::duplex(1 << 10);
        let wire = |stream| Wire::new(Box::new(stream), BytesMut::new(), terms);
        let (mut near, mut far) = (wire(near), wire(far));
        let (chunks, mut received) = mpsc::channel(QUEUED_CHUNKS);
        let sender = async {
            let mut beats = quarters(terms.dead_after);
            for _ in 0..100 {
                beats.tick().await;
                far.writer.put(0, &Message::Pong);
                far.writer.drain().await.unwrap();
            }
        };
        let begin = tokio::time::Instant::now();
        let mut silence = quarters(terms.dead_after);
        tokio::join!(receive(&mut near.reader, &mut silence, chunks), sender);
        assert_eq!(received.recv().await, Some(Err(SnapshotError::TimedOut)));
        let took = begin.elapsed();
        let heard = Duration::from_secs(25);
        assert!((heard + Duration::from_secs(4)..heard + Duration::from_secs(5)).contains(&took));
    }
}
