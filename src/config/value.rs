//! How the text of a value is read, as Go's flag package reads it, with its words for what is
//! wrong.

use super::{Features, duration, url};
use crate::region;

/// The kind of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bool,
    /// A whole number from 0 on.
    Count,
    /// A whole number from 0 on that fits 32 bits.
    Count32,
    /// A whole number.
    Number,
    /// As Go writes them: `300ms`, `1h30m`.
    Duration,
    /// URLs with commas between them.
    Urls,
    /// URLs with commas between them, or `*`.
    Origins,
    /// Words with commas between them; in a file, a list.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Words with commas between them, all of them from this list.
    Choices(&'static [&'static str]),
    /// Features to switch, `Name=true,Name=false`.
    Gates,
    /// The name of a region or a zone, or nothing.
    Label,
    /// Needs no value and takes any: flags that etcd itself ignores.
    Anything,
}

impl Kind {
    /// Whether the flag alone, without a value, means yes.
    pub(crate) fn needs_no_value(self) -> bool {
        matches!(self, Kind::Bool | Kind::Anything)
    }
}

/// Whether a text is a value of that kind, and if not, why.
pub(crate) fn check(kind: Kind, value: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::List | Kind::Anything => Ok(()),
        Kind::Bool => bool(value).map(drop).ok_or_else(|| SYNTAX.to_owned()),
        Kind::Count => count(value).map(drop).map_err(|wrong| wrong.to_string()),
        Kind::Count32 => check_32(value),
        Kind::Number => number(value).map(drop).map_err(|wrong| wrong.to_string()),
        Kind::Duration => duration::parse(value).map(drop).ok_or_else(|| SYNTAX.to_owned()),
        Kind::Urls if value.is_empty() => Ok(()),
        // A port that is too large is no matter of form: it shows when it is listened at.
        Kind::Urls => match urls(value) {
            Ok(_) | Err(url::Error::Port(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Kind::Origins if value.is_empty() || value == "*" => Ok(()),
        Kind::Origins => urls(value).map(drop).map_err(|error| error.to_string()),
        Kind::Choice(words) if words.contains(&value) => Ok(()),
        Kind::Choice(_) => Err("invalid value".to_owned()),
        Kind::Choices(words) => match value.split(',').find(|word| !words.contains(word)) {
            Some(word) => Err(format!("invalid value {word:?}")),
            None => Ok(()),
        },
        Kind::Gates => Features::parse(value).map(drop).map_err(|error| error.to_string()),
        Kind::Label if value.is_empty() || region::is_name(value) => Ok(()),
        Kind::Label => Err(region::NAME_RULE.to_owned()),
    }
}

/// Whether two texts say the same.
pub(crate) fn same(kind: Kind, one: &str, other: &str) -> bool {
    match kind {
        Kind::Bool => bool(one) == bool(other),
        Kind::Count | Kind::Count32 => count(one).ok() == count(other).ok(),
        Kind::Number => number(one).ok() == number(other).ok(),
        Kind::Duration => duration::parse(one) == duration::parse(other),
        Kind::Gates => Features::parse(one).ok() == Features::parse(other).ok(),
        Kind::Text
        | Kind::Urls
        | Kind::Origins
        | Kind::List
        | Kind::Choice(_)
        | Kind::Choices(_)
        | Kind::Label
        | Kind::Anything => one == other,
    }
}

/// What Go says of a text that is no value of its kind.
const SYNTAX: &str = "parse error";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{SYNTAX}")]
    Syntax,
    #[error("value out of range")]
    Range,
}

pub(crate) fn urls(text: &str) -> Result<Vec<url::Url>, url::Error> {
    text.split(',').map(url::Url::parse).collect()
}

pub(crate) fn bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal, or with a prefix `0x`, `0o`, `0b` or `0` (octal), with `_` between digits.
pub(crate) fn count(text: &str) -> Result<u64, Wrong> {
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        Some(_) if text.starts_with('0') => (&text[1..], 8),
        Some(_) | None => (text, 10),
    };
    let is_digit = |c: char| c.is_digit(radix);
    let spaced = digits.replace('_', "");
    let is_well_spaced = !digits.ends_with('_') && !digits.contains("__") && !text.starts_with('_');
    if spaced.is_empty() || !spaced.chars().all(is_digit) || !is_well_spaced {
        return Err(Wrong::Syntax);
    }
    u64::from_str_radix(&spaced, radix).map_err(|_| Wrong::Range)
}

pub(crate) fn number(text: &str) -> Result<i64, Wrong> {
    match text.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(count(digits)?).ok_or(Wrong::Range),
        None => {
            let digits = text.strip_prefix('+').unwrap_or(text);
            i64::try_from(count(digits)?).map_err(|_| Wrong::Range)
        }
    }
}

fn check_32(text: &str) -> Result<(), String> {
    let wrong = match count(text) {
        Ok(number) if u32::try_from(number).is_ok() => return Ok(()),
        Ok(_) | Err(Wrong::Range) => "value out of range",
        Err(Wrong::Syntax) => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {text:?}: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(kind: Kind, value: &str, why: &str) {
        assert_eq!(check(kind, value).unwrap_err(), why, "{kind:?} {value:?}");
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, read) in [
            ("0", Ok(0)),
            ("16", Ok(16)),
            ("0x10", Ok(16)),
            ("0b11", Ok(3)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("1_000", Ok(1000)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(Wrong::Range)),
            ("", Err(Wrong::Syntax)),
            ("-1", Err(Wrong::Syntax)),
            ("+1", Err(Wrong::Syntax)),
            ("1__0", Err(Wrong::Syntax)),
            ("08", Err(Wrong::Syntax)),
            ("1.5", Err(Wrong::Syntax)),
        ] {
            assert_eq!(count(text), read, "{text:?}");
        }
        assert_eq!(number("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(number("-9223372036854775809"), Err(Wrong::Range));
        assert_eq!(number("+7"), Ok(7));
    }

    #[test]
    fn what_is_no_value_is_refused_in_gos_words() {
        refuses(Kind::Bool, "yes", "parse error");
        refuses(Kind::Count, "fast", "parse error");
        refuses(Kind::Count, "18446744073709551616", "value out of range");
        refuses(Kind::Number, "1e9", "parse error");
        refuses(Kind::Duration, "5", "parse error");
        let words = r#"strconv.ParseUint: parsing "99999999999": value out of range"#;
        refuses(Kind::Count32, "99999999999", words);
        let words = r#"strconv.ParseUint: parsing "x": invalid syntax"#;
        refuses(Kind::Count32, "x", words);
        refuses(Kind::Choice(&["new", "existing"]), "old", "invalid value");
        refuses(Kind::Choices(&["gone"]), "gone,foo", r#"invalid value "foo""#);
        refuses(Kind::Label, "East US", "expected 1 to 63 of a-z, 0-9 and -");
        refuses(Kind::Urls, "x", "URL scheme must be http, https, unix, or unixs: x");
        refuses(Kind::Origins, "http://a:1,*", "URL scheme must be http, https, unix, or unixs: *");
    }
}
