//! A range, cut into messages.

use std::{iter::Peekable, vec};

use prost::Message;
use tonic::Status;

use crate::proto::{
    etcdserverpb::{RangeResponse, RangeStreamResponse},
    mvccpb::KeyValue,
};

/// The answers to a RangeStream: keys in all of them, header, count and `more` in the last alone.
pub(crate) struct Chunks {
    keys: Peekable<vec::IntoIter<KeyValue>>,
    /// What the last message says beside its keys; `None` after it.
    last: Option<RangeResponse>,
    chunk_bytes: usize,
}

impl Chunks {
    /// A chunk has at most about `chunk_bytes`, but always a key when there is one left.
    pub(crate) fn new(mut response: RangeResponse, chunk_bytes: usize) -> Chunks {
        let keys = std::mem::take(&mut response.kvs).into_iter().peekable();
        Chunks { keys, last: Some(response), chunk_bytes }
    }
}

impl Iterator for Chunks {
    type Item = Result<RangeStreamResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        self.last.as_ref()?;
        let mut kvs: Vec<KeyValue> = self.keys.next().into_iter().collect();
        let mut size = kvs.iter().map(Message::encoded_len).sum::<usize>();
        while let Some(next) = self.keys.peek()
            && size + next.encoded_len() <= self.chunk_bytes
        {
            size += next.encoded_len();
            kvs.extend(self.keys.next());
        }
        let rest = match self.keys.peek() {
            Some(_) => RangeResponse::default(),
            None => self.last.take()?,
        };
        let range_response = Some(RangeResponse { kvs, ..rest });
        Some(Ok(RangeStreamResponse { range_response }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;

    /// Keys of each message, for keys whose values have these lengths.
    #[track_caller]
    fn check(value_bytes: &[usize], chunk_bytes: usize, expected: &[usize]) {
        let kvs = value_bytes
            .iter()
            .map(|size| KeyValue { value: vec![7; *size].into(), ..Default::default() })
            .collect();
        let header = Some(ResponseHeader { revision: 9, ..Default::default() });
        let response = RangeResponse { header, kvs, more: true, count: 40 };
        let messages: Vec<RangeResponse> = Chunks::new(response, chunk_bytes)
            .map(|message| message.unwrap().range_response.unwrap())
            .collect();
        let sizes: Vec<usize> = messages.iter().map(|message| message.kvs.len()).collect();
        assert_eq!(sizes, expected);
        let (last, others) = messages.split_last().unwrap();
        assert!(last.header.is_some() && last.more && last.count == 40);
        for message in others {
            let kvs = message.kvs.clone();
            assert_eq!(*message, RangeResponse { kvs, ..Default::default() });
        }
    }

    #[test]
    fn chunks_are_filled_and_the_last_says_the_rest() {
        check(&[], 100, &[0]);
        check(&[10], 100, &[1]);
        check(&[40, 40, 40], 100, &[2, 1]);
        check(&[40, 500, 40, 40], 100, &[1, 1, 2]);
    }
}
