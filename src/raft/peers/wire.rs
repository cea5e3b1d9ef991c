//! The two halves of an established connection: messages in, messages out.

use std::{io, time::Duration};

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Interval, MissedTickBehavior, interval},
};

use super::handshake::{FORMAT_OLDEST, FORMAT_TRACED};
use crate::{
    raft::{
        frame::{self, Decoder},
        message::{self, Message},
        network::Stream,
    },
    telemetry::PeerMeter,
};

/// Bytes gathered for one write. More does not make writing cheaper, and what has been gathered
/// can't be overtaken.
const GATHERED_BYTES: usize = 256 << 10;

/// A buffer that a huge message made larger than this is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What each connection of a member has in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) group: u32,
    pub(super) payload_bytes_max: usize,
    /// A silent connection counts as dead after about this time.
    pub(super) dead_after: Duration,
}

/// Ticks four times in `whole`. One that comes late moves those after it.
pub(super) fn quarters(whole: Duration) -> Interval {
    let mut ticks = interval((whole / 4).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the other side closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] frame::Error),
    #[error("{0}")]
    Message(#[from] message::Error),
    #[error("a message for Raft group {0}, which is not here")]
    Group(u32),
    #[error("a message that has no place on this lane, of kind {0}")]
    Misplaced(u8),
    #[error("more requests than the window allows")]
    Window,
    #[error("nothing is heard of the other side")]
    Silent,
}

pub(super) struct Wire {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl Wire {
    /// `received` has been read from the stream already.
    pub(super) fn new(stream: Stream, received: BytesMut, terms: Terms) -> Wire {
        let (read, write) = tokio::io::split(stream);
        let decoder = Decoder::new(received, terms.payload_bytes_max);
        Wire {
            reader: Reader { read, decoder, group: terms.group, bytes: Counter::default() },
            writer: Writer {
                write,
                out: BytesMut::new(),
                group: terms.group,
                unflushed: false,
                held_up: false,
                advanced: false,
                format: FORMAT_OLDEST,
                bytes: Counter::default(),
            },
        }
    }

    /// The other side has said that it speaks this format.
    pub(super) fn speaking(mut self, format: u16) -> Wire {
        self.writer.format = format;
        self
    }

    /// Counts what goes over it from now on as that member's.
    pub(super) fn metered(mut self, peer: &PeerMeter) -> Wire {
        self.reader.bytes = peer.received_bytes.clone();
        self.writer.bytes = peer.sent_bytes.clone();
        self
    }
}

pub(super) struct Reader {
    read: ReadHalf<Stream>,
    decoder: Decoder,
    group: u32,
    bytes: Counter,
}

impl Reader {
    /// The next message with the id of its frame. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<(u64, Message), Error> {
        loop {
            if let Some(frame) = self.decoder.decode()? {
                if frame.group != self.group {
                    return Err(Error::Group(frame.group));
                }
                return Ok((frame.id, Message::decode(frame.kind, frame.payload)?));
            }
            match self.read.read_buf(self.decoder.space()).await? {
                0 => return Err(Error::Closed),
                read => drop(self.bytes.inc_by(read as u64)),
            }
        }
    }
}

pub(super) struct Writer {
    write: WriteHalf<Stream>,
    /// Encoded and not written.
    out: BytesMut,
    group: u32,
    /// Written, but perhaps still in a buffer of the stream (TLS has one).
    unflushed: bool,
    /// The last write took only a part.
    held_up: bool,
    advanced: bool,
    /// What the other side is known to speak.
    format: u16,
    bytes: Counter,
}

impl Writer {
    /// Does the other side know of traces?
    pub(super) fn takes_traces(&self) -> bool {
        self.format >= FORMAT_TRACED
    }

    /// Encodes the message, to be written by the next `drain`.
    pub(super) fn put(&mut self, id: u64, message: &Message) {
        frame::encode(&mut self.out, self.group, message.kind(), id, |out| message.encode(out));
    }

    /// Enough has been gathered when this is false: drain before putting more.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < GATHERED_BYTES
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty() || self.unflushed
    }

    /// Writes all that was put, in as few writes as the stream allows. Dropping the future loses
    /// nothing: the next call goes on.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            self.unflushed = true;
            match self.write.write_buf(&mut self.out).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => drop(self.bytes.inc_by(written as u64)),
            }
            self.advanced |= self.held_up;
            self.held_up = !self.out.is_empty();
        }
        if self.unflushed {
            self.write.flush().await?;
            self.unflushed = false;
        }
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Whether the other side has taken bytes since the last call: a write was held up, which means
    /// that the buffers between here and there were full, and then another one succeeded.
    pub(super) fn take_advanced(&mut self) -> bool {
        std::mem::take(&mut self.advanced)
    }

    /// Drains, and tells the other side that nothing follows.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.drain().await?;
        self.write.shutdown().await
    }
}
