//! Dots and lines on two axes.

use std::fmt::Write as _;

use super::{
    Axis, Backdrop, Colour, Entry, Swatch,
    frame::{self, LEFT, RIGHT, TOP, UNDER},
    markup::{escape, grouped, pixels},
    scale::Mapping,
    thin,
};

/// Dots and lines, in front of what happened meanwhile.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, for those who do not see it.
    pub title: String,
    /// Of the plot itself, without labels and legend, in pixels.
    pub height: f64,
    pub x: Axis,
    pub y: Axis,
    pub backdrop: Backdrop,
    /// Later ones are drawn over earlier ones.
    pub series: Vec<Series>,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub colour: Colour,
    pub marks: Marks,
    /// For a line in the order of x; a y that is not a number interrupts it.
    pub points: Vec<Point>,
}

/// How points look. Each differs in shape too, for those who do not see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    Dots,
    Triangles,
    Crosses,
    Line,
    Dashes,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// What is said of it when one points at it. Costs a lot of room: only for the remarkable.
    pub title: Option<String>,
}

impl Point {
    pub fn new(x: f64, y: f64) -> Point {
        Point { x, y, title: None }
    }
}

impl Chart {
    /// The plot as a figure with its legend.
    pub fn figure(&self) -> String {
        let (top, bottom) = (TOP, TOP + self.height.clamp(40.0, 4000.0));
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = Mapping::new(&self.x, all().map(|point| point.x), (LEFT, RIGHT));
        let y = Mapping::new(&self.y, all().map(|point| point.y), (bottom, top));
        let mut svg = frame::begin(&self.title, bottom + UNDER);
        frame::vertical(&mut svg, &self.y, &y, (top, bottom));
        frame::horizontal(&mut svg, &self.x, &x, (top, bottom));
        self.backdrop.draw(&mut svg, &x, (top, bottom));
        let (mut drawn, mut given) = (0, 0);
        for series in &self.series {
            let counts = series.draw(&mut svg, &x, &y);
            drawn += counts.0;
            given += counts.1;
        }
        if all().next().is_none() {
            let (x, y) = (pixels((LEFT + RIGHT) / 2.0), pixels((top + bottom) / 2.0));
            let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">none</text>");
        }
        let entries: Vec<_> = self.series.iter().map(Series::entry).collect();
        let entries: Vec<_> = entries.iter().chain(&self.backdrop.legend).collect();
        let remark = (drawn < given).then(|| {
            let (drawn, given) = (grouped(drawn), grouped(given));
            format!("{drawn} of {given} points are drawn: of those at the same place, one.")
        });
        frame::end(svg, &entries, remark.as_slice())
    }
}

impl Series {
    /// Draws it; how many points show, and how many there were.
    fn draw(&self, svg: &mut String, x: &Mapping, y: &Mapping) -> (u64, u64) {
        let finite = |point: &&Point| point.x.is_finite() && point.y.is_finite();
        let place = |point: &Point| (x.at(point.x), y.at(point.y));
        let counts = match self.marks {
            Marks::Dots | Marks::Triangles | Marks::Crosses => {
                let all: Vec<_> = self.points.iter().filter(finite).map(place).collect();
                let kept = thin::dots(&all);
                draw_path(svg, self, kept.iter().map(|at| self.marks.at(*at)));
                (kept.len() as u64, all.len() as u64)
            }
            Marks::Line | Marks::Dashes => {
                let runs = self.points.split(|point| !finite(&point));
                let runs = runs.map(|run| run.iter().map(place).collect::<Vec<_>>());
                draw_path(svg, self, runs.map(|run| polyline(&thin::line(&run))));
                // A line looks the same with fewer points, so nobody needs to be told.
                (0, 0)
            }
        };
        for point in self.points.iter().filter(finite) {
            if let Some(title) = &point.title {
                let (x, y) = (pixels(x.at(point.x)), pixels(y.at(point.y)));
                let title = escape(title);
                let _ = write!(
                    svg,
                    "<circle class=\"hit\" cx=\"{x}\" cy=\"{y}\" r=\"5\"><title>{title}</title>\
                     </circle>"
                );
            }
        }
        counts
    }

    fn entry(&self) -> Entry {
        let swatch = match self.marks {
            Marks::Dots => Swatch::Dot,
            Marks::Triangles => Swatch::Triangle,
            Marks::Crosses => Swatch::Cross,
            Marks::Line => Swatch::Line,
            Marks::Dashes => Swatch::Dashes,
        };
        Entry { name: self.name.clone(), colour: self.colour, swatch }
    }
}

impl Marks {
    fn class(self) -> &'static str {
        match self {
            Marks::Dots => "dots",
            Marks::Triangles => "triangles",
            Marks::Crosses => "crosses",
            Marks::Line => "curve",
            Marks::Dashes => "curve dashed",
        }
    }

    /// One mark as a part of a path.
    fn at(self, (x, y): (f64, f64)) -> String {
        match self {
            Marks::Dots => format!("M{} {}h.01", pixels(x), pixels(y)),
            Marks::Triangles => format!("M{} {}h6l-3-6z", pixels(x - 3.0), pixels(y + 3.0)),
            Marks::Crosses => {
                format!("M{} {}l5 5m0-5l-5 5", pixels(x - 2.5), pixels(y - 2.5))
            }
            Marks::Line | Marks::Dashes => polyline(&[(x, y)]),
        }
    }
}

fn draw_path(svg: &mut String, series: &Series, parts: impl Iterator<Item = String>) {
    let path: String = parts.collect();
    if path.is_empty() {
        return;
    }
    let paint = if series.marks == Marks::Triangles { "fill" } else { "stroke" };
    let (class, colour) = (series.marks.class(), escape(series.colour));
    let title = escape(&series.name);
    let _ = write!(
        svg,
        "<path class=\"{class}\" d=\"{path}\" style=\"{paint}:{colour}\"><title>{title}</title>\
         </path>"
    );
}

fn polyline(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (place, (x, y)) in points.iter().enumerate() {
        let command = if place == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", pixels(*x), pixels(*y));
    }
    if points.len() == 1 {
        path.push_str("h.01");
    }
    path
}
