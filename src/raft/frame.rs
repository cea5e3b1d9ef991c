//! The frame: how bytes between members are cut into messages, and how damage is found.
//!
//! ```text
//! length   u32  bytes of the payload
//! crc32c   u32  of all other fields and the payload
//! group    u32  Raft group that the message belongs to
//! kind     u8   what the payload is (message.rs)
//! id       u64  pairs a reply with its request
//! payload
//! ```
//! Numbers are little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 4 + 4 + 4 + 1 + 8;

/// No payload is larger unless the configuration says otherwise.
///
/// A batch of entries is cut at a few MiB and a request at 1.5 MiB by default, so this leaves room
/// for a much larger `max-request-bytes` and still bounds what one connection can make a member
/// hold.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Room made for reads from a connection when little is known of what comes.
const READ_BYTES: usize = 64 << 10;

/// A read has at least this much room. With less the rest of a buffer is given up: a payload that
/// is kept keeps its whole buffer, so a buffer must be used up by many small frames.
const READ_BYTES_MIN: usize = 8 << 10;

/// Where the checksum stands in the header.
const CRC_AT: usize = 4;
/// Where the checksummed part that follows the checksum begins.
const GROUP_AT: usize = 8;

/// One frame as received. The payload shares the receive buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub group: u32,
    pub kind: u8,
    pub id: u64,
    pub payload: Bytes,
}

/// The bytes are not what a member sends: nothing after them can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a frame of {length} bytes, more than the {maximum} allowed")]
    TooLong { length: usize, maximum: usize },
    #[error("a frame's checksum does not fit its content")]
    Checksum,
}

/// Appends one frame to `out`; `write_payload` appends its payload, at most `u32::MAX` bytes.
pub fn encode(
    out: &mut BytesMut,
    group: u32,
    kind: u8,
    id: u64,
    write_payload: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u64_le(0); // length and checksum, known at the end
    out.put_u32_le(group);
    out.put_u8(kind);
    out.put_u64_le(id);
    write_payload(out);
    let frame = &mut out[start..];
    let length = u32::try_from(frame.len() - HEADER_BYTES)
        .expect("senders check the size of a message before they encode it");
    frame[..CRC_AT].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(frame);
    frame[CRC_AT..GROUP_AT].copy_from_slice(&crc.to_le_bytes());
}

/// Cuts received bytes into frames. It holds no more memory than has been received, but for a
/// read's worth of room: a length is no reason to allocate.
#[derive(Debug)]
pub struct Decoder {
    received: BytesMut,
    payload_bytes_max: usize,
}

impl Decoder {
    /// Begins with bytes that were read already.
    pub fn new(received: BytesMut, payload_bytes_max: usize) -> Decoder {
        Decoder { received, payload_bytes_max }
    }

    /// Where to append what is received next. There is room for at least one more read.
    ///
    /// The room grows with what a frame has shown of itself, so that a large frame is copied
    /// between growing buffers less than twice in all.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < READ_BYTES_MIN {
            self.received.reserve(self.received.len().max(READ_BYTES));
        }
        &mut self.received
    }

    /// The next complete frame; `None` until more bytes are received. After an error the rest of
    /// the connection is worthless, and every further call fails alike.
    pub fn decode(&mut self) -> Result<Option<Frame>, Error> {
        let Some(length) = self.received.first_chunk::<CRC_AT>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.payload_bytes_max {
            return Err(Error::TooLong { length, maximum: self.payload_bytes_max });
        }
        if self.received.len() - CRC_AT < HEADER_BYTES - CRC_AT + length {
            return Ok(None);
        }
        let found = (&self.received[CRC_AT..]).get_u32_le();
        if found != checksum(&self.received[..HEADER_BYTES + length]) {
            return Err(Error::Checksum);
        }
        let mut frame = self.received.split_to(HEADER_BYTES + length).freeze();
        frame.advance(GROUP_AT);
        Ok(Some(Frame {
            group: frame.get_u32_le(),
            kind: frame.get_u8(),
            id: frame.get_u64_le(),
            payload: frame,
        }))
    }
}

/// Covers all of the frame but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[GROUP_AT..])
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MAXIMUM: usize = 1000;

    fn frame() -> impl Strategy<Value = Frame> {
        (any::<u32>(), any::<u8>(), any::<u64>(), vec(any::<u8>(), 0..MAXIMUM)).prop_map(
            |(group, kind, id, payload)| Frame { group, kind, id, payload: payload.into() },
        )
    }

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            encode(&mut out, frame.group, frame.kind, frame.id, |out| {
                out.put_slice(&frame.payload)
            });
        }
        out
    }

    /// Feeds `bytes` in pieces of the given size; the frames found before the end or the first
    /// error.
    fn decoded(bytes: &[u8], piece: usize) -> (Vec<Frame>, Result<usize, Error>) {
        let mut decoder = Decoder::new(BytesMut::new(), MAXIMUM);
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.space().put_slice(piece);
            loop {
                match decoder.decode() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.decode(), Err(error.clone()), "an error stays");
                        return (frames, Err(error));
                    }
                }
            }
        }
        (frames, Ok(decoder.received.len()))
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in vec(frame(), 0..6), piece in 1..3000usize) {
            let (found, rest) = decoded(&encoded(&frames), piece);
            prop_assert_eq!(found, frames);
            prop_assert_eq!(rest, Ok(0));
        }

        #[test]
        fn a_flipped_bit_is_never_taken_for_a_frame(
            frame in frame(),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encoded(std::slice::from_ref(&frame));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (found, _) = decoded(&bytes, usize::MAX);
            prop_assert_eq!(found, vec![]);
        }

        #[test]
        fn a_truncated_frame_is_waited_for(frame in frame(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(std::slice::from_ref(&frame));
            let cut = cut.index(bytes.len());
            prop_assert_eq!(decoded(&bytes[..cut], usize::MAX), (vec![], Ok(cut)));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..4000), piece in 1..500usize) {
            let (found, _) = decoded(&bytes, piece);
            prop_assert_eq!(found, vec![]); // one in 2^32 would pass the checksum
        }
    }

    #[test]
    fn a_length_beyond_the_maximum_is_refused_at_once() {
        let mut decoder = Decoder::new(BytesMut::new(), MAXIMUM);
        decoder.space().put_u32_le(MAXIMUM as u32 + 1);
        let refused = Error::TooLong { length: MAXIMUM + 1, maximum: MAXIMUM };
        assert_eq!(decoder.decode(), Err(refused));
    }

    #[test]
    fn a_length_is_no_reason_to_allocate() {
        let mut decoder = Decoder::new(BytesMut::new(), PAYLOAD_BYTES_MAX);
        decoder.space().put_u32_le(PAYLOAD_BYTES_MAX as u32);
        assert_eq!(decoder.decode(), Ok(None));
        assert!(decoder.space().capacity() <= 4 * READ_BYTES);
    }

    #[test]
    fn kept_payloads_hold_little_more_than_was_received() {
        let bytes = encoded(&[Frame { group: 0, kind: 1, id: 2, payload: vec![7; 500].into() }]);
        let mut decoder = Decoder::new(BytesMut::new(), MAXIMUM);
        let (mut kept, mut allocated) = (Vec::new(), 0);
        let mut end = 0;
        for _ in 0..1000 {
            let space = decoder.space();
            if space.as_ptr() as usize != end {
                allocated += space.capacity();
            }
            space.put_slice(&bytes);
            kept.push(decoder.decode().unwrap().unwrap());
            end = kept.last().map_or(0, |frame| frame.payload.as_ptr_range().end as usize);
        }
        let received = kept.len() * bytes.len();
        assert!(allocated <= received + received / 4 + READ_BYTES, "{allocated} for {received}");
    }

    #[test]
    fn a_payload_shares_the_receive_buffer() {
        let bytes = encoded(&[Frame { group: 0, kind: 1, id: 2, payload: vec![7; 500].into() }]);
        let begin = bytes.as_ptr() as usize;
        let end = begin + bytes.len();
        let frame = Decoder::new(bytes, MAXIMUM).decode().unwrap().unwrap();
        assert!((begin..end).contains(&(frame.payload.as_ptr() as usize)));
    }
}
