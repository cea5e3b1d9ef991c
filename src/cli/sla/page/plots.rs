//! Availability and latency over time, with what was broken behind them.

use std::collections::BTreeMap;

use orrery_plot::{
    Axis, Backdrop, Band, Chart, Colour, Entry, Marks, PALETTE, Point, Row, Scale, Segment, Series,
    Strips, Swatch, Unit, markup::escape,
};

use crate::{
    cli::sla::{
        figures::{NANOS, nearest_rank},
        probe::{Act, Probe},
        run::History,
    },
    types::Level,
};

/// How many windows a plot has at most: more would be narrower than its lines.
const WINDOWS: f64 = 360.0;

/// The colours of faults, by what was done.
const FAULT: Colour = "var(--series-4)";

pub(super) fn write(html: &mut String, history: &History) {
    let x = Axis::time(history.run.seconds);
    let backdrop = backdrop(history);
    html.push_str("<h2>Who was served</h2>\n");
    for (place, region) in history.run.regions.iter().enumerate() {
        html.push_str(&format!("<h3>Clients in {}</h3>\n", escape(&region.name)));
        html.push_str(&strips(history, place, &x, &backdrop).figure());
    }
    for (act, name) in [
        (Act::Write, "Writes"),
        (Act::Read(Level::Strong), "Strong reads"),
        (Act::Read(Level::Bounded), "Bounded reads"),
        (Act::Read(Level::Prefix), "Prefix reads"),
    ] {
        if !history.run.acts.contains(&act) {
            continue;
        }
        html.push_str(&format!("<h3>{}: P99 in each region</h3>\n", escape(name)));
        html.push_str(&latency(history, act, &x, &backdrop).figure());
    }
}

fn window(history: &History) -> f64 {
    (history.run.seconds / WINDOWS).max(1.0).ceil()
}

fn backdrop(history: &History) -> Backdrop {
    let bands = history.run.faults.iter().enumerate().map(|(lane, fault)| Band {
        lane,
        from: fault.from,
        to: fault.until,
        colour: FAULT,
        title: format!("{} {}", fault.what, fault.target),
    });
    let bands: Vec<Band> = bands.collect();
    let named = Entry { name: "a fault".to_owned(), colour: FAULT, swatch: Swatch::Band };
    let legend = if bands.is_empty() { Vec::new() } else { vec![named] };
    Backdrop { bands, rules: Vec::new(), legend }
}

/// A row for writes and one for each level of reads from a region.
fn strips(history: &History, place: usize, x: &Axis, backdrop: &Backdrop) -> Strips {
    let states = [
        ("all succeeded", "var(--ok)"),
        ("some failed", "var(--info)"),
        ("all failed", "var(--fail)"),
    ];
    let states =
        states.map(|(name, colour)| Entry { name: name.to_owned(), colour, swatch: Swatch::Area });
    let window = window(history);
    let row = |act: &Act| {
        let of_row = |probe: &&Probe| probe.region == place && probe.act == *act;
        let segments = segments(history.probes.iter().filter(of_row), window);
        let label = match act {
            Act::Write => "write",
            Act::Read(level) => level.name(),
        };
        Row { label: label.to_owned(), segments }
    };
    let rows = history.run.acts.iter().map(row).collect();
    Strips {
        title: "Which requests succeeded, over time".to_owned(),
        x: x.clone(),
        backdrop: backdrop.clone(),
        states: states.to_vec(),
        rows,
    }
}

/// Windows that went alike are one segment.
fn segments<'a>(probes: impl Iterator<Item = &'a Probe>, window: f64) -> Vec<Segment> {
    let mut counts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for probe in probes {
        let place = (probe.due as f64 / NANOS as f64 / window) as u64;
        let (done, all) = counts.entry(place).or_default();
        *all += 1;
        *done += u64::from(probe.is_done());
    }
    let mut segments: Vec<Segment> = Vec::new();
    for (place, (done, all)) in counts {
        let state = match done {
            done if done == all => 0,
            0 => 2,
            _ => 1,
        };
        let (from, to) = (place as f64 * window, (place + 1) as f64 * window);
        match segments.last_mut() {
            Some(last) if last.state == state && last.to == from => last.to = to,
            _ => segments.push(Segment {
                from,
                to,
                state,
                label: String::new(),
                ink: "var(--ink)",
                title: format!("from {} s: {done} of {all} succeeded", Unit::Time.show(from)),
            }),
        }
    }
    segments
}

fn latency(history: &History, act: Act, x: &Axis, backdrop: &Backdrop) -> Chart {
    let window = window(history);
    let regions = history.run.regions.iter().enumerate();
    let series = regions.map(|(place, region)| {
        let of_series =
            |probe: &&Probe| probe.region == place && probe.act == act && probe.is_done();
        let mut took: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for probe in history.probes.iter().filter(of_series) {
            let at = (probe.due as f64 / NANOS as f64 / window) as u64;
            took.entry(at).or_default().push(probe.took());
        }
        let last = (history.run.seconds / window) as u64;
        let points = (0..=last).map(|at| {
            let mut took = took.remove(&at).unwrap_or_default();
            took.sort_unstable();
            let p99 = nearest_rank(&took, 0.99);
            let y = p99.map_or(f64::NAN, |nanos| nanos as f64 / NANOS as f64);
            Point::new((at as f64 + 0.5) * window, y)
        });
        Series {
            name: region.name.clone(),
            colour: PALETTE[place % PALETTE.len()],
            marks: Marks::Line,
            points: points.collect(),
        }
    });
    Chart {
        title: format!("P99 of every {act} over time, in each region"),
        height: 220.0,
        x: x.clone(),
        y: Axis::fitted("P99", Scale::Logarithmic, Unit::Latency),
        backdrop: backdrop.clone(),
        series: series.collect(),
    }
}
