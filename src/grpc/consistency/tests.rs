//! What a request may say of its consistency, and what comes of it.

use http::{HeaderName, HeaderValue};

use super::*;
use crate::{node::Bound, types::ClusterId};

fn bounded(ms: Option<u64>, revisions: Option<u64>) -> Consistency {
    Consistency::Bounded(Bound { time: ms.map(Duration::from_millis), revisions })
}

/// Headers as text, `name: value` with commas between.
fn headers(text: &str) -> HeaderMap {
    let headers = text.split(", ").filter(|it| !it.is_empty()).map(|header| {
        let (name, value) = header.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    });
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    map
}

fn read(text: &str, default: Consistency, serializable: bool) -> Result<Asked, Wrong> {
    let headers = headers(text);
    asked(&Said::read(&headers)?, default, serializable, metadata::patience(&headers))
}

#[track_caller]
fn check(text: &str, default: Consistency, serializable: bool, level: Level, fresh: Freshness) {
    let asked = read(text, default, serializable).unwrap();
    assert_eq!((asked.level, asked.freshness), (level, fresh), "{text} by default {default}");
}

fn within(ms: u64) -> Freshness {
    Freshness::Within(Bound { time: Some(Duration::from_millis(ms)), revisions: None })
}

fn at_least(revision: i64) -> Freshness {
    Freshness::AtLeast(Revision::from_wire(revision).unwrap())
}

#[test]
fn each_level_has_its_words_and_those_of_cosmos_db() {
    for (text, level, fresh) in [
        ("x-consistency: strong", Level::Strong, Freshness::Linearizable),
        ("x-ms-consistency-level: Strong", Level::Strong, Freshness::Linearizable),
        (
            "x-ms-cosmos-read-consistency-strategy: GlobalStrong",
            Level::Strong,
            Freshness::Linearizable,
        ),
        ("x-consistency: latest-committed", Level::Strong, Freshness::Linearizable),
        ("x-consistency: bounded, x-max-staleness-ms: 500", Level::Bounded, within(500)),
        (
            "x-ms-consistency-level: BoundedStaleness, x-max-staleness-ms: 500",
            Level::Bounded,
            within(500),
        ),
        ("x-max-staleness-ms: 0", Level::Bounded, within(0)),
        ("x-consistency: session, x-min-revision: 7", Level::Session, at_least(7)),
        ("x-min-revision: 7", Level::Session, at_least(7)),
        ("x-ms-session-token: a:0:7", Level::Session, at_least(7)),
        ("x-consistency: session", Level::Session, Freshness::Any),
        ("x-consistency: session, x-min-revision: 0", Level::Session, Freshness::Any),
        ("x-consistency: prefix", Level::Prefix, Freshness::Any),
        ("x-ms-consistency-level: ConsistentPrefix", Level::Prefix, Freshness::Any),
        ("x-consistency: prefix, x-min-revision: 7", Level::Session, at_least(7)),
        ("x-consistency: Eventual", Level::Eventual, Freshness::Any),
        ("x-consistency: default", Level::Strong, Freshness::Linearizable),
        ("x-forwarded-for: 10.0.0.1", Level::Strong, Freshness::Linearizable),
    ] {
        check(text, Consistency::Strong, false, level, fresh);
    }
}

#[test]
fn a_request_that_says_nothing_gets_the_default() {
    let check =
        |default, serializable, level, fresh| check("", default, serializable, level, fresh);
    check(Consistency::Strong, false, Level::Strong, Freshness::Linearizable);
    check(Consistency::Strong, true, Level::Prefix, Freshness::Any);
    check(bounded(Some(5), None), false, Level::Bounded, within(5));
    check(bounded(Some(5), None), true, Level::Prefix, Freshness::Any);
    check(Consistency::Session, false, Level::Session, Freshness::Any);
    check(Consistency::Prefix, false, Level::Prefix, Freshness::Any);
    check(Consistency::Eventual, false, Level::Eventual, Freshness::Any);
    check(Consistency::Eventual, true, Level::Eventual, Freshness::Any);
    let plain = |serializable| Asked { is_told: true, ..Asked::plainly(serializable) };
    for serializable in [true, false] {
        assert_eq!(read("", Consistency::Strong, serializable), Ok(plain(serializable)));
    }
}

#[test]
fn a_word_in_the_metadata_counts_more_than_the_request() {
    let strong = Consistency::Strong;
    check("x-consistency: strong", strong, true, Level::Strong, Freshness::Linearizable);
    check("x-max-staleness-ms: 5", strong, true, Level::Bounded, within(5));
    check("x-min-revision: 9", strong, true, Level::Session, at_least(9));
}

#[test]
fn a_request_may_relax_its_default() {
    let default = bounded(Some(500), Some(100));
    check("x-consistency: bounded", default, false, Level::Bounded, freshness(default, None));
    check("x-max-staleness-ms: 500", default, false, Level::Bounded, within(500));
    check("x-max-staleness-ms: 9000", default, false, Level::Bounded, within(9000));
    check("x-min-revision: 3", default, false, Level::Session, at_least(3));
    check("x-consistency: eventual", default, false, Level::Eventual, Freshness::Any);
}

#[test]
fn a_request_may_not_exceed_its_default_but_for_what_is_committed() {
    for (text, default, asked) in [
        ("x-consistency: strong", bounded(Some(5), None), "strong"),
        ("x-consistency: strong", Consistency::Eventual, "strong"),
        ("x-max-staleness-ms: 4", bounded(Some(5), None), "bounded,max-staleness-ms=4"),
        ("x-max-staleness-ms: 4", Consistency::Session, "bounded,max-staleness-ms=4"),
        (
            "x-max-staleness-revisions: 4",
            bounded(Some(5), None),
            "bounded,max-staleness-revisions=4",
        ),
        ("x-min-revision: 4", Consistency::Prefix, "session"),
        ("x-consistency: prefix", Consistency::Eventual, "prefix"),
    ] {
        let refused = read(text, default, false).unwrap_err().to_string();
        let expected = format!(
            "the request asks for {asked}, which is stronger than what this client gets here \
             ({default}); a request may only ask for less, or for latest-committed"
        );
        assert_eq!(refused, expected, "{text}");
    }
    let committed = "x-ms-cosmos-read-consistency-strategy: LatestCommitted";
    check(committed, Consistency::Eventual, false, Level::Strong, Freshness::Linearizable);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_header_and_the_value() {
    for (text, expected) in [
        (
            "x-consistency: quorum",
            "x-consistency: \"quorum\" is not a level (strong, bounded, session, prefix, eventual \
             or latest-committed)",
        ),
        (
            "x-ms-consistency-level: ",
            "x-ms-consistency-level: \"\" is not a level (strong, bounded, session, prefix, \
             eventual or latest-committed)",
        ),
        ("x-max-staleness-ms: -1", "x-max-staleness-ms: \"-1\" is not a whole number from 0 on"),
        (
            "x-max-staleness-ms: 18446744073709551616",
            "x-max-staleness-ms: \"18446744073709551616\" is not a whole number from 0 on",
        ),
        (
            "x-max-staleness-revisions: 1e3",
            "x-max-staleness-revisions: \"1e3\" is not a whole number from 0 on",
        ),
        (
            "x-min-revision: newest",
            "x-min-revision: \"newest\" is neither a revision nor a session token \
             (cluster:epoch:revision)",
        ),
        (
            "x-ms-session-token: 0:-1#12",
            "x-ms-session-token: \"0:-1#12\" is neither a revision nor a session token \
             (cluster:epoch:revision)",
        ),
        (
            "x-consistency: strong, x-ms-consistency-level: Eventual",
            "x-consistency is there more than once, or under two names, with different values",
        ),
        (
            "x-min-revision: 4, x-ms-session-token: 1:0:4",
            "x-min-revision is there more than once, or under two names, with different values",
        ),
        (
            "x-consistency: bounded",
            "x-consistency: bounded says nothing without x-max-staleness-ms or \
             x-max-staleness-revisions",
        ),
        (
            "x-consistency: strong, x-max-staleness-ms: 5",
            "x-max-staleness-ms and x-max-staleness-revisions are for bounded reads, not strong \
             ones",
        ),
    ] {
        let refused = read(text, Consistency::Strong, false).unwrap_err().to_string();
        assert_eq!(refused, expected, "{text}");
    }
    check(
        "x-consistency: strong, x-ms-consistency-level: Strong",
        Consistency::Strong,
        false,
        Level::Strong,
        Freshness::Linearizable,
    );
    let mut binary = HeaderMap::new();
    binary.insert("x-consistency", HeaderValue::from_bytes(&[0xff, 0xfe]).unwrap());
    assert_eq!(Said::read(&binary), Err(Wrong::NotText("x-consistency")));
    let long = format!("x-consistency: {}", "a".repeat(10_000));
    assert!(read(&long, Consistency::Strong, false).unwrap_err().to_string().len() < 200);
}

/// A session may be as strong as its default allows, and sees what it has seen in any case.
#[test]
fn a_session_token_beside_another_level_holds_as_well() {
    for text in
        ["x-consistency: strong, x-min-revision: 8", "x-max-staleness-ms: 5, x-min-revision: 8"]
    {
        let asked = read(text, Consistency::Strong, false).unwrap();
        assert_eq!(asked.floor, Revision::from_wire(8), "{text}");
    }
    assert_eq!(read("x-min-revision: 8", Consistency::Strong, false).unwrap().floor, None);
    let prefix_by_default = read("x-min-revision: 8", bounded(Some(1), None), false).unwrap();
    assert_eq!(prefix_by_default.freshness, at_least(8));
    let token = Said::read(&headers("x-ms-session-token: a:1:8")).unwrap().token.unwrap();
    assert_eq!(token.check(ClusterId(10), 0), Err(Wrong::OtherEpoch));
}

#[test]
fn a_member_gives_up_before_its_client_does() {
    let patience = |value: &str| metadata::patience(&headers(&format!("grpc-timeout: {value}")));
    for (value, ms) in [("8S", 7000), ("800m", 700), ("1H", 3_150_000), ("8000000u", 7000)] {
        assert_eq!(patience(value), Some(Duration::from_millis(ms)), "{value}");
    }
    for value in ["", "8", "S", "-1S", "8 S", "8é", "99999999999999999999S", "5124095576030432H"] {
        assert_eq!(patience(value), None, "{value}");
    }
    assert_eq!(metadata::patience(&HeaderMap::new()), None);
}
