//! What each checker found, with the proof.

use std::fmt::Write as _;

use orrery_plot::{
    Column,
    markup::{escape, grouped},
    table,
};

use crate::check::{Checked, Verdict};

/// One word for it, which is also its class in the style.
pub(crate) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Unknown(_) => "unknown",
        Verdict::Violated(_) => "violated",
    }
}

/// What it was found from: the proof, or why nothing could be found.
pub(crate) fn reason(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Valid => None,
        Verdict::Unknown(reason) | Verdict::Violated(reason) => Some(reason),
    }
}

pub(crate) fn tag(verdict: &Verdict) -> String {
    let word = word(verdict);
    format!("<span class=\"tag {word}\">{word}</span>")
}

/// Proofs first: who opens the report of a broken promise wants to see it. Then the table.
pub(super) fn write(html: &mut String, checked: &[Checked]) {
    html.push_str("<section id=\"checkers\"><h2>Checkers</h2>\n");
    let mut gravest: Vec<_> = checked.iter().collect();
    gravest.sort_by_key(|one| match one.verdict {
        Verdict::Violated(_) => 0,
        Verdict::Unknown(_) => 1,
        Verdict::Valid => 2,
    });
    for one in &gravest {
        if let Some(reason) = reason(&one.verdict) {
            let _ = write!(
                html,
                "<h3>{} {}</h3>\n<pre>{}</pre>\n",
                tag(&one.verdict),
                escape(&one.name),
                escape(reason)
            );
        }
    }
    let rows: Vec<_> = gravest.iter().map(|one| row(one)).collect();
    let columns = [
        Column::Text("checker"),
        Column::Text("verdict"),
        Column::Number("looked at"),
        Column::Text("measured"),
    ];
    table(html, &columns, &rows);
    html.push_str("</section>\n");
}

fn row(one: &Checked) -> Vec<String> {
    let mut notes = String::new();
    if !one.notes.is_empty() {
        notes.push_str("<ul>");
        for note in &one.notes {
            let _ = write!(notes, "<li>{}</li>", escape(note));
        }
        notes.push_str("</ul>");
    }
    let looked_at = match one.checked {
        0 => "<span class=\"unknown\">nothing</span>".to_owned(),
        checked => grouped(checked),
    };
    vec![escape(&one.name), tag(&one.verdict), looked_at, notes]
}
