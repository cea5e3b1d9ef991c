//! Every operation of every process, from the top down in the order in which they began and ended:
//! what stands beside each other was concurrent.

use std::{collections::BTreeMap, fmt::Write as _};

use orrery_plot::{
    Unit,
    markup::{escape, grouped, shorten},
};

use super::faults;
use crate::{
    figures::{self, seconds},
    history::{History, Kind, Nanos, Process, Step},
};

/// Operations that are shown, from the first on. A browser has one element for each.
const MOST: usize = 10_000;
/// Pixels from one beginning or end to the next.
const EVENT: usize = 7;
/// Of the shortest operation, in pixels: what ends at once is followed by two events at the least.
const LEAST_HEIGHT: usize = 13;
/// Pixels from one column to the next, and left of the first for clock and faults. The style
/// has the width of an operation.
const COLUMN: usize = 83;
const GUTTER: usize = 118;
/// Where faults stand in the gutter, and how far apart.
const FAULTS: usize = 58;
const FAULT: usize = 8;
const FAULT_COLUMNS: usize = 7;
/// Events from one time in the gutter to the next.
const CLOCK_EVERY: usize = 30;
/// Characters written into an operation, and of a value when one points at it.
const LABEL: usize = 24;
const VALUE: usize = 160;

/// Marks all operations on a key when one of them is clicked. Nothing depends on it.
pub(super) const SCRIPT: &str = "\
for (const timeline of document.querySelectorAll('.timeline')) {
  timeline.addEventListener('click', (event) => {
    const clicked = event.target.closest('.op');
    const key = clicked === null || clicked.matches('.same') ? undefined : clicked.dataset.key;
    for (const op of timeline.querySelectorAll('.op')) {
      op.classList.toggle('same', key !== undefined ? op.dataset.key === key : false);
    }
  });
}
";

pub(super) fn write(html: &mut String, history: &History) {
    html.push_str("<section id=\"timeline\"><h2>Timeline</h2>\n");
    let mut steps: Vec<_> = history.steps.iter().enumerate().collect();
    steps.sort_by_key(|(place, step)| (step.began, *place));
    steps.truncate(MOST);
    if steps.is_empty() {
        html.push_str("<p>This workload has no steps.</p></section>\n");
        return;
    }
    html.push_str(
        "<p class=\"soft\">Time goes down, from one beginning or end to the next; a column \
                   is a process. Point at an operation for all of it; click it to see all others \
                   on its key.",
    );
    if history.steps.len() > MOST {
        let all = grouped(history.steps.len() as u64);
        let _ = write!(html, " The first {} of {all} are shown.", grouped(MOST as u64));
    }
    let failed = steps.iter().find(|(_, step)| step.kind != Kind::Ok);
    if let Some((place, _)) = failed {
        let _ = write!(html, " <a href=\"#op-{place}\">The first that was not ok</a>.");
    }
    html.push_str("</p>\n");
    let events = events(&steps);
    let columns = columns(&steps);
    let width = GUTTER + COLUMN * columns.values().max().map_or(1, |last| last + 1);
    let height = events.len() * EVENT + LEAST_HEIGHT;
    let _ = writeln!(
        html,
        "<div class=\"timeline\" tabindex=\"0\"><div class=\"inner\" \
         style=\"width:{width}px;height:{height}px\">"
    );
    gutter(html, history, &events);
    for (place, (number, step)) in steps.iter().enumerate() {
        let top = position(&events, (step.began, 2 * place));
        let bottom = position(&events, (step.ended, 2 * place + 1)).max(top);
        let left = GUTTER + COLUMN * columns.get(&step.process).copied().unwrap_or_default();
        operation(html, *number, step, (left, top * EVENT, (bottom - top) * EVENT));
    }
    html.push_str("</div></div>\n</section>\n");
}

/// A moment, and which beginning (even) or end (odd) it is, to tell the simultaneous apart.
type Event = (Nanos, usize);

/// Beginnings and ends in their order.
fn events(steps: &[(usize, &Step)]) -> Vec<Event> {
    let of_step = |(place, (_, step)): (usize, &(usize, &Step))| {
        [(step.began, 2 * place), (step.ended.max(step.began), 2 * place + 1)]
    };
    let mut events: Vec<_> = steps.iter().enumerate().flat_map(of_step).collect();
    events.sort_unstable();
    events
}

fn position(events: &[Event], event: Event) -> usize {
    events.partition_point(|other| *other < event)
}

/// A column for each process. One that is over leaves its column to a later one.
fn columns(steps: &[(usize, &Step)]) -> BTreeMap<Process, usize> {
    let mut last: BTreeMap<Process, Nanos> = BTreeMap::new();
    for (_, step) in steps {
        let end = last.entry(step.process).or_default();
        *end = step.ended.max(*end);
    }
    let mut columns = BTreeMap::new();
    let mut busy_until: Vec<Nanos> = Vec::new();
    for (_, step) in steps {
        if columns.contains_key(&step.process) {
            continue;
        }
        let until = last.get(&step.process).copied().unwrap_or_default();
        let free = busy_until.iter().position(|busy| *busy <= step.began);
        let column = free.unwrap_or(busy_until.len());
        match busy_until.get_mut(column) {
            Some(busy) => *busy = until,
            None => busy_until.push(until),
        }
        columns.insert(step.process, column);
    }
    columns
}

/// What time it is, and what was broken.
fn gutter(html: &mut String, history: &History, events: &[Event]) {
    for (place, (at, _)) in events.iter().enumerate().step_by(CLOCK_EVERY) {
        let (top, at) = (place * EVENT, seconds(*at));
        let _ = write!(html, "<div class=\"clock\" style=\"top:{top}px\">{at:.3} s</div>");
    }
    let last = events.last().map_or(0, |(at, _)| *at);
    let backdrop = faults::backdrop(history);
    for band in backdrop.bands.iter().filter(|band| band.from <= seconds(last)) {
        let place = |at: f64| events.partition_point(|(other, _)| seconds(*other) < at) * EVENT;
        let (top, bottom) = (place(band.from), place(band.to));
        let _ = write!(
            html,
            "<div class=\"hurt\" style=\"left:{}px;top:{top}px;height:{}px;background:{}\" \
             title=\"{}\"></div>",
            FAULTS + band.lane % FAULT_COLUMNS * FAULT,
            (bottom - top).max(3),
            band.colour,
            escape(&band.title)
        );
    }
    html.push('\n');
}

fn operation(
    html: &mut String,
    number: usize,
    step: &Step,
    (left, top, height): (usize, usize, usize),
) {
    let (kind, height) = (word(step.kind), height.saturating_sub(1).max(LEAST_HEIGHT));
    let shown = if step.result.is_null() { &step.value } else { &step.result };
    let mut label = step.f.clone();
    if let Some(key) = &step.key {
        let _ = write!(label, " {key}");
    }
    if !shown.is_null() {
        let _ = write!(label, " {shown}");
    }
    let _ = write!(
        html,
        "<div class=\"op {kind}\" id=\"op-{number}\" data-key=\"{}\" title=\"{}\" \
         style=\"left:{left}px;top:{top}px;height:{height}px\">{}</div>",
        escape(step.key.as_deref().unwrap_or_default()),
        escape(&said(number, step)),
        escape(&shorten(&label, LABEL))
    );
    html.push('\n');
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}

/// All of an operation, a fact a line.
fn said(number: usize, step: &Step) -> String {
    let mut said =
        format!("#{number}, process {} at member {}\n{}", step.process, step.member, { &step.f });
    if let Some(key) = &step.key {
        let _ = write!(said, " {key}");
    }
    if !step.value.is_null() {
        let _ = write!(said, " {}", shorten(&step.value.to_string(), VALUE));
    }
    let _ = write!(said, "\n{}", word(step.kind));
    if !step.result.is_null() {
        let _ = write!(said, ": {}", shorten(&step.result.to_string(), VALUE));
    }
    if !step.error.is_empty() {
        let _ = write!(said, ": {}", shorten(&step.error, VALUE));
    }
    if step.revision != 0 {
        let _ = write!(said, "\nrevision {}", step.revision);
    }
    let took = figures::seconds(step.ended.saturating_sub(step.began));
    let (began, ended) = (seconds(step.began), seconds(step.ended));
    let _ = write!(said, "\n{began:.4} s to {ended:.4} s: {}", Unit::Latency.show(took));
    said
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn step(process: Process, began: Nanos, ended: Nanos) -> Step {
        Step {
            process,
            member: 0,
            f: "read".to_owned(),
            key: None,
            value: Value::Null,
            began,
            ended,
            kind: Kind::Ok,
            result: Value::Null,
            revision: 0,
            error: String::new(),
        }
    }

    #[test]
    fn a_process_that_is_over_leaves_its_column() {
        let steps = [step(0, 0, 5), step(1, 1, 3), step(7, 5, 9), step(1, 6, 8)];
        let steps: Vec<_> = steps.iter().enumerate().collect();
        assert_eq!(columns(&steps), BTreeMap::from([(0, 0), (1, 1), (7, 0)]));
    }

    #[test]
    fn an_operation_that_took_no_time_begins_before_it_ends() {
        let steps = [step(0, 4, 4), step(0, 4, 4)];
        let steps: Vec<_> = steps.iter().enumerate().collect();
        assert_eq!(events(&steps), [(4, 0), (4, 1), (4, 2), (4, 3)]);
        assert_eq!(position(&events(&steps), (4, 2)), 2);
    }
}
