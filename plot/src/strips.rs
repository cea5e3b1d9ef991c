//! Rows of states over time: who led, who was down.

use std::fmt::Write as _;

use super::{
    Axis, Backdrop, Entry,
    frame::{self, LEFT, RIGHT, TOP, UNDER},
    markup::{escape, pixels},
    scale::Mapping,
};

/// Height of a row, and of the gap after it, in pixels.
const ROW: f64 = 22.0;
const GAP: f64 = 6.0;
/// Width of a character of a label, in pixels, rounded up.
const CHARACTER: f64 = 7.0;

#[derive(Clone, Debug)]
pub struct Strips {
    /// What it shows, for those who do not see it.
    pub title: String,
    pub x: Axis,
    pub backdrop: Backdrop,
    /// What a segment can be.
    pub states: Vec<Entry>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub struct Row {
    /// A short one: there is room for some eight characters.
    pub label: String,
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub from: f64,
    pub to: f64,
    /// Its place in [`Strips::states`].
    pub state: usize,
    /// Written into it where there is room.
    pub label: String,
    /// The colour of that writing.
    pub ink: super::Colour,
    /// What is said of it when one points at it.
    pub title: String,
}

impl Strips {
    pub fn figure(&self) -> String {
        let rows = self.rows.len().max(1) as f64;
        let (top, bottom) = (TOP, TOP + rows * (ROW + GAP) + GAP);
        let ends = self.rows.iter().flat_map(|row| &row.segments);
        let ends = ends.flat_map(|segment| [segment.from, segment.to]);
        let x = Mapping::new(&self.x, ends, (LEFT, RIGHT));
        let mut svg = frame::begin(&self.title, bottom + UNDER);
        frame::horizontal(&mut svg, &self.x, &x, (top, bottom));
        let row_top = |place: usize| top + GAP + place as f64 * (ROW + GAP);
        for (place, row) in self.rows.iter().enumerate() {
            let row_top = row_top(place);
            let _ = write!(
                svg,
                "<text class=\"value\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                pixels(LEFT - 8.0),
                pixels(row_top + ROW / 2.0 + 4.0),
                escape(&row.label)
            );
            for segment in &row.segments {
                self.draw(&mut svg, segment, &x, row_top);
            }
        }
        self.backdrop.draw_lines(&mut svg, &x, (top, bottom));
        for (place, row) in self.rows.iter().enumerate() {
            for segment in &row.segments {
                self.write(&mut svg, segment, &x, row_top(place));
            }
        }
        let entries: Vec<_> = self.states.iter().chain(&self.backdrop.legend).collect();
        frame::end(svg, &entries, &[])
    }

    fn draw(&self, svg: &mut String, segment: &Segment, x: &Mapping, top: f64) {
        let Some(state) = self.states.get(segment.state) else { return };
        let (left, right) = (x.at(segment.from), x.at(segment.to));
        let width = (right - left).max(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" style=\"fill:{}\">\
             <title>{}</title></rect>",
            pixels(left),
            pixels(top),
            pixels(width),
            pixels(ROW),
            escape(state.colour),
            escape(&segment.title)
        );
    }

    /// After the lines, so that none goes through a word.
    fn write(&self, svg: &mut String, segment: &Segment, x: &Mapping, top: f64) {
        let Some(state) = self.states.get(segment.state) else { return };
        let (left, width) = (x.at(segment.from), x.at(segment.to) - x.at(segment.from));
        let room = segment.label.chars().count() as f64 * CHARACTER + 8.0;
        if segment.label.is_empty() || width < room {
            return;
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" class=\"over\" style=\"fill:{};stroke:{}\">{}</text>",
            pixels(left + 4.0),
            pixels(top + ROW / 2.0 + 4.0),
            escape(segment.ink),
            escape(state.colour),
            escape(&segment.label)
        );
    }
}
