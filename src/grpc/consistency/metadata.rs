//! What clients say of consistency in the metadata of a call, in our words or in Cosmos DB's.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{Token, Wrong};
use crate::{node::Bound, types::Level};

const LEVEL: &str = "x-consistency";
/// Cosmos DB's names for the same.
const COSMOS_LEVEL: &str = "x-ms-consistency-level";
const COSMOS_STRATEGY: &str = "x-ms-cosmos-read-consistency-strategy";
const STALENESS_MS: &str = "x-max-staleness-ms";
const STALENESS_REVISIONS: &str = "x-max-staleness-revisions";
const MIN_REVISION: &str = "x-min-revision";
const COSMOS_TOKEN: &str = "x-ms-session-token";

/// All of the names begin so, and none of those that gRPC clients send of their own accord.
const PREFIX: &str = "x-";

/// A value that makes no sense is shown up to here.
const SHOWN_CHARS_MAX: usize = 64;

/// What a client asks for by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Level(Level),
    LatestCommitted,
}

/// What one call says. Nothing of it need be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) word: Option<Word>,
    pub(super) bound: Option<Bound>,
    pub(super) token: Option<Token>,
}

/// Whether there can be anything of interest among the headers.
pub(super) fn says_something(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

impl Said {
    /// # Errors
    /// A value makes no sense, or two of them contradict each other.
    pub(super) fn read(headers: &HeaderMap) -> Result<Said, Wrong> {
        let (mut word, mut token, mut time, mut revisions) = (None, None, None, None);
        for (name, value) in headers {
            match name.as_str() {
                LEVEL => once(LEVEL, &mut word, level(LEVEL, value)?)?,
                COSMOS_LEVEL => once(LEVEL, &mut word, level(COSMOS_LEVEL, value)?)?,
                COSMOS_STRATEGY => once(LEVEL, &mut word, level(COSMOS_STRATEGY, value)?)?,
                STALENESS_MS => once(STALENESS_MS, &mut time, number(STALENESS_MS, value)?)?,
                STALENESS_REVISIONS => {
                    let number = number(STALENESS_REVISIONS, value)?;
                    once(STALENESS_REVISIONS, &mut revisions, number)?;
                }
                MIN_REVISION => once(MIN_REVISION, &mut token, seen(MIN_REVISION, value)?)?,
                COSMOS_TOKEN => once(MIN_REVISION, &mut token, seen(COSMOS_TOKEN, value)?)?,
                _ => {}
            }
        }
        let bound = Bound { time: time.map(Duration::from_millis), revisions };
        let bound = (bound != Bound::default()).then_some(bound);
        Ok(Said { word: word.flatten(), bound, token })
    }
}

/// Proxies may repeat what a client says, but not turn it round.
fn once<T: PartialEq>(what: &'static str, known: &mut Option<T>, value: T) -> Result<(), Wrong> {
    match known {
        Some(known) if *known != value => Err(Wrong::SaidTwice(what)),
        Some(_) => Ok(()),
        None => {
            *known = Some(value);
            Ok(())
        }
    }
}

fn text<'a>(header: &'static str, value: &'a HeaderValue) -> Result<&'a str, Wrong> {
    value.to_str().map(str::trim).map_err(|_| Wrong::NotText(header))
}

fn shown(value: &str) -> String {
    value.chars().take(SHOWN_CHARS_MAX).collect()
}

/// `None` stands for the default. Cosmos DB writes its words together and in capitals.
fn level(header: &'static str, value: &HeaderValue) -> Result<Option<Word>, Wrong> {
    let value = text(header, value)?;
    let word = match value.to_ascii_lowercase().as_str() {
        "default" => return Ok(None),
        "strong" | "globalstrong" => Word::Level(Level::Strong),
        "bounded" | "boundedstaleness" => Word::Level(Level::Bounded),
        "session" => Word::Level(Level::Session),
        "prefix" | "consistentprefix" => Word::Level(Level::Prefix),
        "eventual" => Word::Level(Level::Eventual),
        "latest-committed" | "latestcommitted" => Word::LatestCommitted,
        _ => return Err(Wrong::NotALevel { header, value: shown(value) }),
    };
    Ok(Some(word))
}

fn number(header: &'static str, value: &HeaderValue) -> Result<u64, Wrong> {
    let value = text(header, value)?;
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Wrong::NotANumber { header, value: shown(value) })
}

fn seen(header: &'static str, value: &HeaderValue) -> Result<Token, Wrong> {
    let value = text(header, value)?;
    Token::parse(value).ok_or_else(|| Wrong::NotAToken { header, value: shown(value) })
}

/// How long to try, so that a client that gives up after its `grpc-timeout` has heard why before:
/// seven eighths of that. `None` when it does not say.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout - timeout / 8)
}
