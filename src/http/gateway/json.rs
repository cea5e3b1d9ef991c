//! Messages as JSON and back, by the rules of protojson with the options that etcd sets: fields by
//! their names in the `.proto`, nothing that has its default, unknown fields overlooked.

use prost_reflect::{
    DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions, prost::Message,
};
use serde::{Deserialize, Serialize, Serializer, de::IgnoredAny};
use serde_json::error::Category;

const READ: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);

/// Reads the first JSON value as a message of that kind, and returns how it goes over the wire.
///
/// An error is a text for whoever sent it. Texts about fields begin as protojson's, and go on in
/// words of their own: protojson's differ from build to build on purpose.
pub(super) fn read(kind: &MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, String> {
    // The syntax of the whole value comes before the meaning of any field.
    let mut value = serde_json::Deserializer::from_slice(json);
    IgnoredAny::deserialize(&mut value).map_err(|error| bad_syntax(&error, json))?;
    let mut value = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize_with_options(kind.clone(), &mut value, &READ)
        .map(|message| message.encode_to_vec())
        .map_err(|error| format!("proto: {error}"))
}

/// In the words of Go's JSON scanner.
fn bad_syntax(error: &serde_json::Error, json: &[u8]) -> String {
    if error.classify() == Category::Eof {
        return "unexpected EOF".to_owned();
    }
    let text = error.to_string();
    let what = match text.split(" at line ").next().unwrap_or_default() {
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "key must be a string" | "trailing comma" => "looking for beginning of object key string",
        "expected value" => "looking for beginning of value",
        other => return format!("invalid JSON: {other}"),
    };
    match character(error, json) {
        Some(character) => format!("invalid character {} {what}", quoted(character)),
        None => format!("invalid JSON: {text}"),
    }
}

fn quoted(character: char) -> String {
    match character {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The one that an error is about.
fn character(error: &serde_json::Error, json: &[u8]) -> Option<char> {
    let line = json.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let byte = line.get(error.column().checked_sub(1)?)?;
    Some(char::from(*byte))
}

/// Bytes from the wire that are JSON when they are serialized.
pub(super) struct Json(DynamicMessage);

impl Json {
    /// `None` for bytes that are no such message; that would be our bug.
    pub(super) fn of(kind: &MessageDescriptor, message: bytes::Bytes) -> Option<Json> {
        DynamicMessage::decode(kind.clone(), message).ok().map(Json)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(true)
            .skip_default_fields(true);
        self.0.serialize_with_options(serializer, &options)
    }
}

/// Cuts a stream of bytes into the JSON objects that it holds, whatever stands between them.
#[derive(Default)]
pub(super) struct Objects {
    buffer: Vec<u8>,
    /// What of the buffer has been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Objects {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the end of their object.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole object, or the rest of the stream when that cannot become one.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            match (self.in_string, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_string = !self.in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') if self.depth > 1 => self.depth -= 1,
                (false, b'}') if self.depth == 1 => {
                    self.depth = 0;
                    let rest = self.buffer.split_off(self.seen);
                    self.seen = 0;
                    return Some(std::mem::replace(&mut self.buffer, rest));
                }
                (false, byte) if self.depth == 0 && !byte.is_ascii_whitespace() => {
                    return Some(std::mem::take(&mut self.buffer));
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto::{CLIENT_API, etcdserverpb as pb};

    fn kind(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(CLIENT_API).unwrap();
        pool.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap()
    }

    #[track_caller]
    fn reads<M: prost::Message + Default + PartialEq + std::fmt::Debug>(
        name: &str,
        json: &str,
        expected: M,
    ) {
        let bytes = read(&kind(name), json.as_bytes()).unwrap();
        assert_eq!(M::decode(&bytes[..]).unwrap(), expected, "{json}");
    }

    #[test]
    fn a_request_reads_as_protojson_says() {
        let foo = pb::RangeRequest { key: "foo".into(), limit: 2, ..Default::default() };
        for json in [
            r#"{"key":"Zm9v","limit":"2"}"#,
            r#"{"key":"Zm9v","limit":2}"#,
            r#"{"limit":2.0,"key":"Zm9v","no_such_field":{"a":[1]}} and more"#,
            r#"{"key":"Zm9v","limit":2,"sort_order":"NO_SUCH_ORDER","range_end":null}"#,
        ] {
            reads("RangeRequest", json, foo.clone());
        }
        let sorted = pb::RangeRequest { sort_order: 2, keys_only: true, ..Default::default() };
        reads("RangeRequest", r#"{"sort_order":"DESCEND","keysOnly":true}"#, sorted.clone());
        reads("RangeRequest", r#"{"sortOrder":2,"keys_only":true}"#, sorted);
        let odd = pb::RangeRequest { key: vec![0xff, 0xef].into(), ..Default::default() };
        for json in [r#"{"key":"/+8="}"#, r#"{"key":"_-8="}"#, r#"{"key":"_-8"}"#] {
            reads("RangeRequest", json, odd.clone());
        }
        reads(
            "LeaseGrantRequest",
            r#"{"TTL":"-1","ID":7}"#,
            pb::LeaseGrantRequest { ttl: -1, id: 7 },
        );
    }

    #[test]
    fn what_is_no_request_is_told_in_gos_words() {
        for (json, text) in [
            ("{", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{\"key\":\"AA\",}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"key\" \"AA\"}", "invalid character '\"' after object key"),
            ("{\"key\":\"AA\" \"x\"}", "invalid character '\"' after object key:value pair"),
            ("{key:\"AA\"}", "invalid character 'k' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
        ] {
            assert_eq!(read(&kind("RangeRequest"), json.as_bytes()).unwrap_err(), text, "{json}");
        }
        for json in [
            "null",
            "[]",
            r#"{"key":"@@"}"#,
            r#"{"key":7}"#,
            r#"{"limit":"x"}"#,
            r#"{"limit":1.5}"#,
            r#"{"limit":"9223372036854775808"}"#,
            r#"{"serializable":"true"}"#,
        ] {
            let error = read(&kind("RangeRequest"), json.as_bytes()).unwrap_err();
            assert!(error.starts_with("proto: "), "{json}: {error}");
        }
        let both = r#"{"success":[{"request_range":{},"request_put":{}}]}"#;
        assert!(read(&kind("TxnRequest"), both.as_bytes()).is_err());
    }

    #[test]
    fn a_response_is_written_as_etcd_writes_it() {
        let header =
            pb::ResponseHeader { cluster_id: u64::MAX, revision: -1, ..Default::default() };
        let downgrade_info = Some(pb::DowngradeInfo::default());
        let status = pb::StatusResponse {
            header: Some(header),
            db_size: 1 << 53,
            is_learner: true,
            errors: vec!["a<b".to_owned()],
            downgrade_info,
            ..Default::default()
        };
        let json = Json::of(&kind("StatusResponse"), status.encode_to_vec().into()).unwrap();
        let expected = concat!(
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"-1"},"#,
            r#""dbSize":"9007199254740992","errors":["a<b"],"isLearner":true,"downgradeInfo":{}}"#,
        );
        assert_eq!(serde_json::to_string(&json).unwrap(), expected);
        let alarms = vec![
            pb::AlarmMember { member_id: 1, alarm: 2 },
            pb::AlarmMember { member_id: 2, alarm: 77 },
        ];
        let alarms = pb::AlarmResponse { header: None, alarms };
        let json = Json::of(&kind("AlarmResponse"), alarms.encode_to_vec().into()).unwrap();
        let expected =
            r#"{"alarms":[{"memberID":"1","alarm":"CORRUPT"},{"memberID":"2","alarm":77}]}"#;
        assert_eq!(serde_json::to_string(&json).unwrap(), expected);
    }

    #[test]
    fn objects_are_found_wherever_the_stream_is_cut() {
        let stream = br#" {"a":{"b":["}\"]",{}]}}{}
            {"c":1} x{}"#;
        let expected = [r#"{"a":{"b":["}\"]",{}]}}"#, "{}", r#"{"c":1}"#, "x{}"];
        for size in 1..=stream.len() {
            let mut objects = Objects::default();
            let mut found = Vec::new();
            for chunk in stream.chunks(size) {
                objects.push(chunk);
                while let Some(object) = objects.next() {
                    found.push(String::from_utf8(object).unwrap().trim().to_owned());
                }
            }
            // Nothing behind what is no object is looked at.
            assert_eq!(&found[..3], &expected[..3], "chunks of {size}");
            assert!(found[3].starts_with('x'), "chunks of {size}");
        }
    }

    #[test]
    fn an_object_that_does_not_end_is_left_over() {
        let mut objects = Objects::default();
        objects.push(b"{}{\"a\":[}");
        assert_eq!(objects.next().unwrap(), b"{}");
        assert_eq!(objects.next(), None);
        assert_eq!(objects.waiting(), 7);
    }
}
