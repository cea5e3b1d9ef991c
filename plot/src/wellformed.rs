//! Whether markup is well-formed XML, as far as reports have any; for their tests.

use std::fmt::Write as _;

/// Fails with what is wrong and where.
pub fn check(markup: &str) -> Result<(), String> {
    let markup = markup.strip_prefix("<!DOCTYPE html>").unwrap_or(markup);
    let (mut open, mut rest) = (Vec::new(), markup);
    while let Some(at) = rest.find('<') {
        text(&rest[..at])?;
        let end = rest[at..].find('>').ok_or("a tag that does not end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop();
            if expected != Some(name) {
                return Err(format!("</{name}> where {expected:?} is open, before {rest:.80}"));
            }
        } else {
            let (content, closed) = tag.strip_suffix('/').map_or((tag, false), |it| (it, true));
            let name = content.split_ascii_whitespace().next().unwrap_or_default();
            let letters = |character: char| character.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(letters) {
                return Err(format!("a tag named {name:?}"));
            }
            attributes(content[name.len()..].trim())?;
            if !closed {
                open.push(name);
            }
        }
    }
    text(rest)?;
    let mut left = String::new();
    for name in open {
        let _ = write!(left, "<{name}> ");
    }
    if left.is_empty() { Ok(()) } else { Err(format!("never closed: {left}")) }
}

fn attributes(mut rest: &str) -> Result<(), String> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or(format!("no value: {rest}"))?;
        let plain = |character: char| character.is_ascii_alphanumeric() || "-:".contains(character);
        if names.contains(&name) || name.is_empty() || !name.chars().all(plain) {
            return Err(format!("an attribute named {name:?}"));
        }
        names.push(name);
        let (value, after) = value.split_once('"').ok_or(format!("no end: {rest}"))?;
        text(value)?;
        rest = after.trim_start();
    }
    Ok(())
}

fn text(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('&') {
        let known = ["&lt;", "&gt;", "&amp;", "&quot;", "&#39;"];
        if !known.iter().any(|entity| text[at..].starts_with(entity)) {
            return Err(format!("no entity: {}", &text[at..]));
        }
    }
    match text.chars().find(|it| it.is_control() && *it != '\n' && *it != '\t') {
        Some(control) => Err(format!("{control:?} in {text}")),
        None => Ok(()),
    }
}

#[test]
fn what_is_not_well_formed_is_found() {
    for wrong in ["<p>", "<p></b>", "</p>", "<p a=1/>", "a & b", "<p a=\"&x;\"/>", "<p", "<!x>"] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
    assert_eq!(check("<!DOCTYPE html><p a=\"1\" b-c=\"&lt;\">x<br/></p>"), Ok(()));
}
