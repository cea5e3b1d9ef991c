//! How long operations took: all of them over time, quantiles over time, and a table.

use std::collections::BTreeMap;

use orrery_plot::{
    Axis, Backdrop, Chart, Column, Marks, PALETTE, Point, Scale, Series, Unit,
    markup::{escape, grouped, shorten},
    table,
};

use super::throughput::window;
use crate::{
    figures::{self, Counts, Operation, Quantiles, operations, seconds},
    history::{History, Kind},
};

/// Dots of a kind that say what they are when one points at them: the slowest.
const NAMED: usize = 150;

/// The kinds as plots show them: what is rare lies on top.
pub(super) const KINDS: [(Kind, &str, &str, Marks); 3] = [
    (Kind::Ok, "ok", "var(--ok)", Marks::Dots),
    (Kind::Info, "info (nobody knows)", "var(--info)", Marks::Triangles),
    (Kind::Fail, "fail (certainly without effect)", "var(--fail)", Marks::Crosses),
];

pub(super) fn write(html: &mut String, history: &History, backdrop: &Backdrop) {
    let operations = operations(history);
    html.push_str("<section id=\"latency\"><h2>Latency</h2>\n");
    let x = Axis::time(seconds(figures::end(history)));
    let y = Axis::fitted("latency", Scale::Logarithmic, Unit::Latency);
    let scatter = Chart {
        title: "Latency of every operation over time, by how it ended".to_owned(),
        height: 400.0,
        x: x.clone(),
        y: y.clone(),
        backdrop: backdrop.clone(),
        series: KINDS.map(|kind| series(&operations, kind)).to_vec(),
    };
    html.push_str(&scatter.figure());
    html.push_str("<h3>Quantiles of what was ok</h3>\n");
    let series = quantiles(&operations, window(history));
    let title = "Quantiles of latency over time".to_owned();
    let curves = Chart { title, height: 220.0, x, y, backdrop: backdrop.unexplained(), series };
    html.push_str(&curves.figure());
    by_function(html, &operations);
    html.push_str("</section>\n");
}

/// Where an operation lies: when it began, and how long it took.
fn series(
    operations: &[Operation<'_>],
    (kind, name, colour, marks): (Kind, &str, &'static str, Marks),
) -> Series {
    let mut those: Vec<_> = operations.iter().filter(|one| one.kind == kind).collect();
    those.sort_by_key(|one| std::cmp::Reverse(one.took()));
    let points = those.iter().enumerate().map(|(rank, one)| Point {
        x: seconds(one.began),
        // Logarithms have no zero; a clock that did not move means less than it can tell.
        y: seconds(one.took().max(1)),
        title: (rank < NAMED).then(|| said(one)),
    });
    let points = points.collect();
    let name = format!("{name}: {}", grouped(those.len() as u64));
    Series { name, colour, marks, points }
}

fn said(one: &Operation<'_>) -> String {
    let Operation { f, member, error, .. } = one;
    let (at, took) = (seconds(one.began), Unit::Latency.show(seconds(one.took())));
    let error = shorten(error, 120);
    format!("{f} at member {member}, {at:.3} s: {took} {error}").trim_end().to_owned()
}

fn quantiles(operations: &[Operation<'_>], window: f64) -> Vec<Series> {
    let mut windows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for one in operations.iter().filter(|one| one.kind == Kind::Ok) {
        let place = (seconds(one.began) / window) as u64;
        windows.entry(place).or_default().push(one.took().max(1));
    }
    let last = windows.keys().last().copied().unwrap_or_default();
    let all: Vec<_> = (0..=last.min(100_000))
        .map(|place| (place, Quantiles::of(windows.remove(&place).unwrap_or_default())))
        .collect();
    type Pick = fn(&Quantiles) -> u64;
    let picks: [(&str, Pick); 4] =
        [("p50", |it| it.p50), ("p95", |it| it.p95), ("p99", |it| it.p99), ("max", |it| it.max)];
    let curve = |(place, (name, pick)): (usize, (&str, Pick))| Series {
        name: name.to_owned(),
        colour: PALETTE[place],
        marks: if name == "max" { Marks::Dashes } else { Marks::Line },
        points: all
            .iter()
            .map(|(at, quantiles)| {
                let y = quantiles.as_ref().map_or(f64::NAN, |it| seconds(pick(it)));
                Point::new((*at as f64 + 0.5) * window, y)
            })
            .collect(),
    };
    picks.into_iter().enumerate().map(curve).collect()
}

/// Counts of every kind and quantiles of what was ok, a row per function.
fn by_function(html: &mut String, operations: &[Operation<'_>]) {
    let mut functions: BTreeMap<&str, Vec<&Operation<'_>>> = BTreeMap::new();
    for one in operations {
        functions.entry(one.f).or_default().push(one);
    }
    let mut rows: Vec<_> = functions.iter().map(|(f, those)| row(&escape(f), those)).collect();
    if rows.len() > 1 {
        rows.push(row("<strong>all</strong>", &operations.iter().collect::<Vec<_>>()));
    }
    let columns = [
        Column::Text("operation"),
        Column::Number("ok"),
        Column::Number("fail"),
        Column::Number("info"),
        Column::Number("p50"),
        Column::Number("p95"),
        Column::Number("p99"),
        Column::Number("max"),
    ];
    table(html, &columns, &rows);
}

fn row(name: &str, those: &[&Operation<'_>]) -> Vec<String> {
    let counts = Counts::of(those.iter().copied());
    let ok = those.iter().filter(|one| one.kind == Kind::Ok);
    let quantiles = Quantiles::of(ok.map(|one| one.took()));
    let show = |pick: fn(Quantiles) -> u64| {
        quantiles.map_or("–".to_owned(), |it| Unit::Latency.show(seconds(pick(it))))
    };
    vec![
        name.to_owned(),
        grouped(counts.ok),
        grouped(counts.fail),
        grouped(counts.info),
        show(|it| it.p50),
        show(|it| it.p95),
        show(|it| it.p99),
        show(|it| it.max),
    ]
}
