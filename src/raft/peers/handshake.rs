//! The first words on a connection: who dials, whom it means to reach, and what for.
//!
//! ```text
//! hello   magic, format u16, length u16 of what follows but the checksum,
//!         cluster u64, member u64, incarnation u64, target u64, lane u8, group u32; crc32c u32
//! answer  magic, format u16, code u8 (0 for welcome), incarnation u64, length u16 of the text,
//!         text; crc32c u32
//! ```
//! Numbers are little-endian. What comes before `cluster` in the hello, and the whole answer, stay
//! as they are in every later format, so that members of different formats can tell each other so.
//!
//! A hello has the oldest format whose readers understand it, an answer the newest one that its
//! sender speaks. So the dialler, which asks all the questions, knows what it may ask, and members
//! of two releases work together.
//!
//! | format | adds |
//! | --- | --- |
//! | 1 | |
//! | 2 | appends with traces |

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    raft::network::Stream,
    types::{ClusterId, MemberId},
};

/// No text protocol begins with a zero byte.
pub(crate) const MAGIC: &[u8; 8] = b"\0orrery\n";
/// What this code speaks on a connection: the frames and all messages in them.
pub(super) const FORMAT: u16 = 2;
/// The oldest format that has our hello, and what may be said to anybody.
pub(super) const FORMAT_OLDEST: u16 = 1;
/// From this format on traces travel with appends.
pub(super) const FORMAT_TRACED: u16 = 2;

const PREFIX_BYTES: usize = 8 + 2 + 2;
const BODY_BYTES: usize = 4 * 8 + 1 + 4;
const CRC_BYTES: usize = 4;
/// A later format's hello may be longer, but not without end.
const BODY_BYTES_MAX: usize = 1024;
const ANSWER_BYTES: usize = 8 + 2 + 1 + 8 + 2;
/// Reasons are one sentence.
const REASON_BYTES_MAX: usize = 1024;

/// What a connection is for. Each lane has its own, so that none waits behind another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, and requests of the layer above.
    Urgent = 1,
    /// Entries of the log.
    Replication = 2,
    Snapshot = 3,
}

/// How a member introduces itself to the member `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Made with the sender's data directory: a member that lost its data has another.
    pub incarnation: u64,
    pub target: MemberId,
    pub lane: Lane,
    pub group: u32,
}

/// Why a member won't talk to another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it belongs to another cluster")]
    WrongCluster,
    #[error("it meant to reach another member")]
    WrongTarget,
    #[error("it asks for a Raft group that is not here")]
    WrongGroup,
    #[error("it is not a member of the cluster")]
    UnknownMember,
    #[error("it has been removed from the cluster")]
    RemovedMember,
    #[error("its data directory is not the one that the cluster knows under its id")]
    IncarnationDiffers,
    #[error("its connections have a newer format")]
    NewerFormat,
    /// A reason that a newer version has and this one does not.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Codes are on the wire: they never change.
    fn code(&self) -> u8 {
        match self {
            Refusal::WrongCluster => 1,
            Refusal::WrongTarget => 2,
            Refusal::WrongGroup => 3,
            Refusal::UnknownMember => 4,
            Refusal::RemovedMember => 5,
            Refusal::IncarnationDiffers => 6,
            Refusal::NewerFormat => 7,
            Refusal::Other(_) => u8::MAX,
        }
    }

    fn from_wire(code: u8, reason: String) -> Refusal {
        match code {
            1 => Refusal::WrongCluster,
            2 => Refusal::WrongTarget,
            3 => Refusal::WrongGroup,
            4 => Refusal::UnknownMember,
            5 => Refusal::RemovedMember,
            6 => Refusal::IncarnationDiffers,
            7 => Refusal::NewerFormat,
            _ => Refusal::Other(reason),
        }
    }
}

/// What received bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Too little to tell.
    More,
    Hello(Hello),
    /// A hello that only a newer version can read.
    NewerHello,
    /// Text: an HTTP request, perhaps.
    Text,
    Garbage,
}

/// Judges what has been received so far; a whole hello is taken out of `received`.
pub(crate) fn opening(received: &mut BytesMut) -> Opening {
    let compared = received.len().min(MAGIC.len());
    if received[..compared] != MAGIC[..compared] {
        let is_text = received.first().is_some_and(u8::is_ascii_uppercase);
        return if is_text { Opening::Text } else { Opening::Garbage };
    }
    if received.len() < PREFIX_BYTES {
        return Opening::More;
    }
    let mut prefix = &received[MAGIC.len()..];
    let (format, length) = (prefix.get_u16_le(), usize::from(prefix.get_u16_le()));
    if length > BODY_BYTES_MAX {
        return Opening::Garbage;
    }
    if received.len() < PREFIX_BYTES + length + CRC_BYTES {
        return Opening::More;
    }
    let hello = received.split_to(PREFIX_BYTES + length).freeze();
    if received.get_u32_le() != crc32c::crc32c(&hello) {
        return Opening::Garbage;
    }
    if format > FORMAT {
        return Opening::NewerHello;
    }
    Hello::decode(hello.slice(PREFIX_BYTES..)).map_or(Opening::Garbage, Opening::Hello)
}

impl Hello {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + BODY_BYTES + CRC_BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(FORMAT_OLDEST);
        out.put_u16_le(BODY_BYTES as u16);
        out.put_u64_le(self.cluster.0);
        out.put_u64_le(self.member.0);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.target.0);
        out.put_u8(self.lane as u8);
        out.put_u32_le(self.group);
        put_crc(&mut out);
        out
    }

    fn decode(mut body: Bytes) -> Option<Hello> {
        if body.len() != BODY_BYTES {
            return None;
        }
        Some(Hello {
            cluster: ClusterId(body.get_u64_le()),
            member: MemberId(body.get_u64_le()),
            incarnation: body.get_u64_le(),
            target: MemberId(body.get_u64_le()),
            lane: match body.get_u8() {
                1 => Lane::Urgent,
                2 => Lane::Replication,
                3 => Lane::Snapshot,
                _ => return None,
            },
            group: body.get_u32_le(),
        })
    }
}

/// What the dialled member says: what it speaks, its incarnation, and whether the dialler may go
/// on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) format: u16,
    pub(crate) incarnation: u64,
    pub(crate) verdict: Result<(), Refusal>,
}

impl Answer {
    pub(crate) fn encode(&self) -> BytesMut {
        let (code, mut reason) = match &self.verdict {
            Ok(()) => (0, String::new()),
            Err(refusal) => (refusal.code(), refusal.to_string()),
        };
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let mut out = BytesMut::with_capacity(ANSWER_BYTES + reason.len() + CRC_BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(self.format);
        out.put_u8(code);
        out.put_u64_le(self.incarnation);
        out.put_u16_le(reason.len() as u16);
        out.put_slice(reason.as_bytes());
        put_crc(&mut out);
        out
    }

    async fn read(stream: &mut Stream) -> io::Result<Answer> {
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut answer = vec![0; ANSWER_BYTES];
        stream.read_exact(&mut answer).await?;
        let mut fields = answer.strip_prefix(MAGIC).ok_or_else(|| bad("not a peer's port"))?;
        let format = fields.get_u16_le();
        let (code, incarnation) = (fields.get_u8(), fields.get_u64_le());
        let length = usize::from(fields.get_u16_le());
        if length > REASON_BYTES_MAX {
            return Err(bad("an answer of impossible length"));
        }
        answer.resize(ANSWER_BYTES + length, 0);
        stream.read_exact(&mut answer[ANSWER_BYTES..]).await?;
        if stream.read_u32_le().await? != crc32c::crc32c(&answer) {
            return Err(bad("a damaged answer"));
        }
        let verdict = match code {
            0 => Ok(()),
            code => {
                let reason = String::from_utf8_lossy(&answer[ANSWER_BYTES..]).into_owned();
                Err(Refusal::from_wire(code, reason))
            }
        };
        Ok(Answer { format, incarnation, verdict })
    }
}

fn put_crc(out: &mut BytesMut) {
    let crc = crc32c::crc32c(out);
    out.put_u32_le(crc);
}

/// The dialler's side: says hello and waits for the answer. The other side sends nothing after it
/// until it is asked something, so nothing of it is lost here.
pub(crate) async fn introduce(stream: &mut Stream, hello: &Hello) -> io::Result<Answer> {
    stream.write_all(&hello.encode()).await?;
    stream.flush().await?;
    Answer::read(stream).await
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const HELLO: Hello = Hello {
        cluster: ClusterId(1),
        member: MemberId(2),
        incarnation: 3,
        target: MemberId(4),
        lane: Lane::Replication,
        group: 5,
    };

    #[track_caller]
    fn check(mut bytes: BytesMut, expected: Opening) {
        assert_eq!(opening(&mut bytes), expected);
    }

    #[test]
    fn the_first_bytes_tell_what_a_connection_is() {
        check(HELLO.encode(), Opening::Hello(HELLO));
        check(BytesMut::new(), Opening::More);
        check(b"GET".as_slice().into(), Opening::Text);
        check(b"\x16\x03\x01".as_slice().into(), Opening::Garbage);
        check(b"\0orrerx".as_slice().into(), Opening::Garbage);
        for cut in 0..HELLO.encode().len() {
            check(HELLO.encode()[..cut].into(), Opening::More);
        }
    }

    #[test]
    fn a_newer_hello_of_another_length_is_known_as_newer() {
        let mut newer = BytesMut::new();
        newer.put_slice(MAGIC);
        newer.put_u16_le(FORMAT + 1);
        newer.put_u16_le(60);
        newer.put_bytes(9, 60);
        put_crc(&mut newer);
        check(newer, Opening::NewerHello);
    }

    #[test]
    fn what_follows_the_hello_is_kept() {
        let mut bytes = HELLO.encode();
        bytes.put_slice(b"frames");
        assert_eq!(opening(&mut bytes), Opening::Hello(HELLO));
        assert_eq!(bytes, b"frames".as_slice());
    }

    #[tokio::test]
    async fn answers_survive_the_wire() {
        let refusals = [
            Refusal::WrongCluster,
            Refusal::WrongTarget,
            Refusal::WrongGroup,
            Refusal::UnknownMember,
            Refusal::RemovedMember,
            Refusal::IncarnationDiffers,
            Refusal::NewerFormat,
            Refusal::Other("because".into()),
        ];
        for verdict in refusals.into_iter().map(Err).chain([Ok(())]) {
            let answer = Answer { format: 3, incarnation: 7, verdict };
            let mut stream: Stream = Box::new(delivering(&answer.encode()));
            assert_eq!(Answer::read(&mut stream).await.unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_an_error() {
        let refusal = Err(Refusal::WrongTarget);
        let whole = Answer { format: FORMAT, incarnation: 7, verdict: refusal }.encode();
        let mut damaged = whole.clone();
        damaged[10] ^= 1;
        for bytes in [&damaged[..], &whole[..whole.len() - 1], b"HTTP/1.1 400 Bad Request\r\n\r\n"]
        {
            let mut stream: Stream = Box::new(delivering(bytes));
            Answer::read(&mut stream).await.unwrap_err();
        }
    }

    /// A stream that delivers `bytes` and ends.
    fn delivering(bytes: &[u8]) -> impl crate::raft::network::Connection + use<> {
        tokio::io::join(io::Cursor::new(bytes.to_vec()), tokio::io::sink())
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_hello(bytes in vec(any::<u8>(), 1..200)) {
            let mut opened = BytesMut::from(MAGIC.as_slice());
            opened.put_slice(&bytes);
            prop_assert!(!matches!(opening(&mut opened), Opening::Hello(_)));
            prop_assert!(!matches!(opening(&mut bytes.as_slice().into()), Opening::Hello(_)));
        }

        #[test]
        fn a_damaged_hello_is_no_hello(bit in 0..(HELLO.encode().len() * 8)) {
            let mut bytes = HELLO.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(opening(&mut bytes), Opening::Hello(_)));
        }
    }
}
