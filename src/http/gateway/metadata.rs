//! Headers of HTTP as metadata of a call, and back.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine, engine::general_purpose};
use tonic::{Code, metadata::MetadataMap};

use super::failure::Failure;

/// Begins headers that are metadata, both ways.
const METADATA: &str = "grpc-metadata-";

/// Begins metadata that HTTP itself knows.
const PERMANENT: &str = "grpcgateway-";

/// Headers that a call gets to see with [`PERMANENT`] before them.
const PERMANENT_HEADERS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "warning",
];

/// What belongs to gRPC itself, which no client sets.
const RESERVED: &[&str] = &[
    "connection",
    "content-type",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-status",
    "grpc-status-details-bin",
    "grpc-timeout",
    "te",
    "transfer-encoding",
    "user-agent",
];

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What a call is told of the request that asked for it.
pub(super) fn of_request(headers: &HeaderMap) -> Result<MetadataMap, Failure> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let permanent = PERMANENT_HEADERS.contains(&name.as_str());
        if *name == header::AUTHORIZATION {
            metadata.append(header::AUTHORIZATION, value.clone());
        }
        let told = match name.as_str().strip_prefix(METADATA) {
            Some(told) if !RESERVED.contains(&told) => told.to_owned(),
            None if permanent => format!("{PERMANENT}{name}"),
            Some(_) | None => continue,
        };
        // Names of headers with their first few bytes taken away may be no names any more.
        let Ok(told) = HeaderName::try_from(told) else { continue };
        if told.as_str().ends_with("-bin") {
            check_base64(name, value)?;
        } else if !value.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
            continue;
        }
        metadata.append(told, value.clone());
    }
    if let Some(host) = headers.get(&FORWARDED_HOST).or_else(|| headers.get(header::HOST)) {
        metadata.insert(FORWARDED_HOST, host.clone());
    }
    if let Some(from) = headers.get(&FORWARDED_FOR) {
        metadata.insert(FORWARDED_FOR, from.clone());
    }
    Ok(MetadataMap::from_headers(metadata))
}

fn check_base64(name: &HeaderName, value: &HeaderValue) -> Result<(), Failure> {
    let engine = if value.len().is_multiple_of(4) {
        general_purpose::STANDARD
    } else {
        general_purpose::STANDARD_NO_PAD
    };
    match engine.decode(value) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("invalid binary header {name}: illegal base64 data: {error}");
            Err(Failure::new(Code::InvalidArgument, message))
        }
    }
}

/// How long the call may take, if the client says so.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("grpc-timeout").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let parsed = parse_timeout(&text).ok_or_else(|| {
        Failure::new(Code::InvalidArgument, format!("invalid grpc-timeout: {text}"))
    })?;
    Ok(Some(parsed).filter(|timeout| !timeout.is_zero()))
}

/// A whole number and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    let number = number.parse::<i64>().ok()?.max(0).unsigned_abs();
    Some(Duration::from_nanos(number.saturating_mul(nanos)))
}

/// What the answer of a call says besides its message.
pub(super) fn to_response(metadata: &MetadataMap, headers: &mut HeaderMap) {
    for (name, value) in metadata.as_ref() {
        // tonic puts what came behind the message among what came before it.
        if RESERVED.contains(&name.as_str()) && *name != header::CONTENT_TYPE {
            continue;
        }
        if let Ok(name) = HeaderName::try_from(format!("{METADATA}{name}")) {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        of.iter().map(pair).collect()
    }

    #[test]
    fn a_call_is_told_what_is_meant_for_it() {
        let request = headers(&[
            ("host", "somewhere:2379"),
            ("authorization", "a.7"),
            ("accept", "*/*"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-token", "b.8"),
            ("grpc-metadata-te", "gzip"),
            ("grpc-metadata-x-bin", "/+8"),
            ("x-of-my-own", "1"),
        ]);
        let metadata = of_request(&request).unwrap().into_headers();
        let expected = headers(&[
            ("authorization", "a.7"),
            ("grpcgateway-authorization", "a.7"),
            ("grpcgateway-host", "somewhere:2379"),
            ("grpcgateway-accept", "*/*"),
            ("hasleader", "true"),
            ("token", "b.8"),
            ("x-bin", "/+8"),
            ("x-forwarded-host", "somewhere:2379"),
        ]);
        assert_eq!(metadata, expected);
        let bad = of_request(&headers(&[("grpc-metadata-x-bin", "***")]));
        assert_eq!(bad.unwrap_err().status(), 400);
    }

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        for (text, nanos) in [
            ("1n", Some(1)),
            ("2u", Some(2_000)),
            ("3m", Some(3_000_000)),
            ("4S", Some(4_000_000_000)),
            ("1M", Some(60_000_000_000)),
            ("1H", Some(3_600_000_000_000)),
            ("9223372036854775807H", Some(u64::MAX)),
            ("-1S", Some(0)),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1é", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text), nanos.map(Duration::from_nanos), "{text}");
        }
        assert!(timeout(&headers(&[("grpc-timeout", "x")])).is_err());
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn an_answer_says_what_its_call_said() {
        let metadata = headers(&[
            ("content-type", "application/grpc"),
            ("grpc-status", "0"),
            ("x-applied-revision", "7"),
        ]);
        let mut told = HeaderMap::new();
        to_response(&MetadataMap::from_headers(metadata), &mut told);
        let expected = headers(&[
            ("grpc-metadata-content-type", "application/grpc"),
            ("grpc-metadata-x-applied-revision", "7"),
        ]);
        assert_eq!(told, expected);
    }
}
