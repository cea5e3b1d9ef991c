//! What reads get that do not say how fresh they have to be: of the member, by the listener that
//! they come in by, and by who asks.

use std::{collections::BTreeMap, time::Duration};

use super::{Error, ListenUrl, Url, Warning, raw::RawConfig, value};
use crate::node::{Bound, Consistency};

const MEMBER: &str = "default-consistency";
const LISTENERS: &str = "listen-consistency";
const IDENTITIES: &str = "identity-consistency";

const STALENESS_MS: &str = "max-staleness-ms";
const STALENESS_REVISIONS: &str = "max-staleness-revisions";

/// Defaults of reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub member: Consistency,
    pub listeners: Vec<(Url, Consistency)>,
    pub identities: BTreeMap<String, Consistency>,
}

impl Defaults {
    /// `None` where the member's counts.
    pub fn of_listener(&self, url: &Url) -> Option<Consistency> {
        self.listeners.iter().find(|(named, _)| named == url).map(|(_, default)| *default)
    }
}

/// `listeners`: all that serve clients' requests.
pub(crate) fn defaults(
    raw: &RawConfig,
    listeners: [&Vec<ListenUrl>; 2],
    warnings: &mut Vec<Warning>,
) -> Result<Defaults, Error> {
    let wrong = |flag: &'static str| {
        let value = raw.text(flag).to_owned();
        move |why: String| Error::BadConsistency { flag, value: value.clone(), why }
    };
    let member = levels(raw.text(MEMBER)).map_err(wrong(MEMBER))?;
    let member = match member.as_slice() {
        [(None, consistency)] => *consistency,
        _ => return Err(wrong(MEMBER)("expected one level".to_owned())),
    };
    let mut defaults = Defaults { member, ..Defaults::default() };
    for (url, default) in named(raw.text(LISTENERS)).map_err(wrong(LISTENERS))? {
        let url = Url::parse(&url).map_err(|error| wrong(LISTENERS)(error.to_string()))?;
        if !listeners.into_iter().flatten().any(|listener| listener.url == url) {
            let why = format!("{url} is not among --listen-client-urls");
            return Err(wrong(LISTENERS)(why));
        }
        if defaults.of_listener(&url).is_some() {
            return Err(wrong(LISTENERS)(format!("{url} is there twice")));
        }
        defaults.listeners.push((url, default));
    }
    for (name, default) in named(raw.text(IDENTITIES)).map_err(wrong(IDENTITIES))? {
        if defaults.identities.contains_key(&name) {
            return Err(wrong(IDENTITIES)(format!("{name} is there twice")));
        }
        defaults.identities.insert(name, default);
    }
    warnings.extend(weakened(&defaults).map(Warning::WeakReads));
    Ok(defaults)
}

/// As the flags say it.
fn weakened(defaults: &Defaults) -> impl Iterator<Item = String> {
    let is_weak = |default: &Consistency| *default != Consistency::Strong;
    let member = Some(defaults.member).filter(is_weak);
    let member = member.map(|default| format!("--{MEMBER} {default}"));
    let listeners = defaults.listeners.iter().filter(move |(_, default)| is_weak(default));
    let listeners = listeners.map(|(url, default)| format!("--{LISTENERS} {url}={default}"));
    let identities = defaults.identities.iter().filter(move |(_, default)| is_weak(default));
    let identities = identities.map(|(name, default)| format!("--{IDENTITIES} {name}={default}"));
    member.into_iter().chain(listeners).chain(identities)
}

/// Levels that all belong to a name.
fn named(text: &str) -> Result<Vec<(String, Consistency)>, String> {
    let levels = levels(text)?.into_iter().map(|(name, consistency)| match name {
        Some(name) => Ok((name, consistency)),
        None => Err(format!("expected NAME=LEVEL, got {consistency}")),
    });
    levels.collect()
}

/// `LEVEL` or `NAME=LEVEL`, each with the bounds that follow it, all with commas between.
fn levels(text: &str) -> Result<Vec<(Option<String>, Consistency)>, String> {
    let mut found: Vec<(Option<String>, Consistency)> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        // A name may hold anything, a level nothing of this.
        let (name, level) = match word.rsplit_once('=') {
            Some((name @ (STALENESS_MS | STALENESS_REVISIONS), number)) => {
                let last = found.last_mut().map(|(_, consistency)| consistency);
                add_bound(last, name, number)?;
                continue;
            }
            Some(("", _)) => return Err(format!("expected NAME=LEVEL, got {word:?}")),
            Some((name, level)) => (Some(name.to_owned()), level),
            None => (None, word),
        };
        found.push((name, consistency(level)?));
    }
    match found.iter().find(|(_, it)| *it == Consistency::Bounded(Bound::default())) {
        Some(_) => Err(format!("bounded needs {STALENESS_MS} or {STALENESS_REVISIONS} behind it")),
        None => Ok(found),
    }
}

fn consistency(level: &str) -> Result<Consistency, String> {
    match level {
        "strong" => Ok(Consistency::Strong),
        "bounded" => Ok(Consistency::Bounded(Bound::default())),
        "session" => Ok(Consistency::Session),
        "prefix" => Ok(Consistency::Prefix),
        "eventual" => Ok(Consistency::Eventual),
        _ => Err(format!("{level:?} is not a level: strong, bounded, session, prefix or eventual")),
    }
}

fn add_bound(last: Option<&mut Consistency>, name: &str, number: &str) -> Result<(), String> {
    let Some(Consistency::Bounded(bound)) = last else {
        return Err(format!("{name} belongs behind bounded"));
    };
    let number = value::count(number).map_err(|wrong| format!("{name}={number}: {wrong}"))?;
    let is_first = match name {
        STALENESS_MS => bound.time.replace(Duration::from_millis(number)).is_none(),
        _ => bound.revisions.replace(number).is_none(),
    };
    if is_first { Ok(()) } else { Err(format!("{name} is there twice")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Asked, Config};

    fn read(arguments: &str) -> Result<(Defaults, Vec<Warning>), Error> {
        let arguments = arguments.split_whitespace().map(std::ffi::OsString::from);
        match Config::read(arguments, [])? {
            Asked::Serve(config, warnings) => Ok((config.consistency, warnings)),
            Asked::Print(text) => panic!("{text}"),
        }
    }

    fn bounded(ms: Option<u64>, revisions: Option<u64>) -> Consistency {
        Consistency::Bounded(Bound { time: ms.map(Duration::from_millis), revisions })
    }

    #[test]
    fn reads_are_strong_by_default() {
        assert_eq!(read("").unwrap(), (Defaults::default(), vec![]));
        assert_eq!(read("--default-consistency=strong").unwrap(), (Defaults::default(), vec![]));
    }

    #[test]
    fn a_default_has_a_level_and_its_bounds() {
        for (value, expected) in [
            ("bounded,max-staleness-ms=5000", bounded(Some(5000), None)),
            ("bounded,max-staleness-revisions=100", bounded(None, Some(100))),
            (
                "bounded,max-staleness-ms=5000,max-staleness-revisions=100",
                bounded(Some(5000), Some(100)),
            ),
            ("session", Consistency::Session),
            ("prefix", Consistency::Prefix),
            ("eventual", Consistency::Eventual),
        ] {
            let (defaults, warnings) = read(&format!("--default-consistency={value}")).unwrap();
            assert_eq!(defaults.member, expected, "{value}");
            let flag = format!("--default-consistency {value}");
            assert_eq!(warnings, [Warning::WeakReads(flag)]);
        }
    }

    #[test]
    fn listeners_and_identities_have_their_own() {
        let urls = "--listen-client-urls=http://127.0.0.1:1,http://127.0.0.1:2 \
                    --advertise-client-urls=http://127.0.0.1:1";
        let (defaults, warnings) = read(&format!(
            "{urls} --listen-consistency=http://127.0.0.1:2=bounded,max-staleness-ms=5,\
             http://127.0.0.1:1=strong --identity-consistency \
             system:node:a=prefix,CN=b=bounded,max-staleness-revisions=7,max-staleness-ms=0"
        ))
        .unwrap();
        let of = |url: &str| defaults.of_listener(&Url::parse(url).unwrap());
        assert_eq!(of("http://127.0.0.1:1"), Some(Consistency::Strong));
        assert_eq!(of("http://127.0.0.1:2"), Some(bounded(Some(5), None)));
        assert_eq!(of("http://127.0.0.1:3"), None);
        let identities = [
            ("CN=b".to_owned(), bounded(Some(0), Some(7))),
            ("system:node:a".to_owned(), Consistency::Prefix),
        ];
        assert_eq!(defaults.identities, identities.into());
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_flag_and_its_value() {
        for (flag, value, why) in [
            (MEMBER, "", "expected one level"),
            (MEMBER, "strong,prefix", "expected one level"),
            (MEMBER, "a=strong", "expected one level"),
            (
                MEMBER,
                "Strong",
                "\"Strong\" is not a level: strong, bounded, session, prefix or eventual",
            ),
            (
                MEMBER,
                "bounded",
                "bounded needs max-staleness-ms or max-staleness-revisions behind it",
            ),
            (MEMBER, "prefix,max-staleness-ms=5", "max-staleness-ms belongs behind bounded"),
            (MEMBER, "max-staleness-ms=5", "max-staleness-ms belongs behind bounded"),
            (MEMBER, "bounded,max-staleness-ms=5s", "max-staleness-ms=5s: parse error"),
            (
                MEMBER,
                "bounded,max-staleness-ms=5,max-staleness-ms=6",
                "max-staleness-ms is there twice",
            ),
            (LISTENERS, "prefix", "expected NAME=LEVEL, got prefix"),
            (LISTENERS, "=prefix", "expected NAME=LEVEL, got \"=prefix\""),
            (LISTENERS, "a=prefix", "URL scheme must be http, https, unix, or unixs: a"),
            (
                LISTENERS,
                "http://localhost:1=prefix",
                "http://localhost:1 is not among --listen-client-urls",
            ),
            (
                LISTENERS,
                "http://localhost:2379=prefix,http://localhost:2379=strong",
                "http://localhost:2379 is there twice",
            ),
            (IDENTITIES, "a=prefix,a=strong", "a is there twice"),
            (IDENTITIES, "a", "\"a\" is not a level: strong, bounded, session, prefix or eventual"),
        ] {
            let refused = read(&format!("--{flag}={value}")).unwrap_err().to_string();
            assert_eq!(refused, format!("invalid value {value:?} for --{flag}: {why}"));
        }
    }
}
