//! What clients were told instead of an answer, and how often.

use std::{cmp::Reverse, collections::BTreeMap};

use orrery_plot::{
    Column,
    markup::{escape, grouped, shorten},
    table,
};

use crate::{
    figures::seconds,
    history::{Call, History, Nanos, Outcome},
};

/// Rows; what is rarer is only counted.
const MOST: usize = 60;
/// Characters of a message.
const MESSAGE: usize = 400;

struct Told {
    count: u64,
    first: Nanos,
    last: Nanos,
}

/// Whether the operation certainly had no effect, the code, the message.
type Error<'a> = (bool, &'a str, &'a str);

pub(super) fn write(html: &mut String, history: &History) {
    html.push_str("<section id=\"errors\"><h2>Errors</h2>\n");
    let mut told: BTreeMap<Error<'_>, Told> = BTreeMap::new();
    let calls = history.calls.iter().filter_map(of_call);
    let steps = history.steps.iter().filter(|step| !step.error.is_empty());
    let steps = steps.map(|step| {
        let certain = step.kind == crate::history::Kind::Fail;
        ((certain, "", step.error.as_str()), step.ended)
    });
    // Steps repeat what their calls were told.
    let all: Vec<_> = match history.calls.is_empty() {
        true => steps.collect(),
        false => calls.collect(),
    };
    for (error, at) in all {
        let told = told.entry(error).or_insert(Told { count: 0, first: at, last: at });
        told.count += 1;
        told.first = told.first.min(at);
        told.last = told.last.max(at);
    }
    if told.is_empty() {
        html.push_str("<p>There were none.</p></section>\n");
        return;
    }
    let mut all: Vec<_> = told.iter().collect();
    all.sort_by_key(|(_, told)| Reverse(told.count));
    let mut rows: Vec<_> = all.iter().take(MOST).map(|(error, told)| row(error, told)).collect();
    let rest: u64 = all.iter().skip(MOST).map(|(_, told)| told.count).sum();
    if rest > 0 {
        let more = format!("{} other messages", all.len() - MOST);
        let none = String::new;
        rows.push(vec![grouped(rest), none(), none(), more, none(), none()]);
    }
    let columns = [
        Column::Number("count"),
        Column::Text("effect"),
        Column::Text("code"),
        Column::Text("message"),
        Column::Number("first"),
        Column::Number("last"),
    ];
    table(html, &columns, &rows);
    html.push_str("</section>\n");
}

fn of_call(call: &Call) -> Option<(Error<'_>, Nanos)> {
    let (certain, failure) = match &call.outcome {
        Outcome::Ok(_) => return None,
        Outcome::Fail(failure) => (true, failure),
        Outcome::Info(failure) => (false, failure),
    };
    Some(((certain, &failure.code, &failure.message), call.ended))
}

fn row((certain, code, message): &Error<'_>, told: &Told) -> Vec<String> {
    let at = |nanos| format!("{:.1} s", seconds(nanos));
    vec![
        grouped(told.count),
        if *certain { "none" } else { "nobody knows" }.to_owned(),
        escape(code),
        escape(&shorten(message, MESSAGE)),
        at(told.first),
        at(told.last),
    ]
}
