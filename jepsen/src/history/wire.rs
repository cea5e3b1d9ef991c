//! Messages of the protocol in a history's file: exact as base64, and as text for people.

use std::fmt::Debug;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default)]
    text: String,
    wire: String,
}

fn write<M: Message + Debug>(message: &M) -> Written {
    let wire = BASE64_STANDARD.encode(message.encode_to_vec());
    Written { text: format!("{message:?}"), wire }
}

fn read<M: Message + Default, E: Error>(written: &Written) -> Result<M, E> {
    let bytes = BASE64_STANDARD.decode(&written.wire).map_err(E::custom)?;
    M::decode(bytes.as_slice()).map_err(E::custom)
}

pub(super) fn serialize<M: Message + Debug, S: Serializer>(
    message: &M,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    write(message).serialize(serializer)
}

pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<M, D::Error> {
    read(&Written::deserialize(deserializer)?)
}

/// Messages, each with the time of its arrival.
pub(super) mod timed {
    use super::{
        Debug, Deserialize, Deserializer, Message, Serialize, Serializer, Written, read, write,
    };
    use crate::history::Nanos;

    pub(crate) fn serialize<M: Message + Debug, S: Serializer>(
        messages: &[(Nanos, M)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let written: Vec<_> = messages.iter().map(|(at, message)| (at, write(message))).collect();
        written.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Nanos, M)>, D::Error> {
        let written: Vec<(Nanos, Written)> = Vec::deserialize(deserializer)?;
        written.iter().map(|(at, message)| Ok((*at, read(message)?))).collect()
    }
}
