//! Words of a script: bare, or in quotes when they hold anything unusual.

use bytes::Bytes;

/// One word of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub text: Bytes,
    /// A quoted word is never an option.
    pub quoted: bool,
}

impl Word {
    /// The word as an option: its name and what stands behind the `=`.
    pub(crate) fn option(&self) -> Option<(&str, Option<&str>)> {
        let text = std::str::from_utf8(&self.text).ok().filter(|_| !self.quoted)?;
        Some(text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value))))
    }
}

/// The words of a line.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                let text = Bytes::copy_from_slice(&rest.as_bytes()[..end]);
                (Word { text, quoted: false }, &rest[end..])
            }
        };
        if !after.is_empty() && !after.starts_with(' ') {
            return Err(format!("a blank is missing before {after:?}"));
        }
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// What stands before the closing quote, and what after it.
fn unquote(text: &str) -> Result<(Word, &str), String> {
    let mut bytes = Vec::new();
    let mut rest = text.char_indices();
    while let Some((at, char)) = rest.next() {
        match char {
            '"' => return Ok((Word { text: bytes.into(), quoted: true }, &text[at + 1..])),
            '\\' => match rest.next().map(|(_, escaped)| escaped) {
                Some('0') => bytes.push(0),
                Some('n') => bytes.push(b'\n'),
                Some('x') => {
                    let digits = text.get(at + 2..at + 4).unwrap_or_default();
                    bytes.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
                    rest.nth(1);
                }
                Some(same @ ('"' | '\\')) => bytes.push(same as u8),
                other => return Err(format!("nothing is escaped as {other:?}")),
            },
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// The bytes as a word that reads back as them.
pub(crate) fn word(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            0 => text.push_str("\\0"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text + "\""
}

#[test]
fn any_bytes_read_back_as_they_were() {
    for bytes in [&b""[..], b"a/b-1", b"a b", b"\"\\\n\0", b"\xff\xfe", b"x=1", "\u{e4}".as_bytes()]
    {
        let read = split(&word(bytes)).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].text, bytes);
    }
    assert!(split("\"open").is_err());
    assert!(split("\"a\"b").is_err());
    assert!(split("\"\\q\"").is_err());
}
