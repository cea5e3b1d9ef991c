//! Plots of all kinds of values and names.

use super::*;

const VALUES: [&[f64]; 8] = [
    &[],
    &[1.0],
    &[2.5, 2.5, 2.5],
    &[f64::MAX, f64::MIN, 0.0],
    &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
    &[-1.0, 0.0, 1e-300],
    &[1e300, 1.0],
    &[0.001, 0.002, 0.003],
];

const HOSTILE: &str = "</script><script>alert('\"&\u{202e}\0')</script>";

fn backdrop() -> Backdrop {
    let band = |from, to| Band { lane: 13, from, to, colour: "#E9A4A0", title: HOSTILE.to_owned() };
    Backdrop {
        bands: vec![band(0.5, 2.0), band(f64::NAN, 1.0), band(5.0, 1.0), band(1.0, f64::MAX)],
        rules: vec![Rule { at: 1.5, colour: "#2021CC", title: HOSTILE.to_owned() }],
        legend: vec![Entry { name: HOSTILE.to_owned(), colour: "#E9A4A0", swatch: Swatch::Band }],
    }
}

/// Well-formed, without anything from outside, and every number a number.
#[track_caller]
fn check(figure: &str) {
    wellformed::check(figure).expect("well-formed");
    for never in ["NaN", "inf", "<script", "url(", "href"] {
        assert!(!figure.contains(never), "{never} in {figure}");
    }
}

#[test]
fn a_chart_of_any_values_is_well_formed() {
    let marks = [Marks::Dots, Marks::Triangles, Marks::Crosses, Marks::Line, Marks::Dashes];
    for scale in [Scale::Linear, Scale::Logarithmic] {
        for unit in [Unit::Time, Unit::Latency, Unit::Count, Unit::Bytes] {
            for values in VALUES {
                let point = |value: &f64| Point {
                    title: Some(HOSTILE.to_owned()),
                    ..Point::new(*value, *value)
                };
                let series = marks.map(|marks| Series {
                    name: HOSTILE.to_owned(),
                    colour: PALETTE[0],
                    marks,
                    points: values.iter().map(point).collect(),
                });
                let chart = Chart {
                    title: HOSTILE.to_owned(),
                    height: 200.0,
                    x: Axis::fitted(HOSTILE, scale, unit),
                    y: Axis::fitted(HOSTILE, scale, unit),
                    backdrop: backdrop(),
                    series: series.to_vec(),
                };
                check(&chart.figure());
            }
        }
    }
}

#[test]
fn strips_and_bars_of_any_values_are_well_formed() {
    for values in VALUES {
        let segment = |value: &f64| Segment {
            from: *value,
            to: *value * 2.0,
            state: 0,
            label: HOSTILE.to_owned(),
            ink: "var(--ink)",
            title: HOSTILE.to_owned(),
        };
        let entry =
            Entry { name: HOSTILE.to_owned(), colour: "var(--leader)", swatch: Swatch::Area };
        let strips = Strips {
            title: HOSTILE.to_owned(),
            x: Axis::time(10.0),
            backdrop: backdrop(),
            states: vec![entry.clone()],
            rows: vec![Row {
                label: HOSTILE.to_owned(),
                segments: values.iter().map(segment).collect(),
            }],
        };
        check(&strips.figure());
        let bars = Bars {
            title: HOSTILE.to_owned(),
            axis: Axis::fitted(HOSTILE, Scale::Linear, Unit::Latency),
            series: vec![entry.clone(), entry.clone(), entry],
            reference: Some(1),
            groups: vec![Group {
                name: HOSTILE.to_owned(),
                values: values.iter().copied().map(Some).collect(),
            }],
        };
        check(&bars.figure());
    }
}

#[test]
fn a_bar_says_how_many_times_the_reference_it_is() {
    let entry = |name: &str, colour| Entry { name: name.to_owned(), colour, swatch: Swatch::Area };
    let bars = Bars {
        title: String::new(),
        axis: Axis::fitted("", Scale::Linear, Unit::Latency),
        series: vec![entry("ours", PALETTE[0]), entry("theirs", PALETTE[1])],
        reference: Some(1),
        groups: vec![Group { name: "kill".to_owned(), values: vec![Some(0.5), Some(2.0)] }],
    };
    let figure = bars.figure();
    assert!(figure.contains(">500 ms (0.25×)<"), "{figure}");
    assert!(figure.contains(">2 s<"), "{figure}");
}

#[test]
fn a_chart_says_how_many_points_it_left_out() {
    let point = |at: u32| Point::new(f64::from(at % 100), f64::from(at % 100));
    let chart = Chart {
        title: String::new(),
        height: 200.0,
        x: Axis::time(100.0),
        y: Axis::fitted("", Scale::Linear, Unit::Count),
        backdrop: Backdrop::default(),
        series: vec![Series {
            name: "ok".to_owned(),
            colour: "var(--ok)",
            marks: Marks::Dots,
            points: (0..5000).map(point).collect(),
        }],
    };
    assert!(chart.figure().contains("100 of 5,000 points are drawn"), "{}", chart.figure());
}
