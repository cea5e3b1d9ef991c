//! Text and numbers as they stand in HTML and SVG.

/// `text` as it may stand in an element or in an attribute, whoever wrote it. What cannot be seen,
/// or would turn the direction of what follows, becomes U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.push('\u{fffd}');
            }
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            hidden if hidden.is_control() => escaped.push('\u{fffd}'),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// The beginning of `text`, with a sign where something was left out.
pub fn shorten(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept = text.chars().take(characters.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// A whole number with its thousands apart: 12,345.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A coordinate: a tenth of a pixel is fine enough.
pub(crate) fn pixels(at: f64) -> String {
    let text = format!("{at:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Three digits that count, without zeros at the end.
pub(crate) fn significant(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let before = number.abs().log10().floor() as i32 + 1;
    let after = (3 - before).clamp(0, 12) as usize;
    let text = format!("{number:.after$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_element_or_attribute() {
        assert_eq!(
            escape("</script><script>\"'&\0\u{202e}\n"),
            "&lt;/script&gt;&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}\n"
        );
    }

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!(significant(0.000_123_4), "0.000123");
        assert_eq!(significant(1.5), "1.5");
        assert_eq!(significant(100.0), "100");
        assert_eq!(significant(-12_345.6), "-12346");
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(pixels(3.04), "3");
        assert_eq!(shorten("äbcd", 3), "äb…");
        assert_eq!(shorten("abc", 3), "abc");
    }
}
