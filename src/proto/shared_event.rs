//! An event as watchers share it: held once, encoded once, sent many times.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

use super::mvccpb::Event;

/// An [`Event`] behind a counted reference, with its encoding beside it.
///
/// Takes the place of `mvccpb.Event` in `WatchResponse`, so that a response to a thousand watchers
/// copies bytes instead of encoding the same event a thousand times.
#[derive(Clone, Default)]
pub struct SharedEvent(Arc<Inner>);

#[derive(Default)]
struct Inner {
    event: Event,
    encoded: Bytes,
}

impl SharedEvent {
    pub fn new(event: Event) -> SharedEvent {
        let encoded = Bytes::from(event.encode_to_vec());
        SharedEvent(Arc::new(Inner { event, encoded }))
    }
}

impl Deref for SharedEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.0.event
    }
}

impl fmt::Debug for SharedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.event.fmt(f)
    }
}

impl PartialEq for SharedEvent {
    fn eq(&self, other: &SharedEvent) -> bool {
        self.0.event == other.0.event
    }
}

impl Message for SharedEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // Only clients decode events, field by field; the encoding is made anew each time.
        let mut event = self.0.event.clone();
        event.merge_field(tag, wire_type, buf, ctx)?;
        *self = SharedEvent::new(event);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded.len()
    }

    fn clear(&mut self) {
        *self = SharedEvent::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb::{KeyValue, event::EventType};

    #[test]
    fn it_travels_as_a_plain_event() {
        let event = Event {
            r#type: EventType::Delete.into(),
            kv: Some(KeyValue { key: "k".into(), mod_revision: 7, ..Default::default() }),
            prev_kv: Some(KeyValue { key: "k".into(), value: "v".into(), ..Default::default() }),
        };
        let shared = SharedEvent::new(event.clone());
        assert_eq!(shared.encode_to_vec(), event.encode_to_vec());
        assert_eq!(*SharedEvent::decode(event.encode_to_vec().as_slice()).unwrap(), event);
    }
}
