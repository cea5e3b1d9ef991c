//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`.

use std::time::Duration;

/// Units with their length in nanoseconds, the longer name of two first.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5
    ("μs", 1_000), // U+03BC
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `None` for anything that is no duration, negative ones included.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut nanos) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        // `m` would match the start of `ms` as well; the longest name wins.
        let (unit, length) = UNITS
            .iter()
            .filter(|(unit, _)| tail.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        nanos = nanos.checked_add(scaled(number, *length)?)?;
        rest = &tail[unit.len()..];
    }
    // Go's durations are signed 64-bit numbers.
    (nanos <= i64::MAX as u64).then(|| Duration::from_nanos(nanos))
}

/// What Go says of a text that is no duration.
pub(crate) fn refusal(text: &str) -> String {
    let bare = text.trim_start_matches(['-', '+']);
    let digits = bare.len() - bare.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && digits == bare.len() {
        format!("time: missing unit in duration {text:?}")
    } else {
        format!("time: invalid duration {text:?}")
    }
}

/// `number` (digits with at most one point) times `unit`, in nanoseconds, rounded down.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        // An hour has 13 digits of nanoseconds; what is behind them is nothing.
        nanos = nanos.checked_add(u64::from(digit - b'0') * place / 10)?;
        place /= 10;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, millis: Option<u64>) {
        assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        check("0", Some(0));
        check("0s", Some(0));
        check("300ms", Some(300));
        check("5s", Some(5_000));
        check("+5s", Some(5_000));
        check("1h30m", Some(5_400_000));
        check("10m0s", Some(600_000));
        check("1.5s", Some(1_500));
        check(".5s", Some(500));
        check("2.h", Some(7_200_000));
        check("1000000µs", Some(1_000));
    }

    #[test]
    fn what_is_none_is_told_as_go_tells_it() {
        assert_eq!(refusal("x"), r#"time: invalid duration "x""#);
        assert_eq!(refusal("-1"), r#"time: missing unit in duration "-1""#);
    }

    #[test]
    fn anything_else_is_refused() {
        check("", None);
        check("5", None);
        check("-5s", None);
        check("5 s", None);
        check("s", None);
        check(".s", None);
        check("1.2.3s", None);
        check("5d", None);
        check("9999999h", None);
    }
}
