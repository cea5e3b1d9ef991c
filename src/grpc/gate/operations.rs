//! How many operations a transaction holds, counted before any of them is decoded.
//!
//! An operation takes two bytes on the wire and some 140 in memory. So a message of the largest
//! size could cost seventy times itself, for as long as its client does not end the call.

use axum::{
    body::{self, Body},
    extract::Request,
};
use hyper::body::Bytes;
use tonic::Status;

use super::frames::PREFIX;
use crate::grpc::{Limits, status, validate::Invalid};

/// Comparisons and operations, nested ones included, are at most this many times `max-txn-ops`.
/// What anybody means is far below: each operation of a full transaction may be a full transaction.
const TIMES_MAX_TXN_OPS: usize = 128;

/// Deeper than the decoder follows.
const DEPTH_MAX: usize = 128;

/// Fields of a `TxnRequest`.
const COMPARE: u64 = 1;
const SUCCESS: u64 = 2;
const FAILURE: u64 = 3;

/// Field of a `RequestOp` that holds a transaction.
const NESTED: u64 = 4;

/// Waits for the whole request, and gives it back if it holds no more than it should.
pub(super) async fn bounded(request: Request, limits: &Limits) -> Result<Request, Status> {
    let (parts, body) = request.into_parts();
    let bytes =
        body::to_bytes(body, PREFIX + limits.message_bytes_max()).await.map_err(status::of_body)?;
    let mut left = limits.max_txn_ops.saturating_mul(TIMES_MAX_TXN_OPS);
    // One message is all that a good client sends. A second one would be decoded, too, only to be
    // thrown away: it is left out.
    let bytes = first_message(bytes);
    if bytes.get(PREFIX..).is_some_and(|txn| !fits(txn, &mut left, DEPTH_MAX)) {
        return Err(Invalid::TooManyOperations.into());
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn first_message(mut body: Bytes) -> Bytes {
    if let Some([_, length @ ..]) = body.first_chunk::<PREFIX>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        body.truncate(PREFIX.saturating_add(length));
    }
    body
}

/// Takes what a transaction holds from what is left; false when that is too little.
fn fits(txn: &[u8], left: &mut usize, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    Fields(txn).all(|(field, operation)| match field {
        COMPARE => take(left),
        SUCCESS | FAILURE => {
            let mut nested = Fields(operation).filter(|(field, _)| *field == NESTED);
            take(left) && nested.all(|(_, txn)| fits(txn, left, depth))
        }
        _ => true,
    })
}

fn take(left: &mut usize) -> bool {
    left.checked_sub(1).map(|less| *left = less).is_some()
}

/// The fields of a message, each with what it holds if that has a length. Ends where the decoder
/// gives up, too.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => self.varint().map(|_| &[][..])?,
            1 => self.split(8)?,
            2 => {
                let length = self.varint()?;
                self.split(usize::try_from(length).ok()?)?
            }
            // A group's fields follow, and are counted as if they were not in one.
            3 | 4 => &[],
            5 => self.split(4)?,
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.0).ok()
    }

    fn split(&mut self, length: usize) -> Option<&'a [u8]> {
        let (content, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest, request_op};

    const LIMITS: Limits = Limits { max_txn_ops: 1, ..Limits::DEFAULT };

    fn put() -> RequestOp {
        let put = PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    }

    fn txn(compare: usize, success: usize, failure: usize) -> TxnRequest {
        TxnRequest {
            compare: vec![Compare { key: "key".into(), ..Default::default() }; compare],
            success: vec![put(); success],
            failure: vec![RequestOp::default(); failure],
        }
    }

    fn nested(inner: TxnRequest) -> TxnRequest {
        let inner = RequestOp { request: Some(request_op::Request::RequestTxn(inner)) };
        TxnRequest { success: vec![inner], ..Default::default() }
    }

    /// The code that a message, or what is taken for one, is refused with.
    async fn refused(message: &[u8]) -> Option<Code> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], &length[..], message].concat();
        let request = Request::new(Body::from(body.clone()));
        match bounded(request, &LIMITS).await {
            Ok(request) => {
                let kept = body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                assert_eq!(kept, body);
                None
            }
            Err(status) => Some(status.code()),
        }
    }

    #[tokio::test]
    async fn operations_are_counted_wherever_they_are() {
        for (txn, fits) in [
            (txn(0, 0, 0), true),
            (txn(30, 60, 38), true),
            (txn(30, 60, 39), false),
            (txn(129, 0, 0), false),
            (txn(0, 129, 0), false),
            (nested(txn(0, 0, 127)), true),
            (nested(txn(0, 0, 128)), false),
            (nested(nested(txn(100, 26, 0))), true),
            (nested(nested(txn(100, 27, 0))), false),
        ] {
            let expected = (!fits).then_some(Code::InvalidArgument);
            assert_eq!(refused(&txn.encode_to_vec()).await, expected);
        }
    }

    /// The parts of a message that comes twice are put together by the decoder.
    #[tokio::test]
    async fn operations_in_parts_are_counted_together() {
        let nested = nested(txn(0, 100, 0)).success.remove(0).encode_to_vec();
        let twice = [&nested[..], &nested[..]].concat();
        let mut message = vec![0x12];
        prost::encode_length_delimiter(twice.len(), &mut message).unwrap();
        message.extend(twice);
        let decoded = TxnRequest::decode(&message[..]).unwrap();
        assert_eq!(
            decoded.success,
            [RequestOp { request: Some(request_op::Request::RequestTxn(txn(0, 200, 0))) }]
        );
        assert_eq!(refused(&message).await, Some(Code::InvalidArgument));
    }

    /// What ends the count in the first message must not hide a second one from it.
    #[tokio::test]
    async fn a_second_message_is_not_decoded() {
        let first = [0, 0, 0, 0, 2, 0x1a, 0];
        for second in [&[0, 0, 0x1f, 0, 0][..], &[0; 5], &[9]] {
            let request = Request::new(Body::from([&first[..], second].concat()));
            let kept = bounded(request, &LIMITS).await.unwrap().into_body();
            assert_eq!(body::to_bytes(kept, usize::MAX).await.unwrap(), first.as_slice());
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_left_to_the_decoder() {
        for message in [&[][..], &[0xff; 20], &[0x0b; 100], &[0x12, 0x7f, 0], &[0x0f]] {
            assert_eq!(refused(message).await, None, "{message:02x?}");
        }
    }

    #[tokio::test]
    async fn more_than_one_large_message_is_not_waited_for() {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 1 << 16]));
        let request = Request::new(Body::from_stream(endless));
        assert!(bounded(request, &LIMITS).await.is_err());
    }
}
