//! Operations per second over time: by how they ended, and by what they were.

use std::collections::BTreeMap;

use orrery_plot::{Axis, Backdrop, Chart, Marks, PALETTE, Point, Scale, Series, Unit};

use super::latency::KINDS;
use crate::{
    figures::{self, Operation, operations, seconds},
    history::{History, Kind},
};

/// About as many windows as make a line that is neither coarse nor only noise.
const WINDOWS: f64 = 100.0;
/// Functions with a line of their own; the others share one.
const MOST_FUNCTIONS: usize = 7;

/// Seconds over which is averaged: a round number, at least one.
pub(super) fn window(history: &History) -> f64 {
    let wanted = seconds(figures::end(history)) / WINDOWS;
    let round = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    round.into_iter().find(|window| *window >= wanted).unwrap_or(wanted.ceil())
}

pub(super) fn write(html: &mut String, history: &History, backdrop: &Backdrop) {
    let operations = operations(history);
    let window = window(history);
    let end = seconds(figures::end(history));
    let chart = |title: &str, series| Chart {
        title: title.to_owned(),
        height: 220.0,
        x: Axis::time(end),
        y: Axis::fitted("operations per second", Scale::Linear, Unit::Count),
        backdrop: backdrop.unexplained(),
        series,
    };
    html.push_str("<section id=\"throughput\"><h2>Throughput</h2>\n");
    html.push_str("<h3>By how operations ended</h3>\n");
    let line = |(kind, name, colour, _): (Kind, &str, &'static str, Marks)| {
        let those = operations.iter().filter(|one| one.kind == kind);
        let marks = if kind == Kind::Info { Marks::Dashes } else { Marks::Line };
        Series { name: name.to_owned(), colour, marks, points: rate(those, window, end) }
    };
    let kinds = KINDS.map(line).to_vec();
    html.push_str(&chart("Operations per second, by how they ended", kinds).figure());
    html.push_str("<h3>What was ok, by operation</h3>\n");
    let functions = by_function(&operations, window, end);
    html.push_str(&chart("Successful operations per second, by kind", functions).figure());
    html.push_str("</section>\n");
}

fn by_function(operations: &[Operation<'_>], window: f64, end: f64) -> Vec<Series> {
    let mut functions: BTreeMap<&str, Vec<&Operation<'_>>> = BTreeMap::new();
    for one in operations.iter().filter(|one| one.kind == Kind::Ok) {
        functions.entry(one.f).or_default().push(one);
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, those)| std::cmp::Reverse(those.len()));
    let rest: Vec<_> =
        functions.iter().skip(MOST_FUNCTIONS).flat_map(|it| &it.1).copied().collect();
    functions.truncate(MOST_FUNCTIONS);
    if !rest.is_empty() {
        functions.push(("all others", rest));
    }
    let line = |(place, (f, those)): (usize, &(&str, Vec<&Operation<'_>>))| Series {
        name: (*f).to_owned(),
        colour: PALETTE[place % PALETTE.len()],
        marks: Marks::Line,
        points: rate(those.iter().copied(), window, end),
    };
    functions.iter().enumerate().map(line).collect()
}

/// How many ended per second in each window; the last window may be short.
fn rate<'a>(
    operations: impl Iterator<Item = &'a Operation<'a>>,
    window: f64,
    end: f64,
) -> Vec<Point> {
    let windows = ((end / window).ceil() as usize).clamp(1, 100_000);
    let mut counts = vec![0u64; windows];
    for one in operations {
        let place = (seconds(one.ended) / window) as usize;
        counts[place.min(windows - 1)] += 1;
    }
    let point = |(place, count): (usize, &u64)| {
        let from = place as f64 * window;
        let length = (end - from).clamp(window / 10.0, window);
        Point::new(from + length / 2.0, *count as f64 / length)
    };
    counts.iter().enumerate().map(point).collect()
}
