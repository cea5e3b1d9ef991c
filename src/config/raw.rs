//! The settings as given: flags and environment, each value known to be of its flag's kind.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use super::{
    Error, Warning, duration,
    flags::{self, Effect, FLAGS, Flag, Kind, OWN, REMOVED},
};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    Version,
    Serve(RawConfig),
}

#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    /// Flags that were set, by whichever means.
    set: BTreeMap<&'static str, String>,
    pub(crate) warnings: Vec<Warning>,
}

/// Reads the arguments behind the program's name, in the forms that Go's `flag` package takes:
/// `--flag value`, `--flag=value`, the same with one dash, and `--flag` for what is yes or no.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Asked, Error> {
    let mut raw = RawConfig::default();
    let mut version = false;
    let mut arguments = arguments.into_iter().map(|argument| {
        argument.into_string().map_err(|lost| Error::NotText(lost.to_string_lossy().into_owned()))
    });
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        let name = match argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) {
            None | Some("") if argument == "--" => break,
            None | Some("") => return Err(Error::NotAFlag(argument)),
            Some(name) if name.starts_with(['-', '=']) => return Err(Error::BadSyntax(argument)),
            Some(name) => name,
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        match name {
            "help" | "h" => return Ok(Asked::Help),
            "version" => version = yes_or_no("--version", value.as_deref().unwrap_or("true"))?,
            "config-file" => {
                let value = value.map_or_else(|| arguments.next().transpose(), |v| Ok(Some(v)))?;
                return Err(config_file("--config-file", value.unwrap_or_default()));
            }
            _ => {
                let flag = flags::find(name).ok_or(Error::UnknownFlag(argument.clone()))?;
                let value = match (value, flag.kind) {
                    (Some(value), _) => value,
                    (None, Kind::Bool | Kind::Anything) => "true".to_owned(),
                    (None, _) => arguments.next().ok_or(Error::NoValue(flag.name))??,
                };
                raw.set(flag, value, format!("--{}", flag.name))?;
            }
        }
    }
    if let Some(rest) = arguments.next() {
        return Err(Error::NotAFlag(rest?));
    }
    if version {
        return Ok(Asked::Version);
    }
    raw.read_environment(environment)?;
    raw.note_what_has_no_effect();
    Ok(Asked::Serve(raw))
}

/// A file replaces all flags, so starting without it would start something else.
fn config_file(setting: &str, value: String) -> Error {
    Error::NotYet { flag: setting.to_owned(), value }
}

impl RawConfig {
    fn set(&mut self, flag: &'static Flag, value: String, setting: String) -> Result<(), Error> {
        if let Err(why) = check(flag.kind, &value) {
            return Err(Error::BadValue { setting, value, why: why.to_owned() });
        }
        if flag.effect == Effect::NotYet && !is_default(flag, &value) {
            return Err(Error::NotYet { flag: setting, value });
        }
        self.set.insert(flag.name, value);
        Ok(())
    }

    /// `ETCD_*` variables set what no flag has set; a flag and its variable together are an error,
    /// as in etcd, and a variable that belongs to no flag is only worth a warning.
    fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), Error> {
        let by_variable: BTreeMap<String, &'static Flag> =
            FLAGS.iter().chain(OWN).chain(REMOVED).map(|flag| (flag.variable(), flag)).collect();
        let mut found = BTreeMap::new();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            if name.starts_with("ETCD_") {
                found.insert(name, value);
            }
        }
        for (name, value) in found {
            let value = value.into_string().map_err(|_| Error::NotText(name.clone()))?;
            match by_variable.get(&name) {
                Some(flag) if self.set.contains_key(flag.name) => {
                    return Err(Error::Shadowed(name));
                }
                Some(_) if value.is_empty() => (),
                Some(flag) => self.set(flag, value, name)?,
                None if name == "ETCD_CONFIG_FILE" && !value.is_empty() => {
                    return Err(config_file(&name, value));
                }
                None if name == "ETCD_CONFIG_FILE" => (),
                None => self.warnings.push(Warning::UnknownVariable(name)),
            }
        }
        Ok(())
    }

    fn note_what_has_no_effect(&mut self) {
        let says_something = |(name, value): (&&'static str, &String)| {
            let flag = flags::find(name)?;
            match flag.effect {
                Effect::Inert => !is_default(flag, value),
                Effect::Removed => true,
                Effect::Acts | Effect::NotYet => false,
            }
            .then(|| format!("--{name}"))
        };
        let flags: Vec<String> = self.set.iter().filter_map(says_something).collect();
        if !flags.is_empty() {
            self.warnings.push(Warning::NoEffect(flags));
        }
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The value as given, or the default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(value) => value,
            None => flags::find(name).expect("asked for by its name in the table").default,
        }
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        parse_bool(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        parse_count(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        parse_number(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn duration(&self, name: &str) -> Duration {
        duration::parse(self.text(name)).expect(CHECKED)
    }
}

const CHECKED: &str = "values are checked when they are set, defaults by a test";

/// Whether a text is a value of that kind, and if not, what one would look like.
pub(crate) fn check(kind: Kind, value: &str) -> Result<(), &'static str> {
    let (fits, wanted) = match kind {
        Kind::Text | Kind::Urls | Kind::Anything => (true, ""),
        Kind::Bool => (parse_bool(value).is_some(), "expected true or false"),
        Kind::Count => (parse_count(value).is_some(), "expected a whole number from 0 on"),
        Kind::Number => (parse_number(value).is_some(), "expected a whole number"),
        Kind::Duration => {
            (duration::parse(value).is_some(), "expected a duration such as 300ms or 1h30m")
        }
    };
    if fits { Ok(()) } else { Err(wanted) }
}

/// Whether a value says the same as the flag's default.
fn is_default(flag: &Flag, value: &str) -> bool {
    let default = flag.default;
    match flag.kind {
        Kind::Text | Kind::Urls | Kind::Anything => value == default,
        Kind::Bool => parse_bool(value) == parse_bool(default),
        Kind::Count => parse_count(value) == parse_count(default),
        Kind::Number => parse_number(value) == parse_number(default),
        Kind::Duration => duration::parse(value) == duration::parse(default),
    }
}

fn yes_or_no(setting: &str, value: &str) -> Result<bool, Error> {
    parse_bool(value).ok_or_else(|| Error::BadValue {
        setting: setting.to_owned(),
        value: value.to_owned(),
        why: "expected true or false".to_owned(),
    })
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal, or with a prefix `0x`, `0o`, `0b`.
fn parse_count(text: &str) -> Option<u64> {
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        _ => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn parse_number(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(parse_count(digits)?),
        None => i64::try_from(parse_count(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

#[cfg(test)]
mod tests;
