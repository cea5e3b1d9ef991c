//! What comes in on a connection between members: the handshake, then frames with messages.
//!
//! An input is the side of the connection, a limit and the size of the pieces in which the bytes
//! come, then the bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::executor::block_on;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Settings, request::survives};
use crate::{
    memory,
    proto::peer,
    raft::{
        frame::{self, Decoder, Frame, HEADER_BYTES},
        message::{Message, Reply, Request},
        network::Stream,
        peers::handshake::{self, Answer, Hello, Lane, MAGIC, Opening, Refusal},
    },
    types::{ClusterId, MemberId},
};

/// Values of the first byte of an input.
pub(crate) mod side {
    /// The bytes are frames only.
    pub(crate) const ESTABLISHED: u8 = 0;
    /// They begin with a hello, as the dialled member gets it.
    pub(crate) const DIALLED: u8 = 1;
    /// They begin with an answer to a hello.
    pub(crate) const DIALLING: u8 = 2;
}

/// Largest payload, so small that inputs go beyond it; else the real one.
const PAYLOAD_BYTES_MAX: usize = 1024;

/// Read buffers, what is decoded in them, and a little more.
const MEMORY_BYTES: usize = 512 << 10;
/// An entry without payload has 29 bytes, and 64 in memory, which double while their list grows.
const MEMORY_TIMES: usize = 16;

/// Where the checksum of a hello's first bytes and of a frame stand, and the length of both.
const HELLO_PREFIX_BYTES: usize = 12;
const ANSWER_BYTES: usize = 21;

const HELLO: Hello = Hello {
    cluster: ClusterId(1),
    member: MemberId(2),
    incarnation: 3,
    target: MemberId(4),
    lane: Lane::Replication,
    group: 0,
};

pub fn run(input: &[u8]) {
    let mut settings = Settings(input);
    let (side, form) = (settings.byte(), settings.byte());
    let piece_bytes = usize::from(settings.byte()).max(1);
    let bytes = settings.0;
    let payload_bytes_max =
        if form & 1 == 0 { frame::PAYLOAD_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
    memory::bounded(MEMORY_BYTES + MEMORY_TIMES * input.len(), || match side % 3 {
        side::DIALLED => {
            let whole = greet(bytes, usize::MAX, payload_bytes_max);
            let pieces = greet(bytes, piece_bytes, payload_bytes_max);
            assert_eq!(pieces, whole, "how the bytes were cut makes a difference");
        }
        side::DIALLING => dial(bytes, piece_bytes, payload_bytes_max),
        _ => {
            let whole = receive(BytesMut::new(), bytes, usize::MAX, payload_bytes_max);
            let pieces = receive(BytesMut::new(), bytes, piece_bytes, payload_bytes_max);
            assert_eq!(pieces, whole, "how the bytes were cut makes a difference");
            let (frames, _) = whole;
            let mut encoded = BytesMut::new();
            for Frame { group, kind, id, payload } in &frames {
                frame::encode(&mut encoded, *group, *kind, *id, |out| out.extend(payload));
            }
            assert!(bytes.starts_with(&encoded), "these frames were not sent");
        }
    });
}

type Received = (Vec<Frame>, Option<frame::Error>);

/// The dialled side: reads until it knows who dials, then frames.
fn greet(bytes: &[u8], piece_bytes: usize, payload_bytes_max: usize) -> (Opening, Received) {
    let mut received = BytesMut::new();
    let mut read = 0;
    loop {
        let opening = handshake::opening(&mut received);
        match &opening {
            Opening::More if read < bytes.len() => {
                let piece = &bytes[read..bytes.len().min(read.saturating_add(piece_bytes))];
                received.extend_from_slice(piece);
                read += piece.len();
            }
            Opening::Hello(hello) => {
                let again = handshake::opening(&mut hello.encode());
                assert_eq!(again, opening);
                let rest = receive(received, &bytes[read..], piece_bytes, payload_bytes_max);
                return (opening, rest);
            }
            Opening::More | Opening::NewerHello | Opening::Text | Opening::Garbage => {
                return (opening, Received::default());
            }
        }
    }
}

/// The dialling side: says hello, reads the answer, then frames.
fn dial(bytes: &[u8], piece_bytes: usize, payload_bytes_max: usize) {
    let (answer, rest) = answer(bytes, piece_bytes);
    let (whole, _) = self::answer(bytes, usize::MAX);
    assert_eq!(answer.as_ref().ok(), whole.as_ref().ok(), "how the bytes were cut matters");
    let Ok(answer) = answer else { return };
    let (again, _) = self::answer(&answer.encode(), usize::MAX);
    let again = again.expect("an answer that was encoded here");
    // A text that was no text may have become longer, and is cut then.
    match (&answer.verdict, &again.verdict) {
        (Err(Refusal::Other(long)), Err(Refusal::Other(cut))) => assert!(long.starts_with(cut)),
        (verdict, again) => assert_eq!(again, verdict),
    }
    receive(BytesMut::new(), &rest, piece_bytes, payload_bytes_max);
}

fn answer(bytes: &[u8], piece_bytes: usize) -> (io::Result<Answer>, Vec<u8>) {
    let pieces = Pieces { bytes: bytes.to_vec(), read: 0, piece_bytes };
    let mut stream: Stream = Box::new(tokio::io::join(pieces, tokio::io::sink()));
    let mut rest = Vec::new();
    let answer = block_on(async {
        let answer = handshake::introduce(&mut stream, &HELLO).await;
        stream.read_to_end(&mut rest).await.expect("reading from memory works");
        answer
    });
    (answer, rest)
}

/// Reads frames as an established connection does: those before the end or the first error.
fn receive(
    received: BytesMut,
    bytes: &[u8],
    piece_bytes: usize,
    payload_bytes_max: usize,
) -> Received {
    let mut decoder = Decoder::new(received, payload_bytes_max);
    let mut frames = Vec::new();
    let mut pieces = bytes.chunks(piece_bytes);
    loop {
        match decoder.decode() {
            Ok(Some(frame)) => {
                assert!(frame.payload.len() <= payload_bytes_max);
                look_into(&frame);
                frames.push(frame);
            }
            Ok(None) => match pieces.next() {
                Some(piece) => decoder.space().extend_from_slice(piece),
                None => return (frames, None),
            },
            Err(error) => {
                assert_eq!(decoder.decode(), Err(error.clone()), "an error stays");
                return (frames, Some(error));
            }
        }
    }
}

/// The message in a frame; it has one encoding only.
fn look_into(frame: &Frame) {
    let Ok(message) = Message::decode(frame.kind, frame.payload.clone()) else { return };
    assert_eq!(message.kind(), frame.kind);
    assert!(message.bytes() >= frame.payload.len());
    let mut encoded = BytesMut::new();
    frame::encode(&mut encoded, frame.group, frame.kind, frame.id, |out| message.encode(out));
    assert_eq!(encoded[HEADER_BYTES..], frame.payload);
    assert_eq!(Decoder::new(encoded, usize::MAX).decode(), Ok(Some(frame.clone())));
    match message {
        Message::Request(Request::Call(call)) => decode::<peer::Request>(call),
        Message::Reply(Reply::Call(answer)) => decode::<peer::Reply>(answer),
        Message::Request(_)
        | Message::Reply(_)
        | Message::Snapshot(_)
        | Message::Ping
        | Message::Pong => (),
    }
}

fn decode<M: prost::Message + Default + PartialEq>(bytes: Bytes) {
    if let Ok(message) = M::decode(bytes) {
        survives(&message);
    }
}

/// Delivers bytes a few at a time.
struct Pieces {
    bytes: Vec<u8>,
    read: usize,
    piece_bytes: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.piece_bytes.min(buffer.remaining()).min(self.bytes.len() - self.read);
        let end = self.read + count;
        buffer.put_slice(&self.bytes[self.read..end]);
        self.read = end;
        Poll::Ready(Ok(()))
    }
}

/// Makes most inputs right again after a mutation: lengths within bounds, checksums that fit. What
/// is behind a checksum would hardly ever be reached otherwise.
pub fn seal(input: &mut [u8], seed: u32) {
    let Some((settings, mut bytes)) = input.split_at_mut_checked(3) else { return };
    if seed.is_multiple_of(4) {
        return;
    }
    let opened = match settings[0] % 3 {
        side::DIALLED => seal_hello(bytes),
        side::DIALLING => seal_answer(bytes),
        _ => Some(0),
    };
    let Some(opened) = opened else { return };
    bytes = &mut bytes[opened..];
    while let Some(length) = seal_frame(bytes, seed) {
        bytes = &mut bytes[length..];
    }
}

fn seal_hello(bytes: &mut [u8]) -> Option<usize> {
    let length: [u8; 2] = bytes.get(10..HELLO_PREFIX_BYTES)?.try_into().ok()?;
    let end = HELLO_PREFIX_BYTES + usize::from(u16::from_le_bytes(length));
    put_magic_and_crc(bytes, end)
}

fn seal_answer(bytes: &mut [u8]) -> Option<usize> {
    let length: [u8; 2] = bytes.get(19..ANSWER_BYTES)?.try_into().ok()?;
    let end = ANSWER_BYTES + usize::from(u16::from_le_bytes(length));
    put_magic_and_crc(bytes, end)
}

fn put_magic_and_crc(bytes: &mut [u8], end: usize) -> Option<usize> {
    let (covered, crc) = bytes.get_mut(..end + 4)?.split_at_mut(end);
    covered[..MAGIC.len()].copy_from_slice(MAGIC);
    crc.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    Some(end + 4)
}

/// The length of the frame, which ends with the input if it was longer.
fn seal_frame(bytes: &mut [u8], seed: u32) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk_mut::<HEADER_BYTES>()?;
    let mut length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    if length > rest.len() {
        if seed.is_multiple_of(3) {
            return None;
        }
        length = rest.len();
        header[..4].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    let crc = crc32c::crc32c_append(crc, &rest[..length]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    Some(HEADER_BYTES + length)
}
