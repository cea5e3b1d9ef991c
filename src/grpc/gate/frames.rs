//! Where messages begin in a stream of bytes.

use hyper::body::Bytes;

/// One flag byte and four bytes of length go before each message.
pub(super) const PREFIX: usize = 5;

/// Follows gRPC's framing through the chunks of a body, whose borders mean nothing.
#[derive(Default)]
pub(super) struct Frames {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are here.
    filled: usize,
    /// Bytes of the message that are still to come.
    remaining: usize,
}

impl Frames {
    /// Lengths of the messages whose prefix is complete with this chunk.
    pub(super) fn lengths<'a>(&'a mut self, chunk: &'a Bytes) -> impl Iterator<Item = usize> + 'a {
        let mut rest = chunk.as_ref();
        std::iter::from_fn(move || {
            loop {
                let skipped = self.remaining.min(rest.len());
                self.remaining -= skipped;
                rest = &rest[skipped..];
                let (byte, after) = rest.split_first()?;
                rest = after;
                self.prefix[self.filled] = *byte;
                self.filled += 1;
                if self.filled == PREFIX {
                    let [_, length @ ..] = self.prefix;
                    self.filled = 0;
                    self.remaining = usize::try_from(u32::from_be_bytes(length)).ok()?;
                    return Some(self.remaining);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two messages, of three bytes and of none, and one of 70,000 that has only begun.
    const STREAM: &[u8] = &[0, 0, 0, 0, 3, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 1, 17, 112, 9, 9];

    #[test]
    fn lengths_are_found_wherever_the_chunks_are_cut() {
        for size in 1..=STREAM.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for chunk in STREAM.chunks(size) {
                found.extend(frames.lengths(&Bytes::from_static(chunk)));
            }
            assert_eq!(found, [3, 0, 70_000], "chunks of {size}");
        }
    }
}
