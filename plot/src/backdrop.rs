//! What lies behind the plots of a run: bands while something was broken, lines where something was
//! done.

use std::fmt::Write as _;

use super::{
    Colour, Entry,
    markup::{escape, pixels},
    scale::Mapping,
};

/// Bands are this many to the height of a plot, as in Jepsen, so that they can be told apart where
/// several things are broken at once.
pub const LANES: usize = 12;
/// A band is never narrower, in pixels, else short faults would not be seen.
const LEAST_WIDTH: f64 = 2.5;

/// The same behind every plot of a run.
#[derive(Clone, Debug, Default)]
pub struct Backdrop {
    pub bands: Vec<Band>,
    pub rules: Vec<Rule>,
    pub legend: Vec<Entry>,
}

/// Something lasted, from the value `from` of the horizontal axis to the value `to`.
#[derive(Clone, Debug)]
pub struct Band {
    /// Its place from the top; one beyond the last begins at the top again.
    pub lane: usize,
    pub from: f64,
    pub to: f64,
    pub colour: Colour,
    /// What is said of it when one points at it.
    pub title: String,
}

/// Something happened.
#[derive(Clone, Debug)]
pub struct Rule {
    pub at: f64,
    pub colour: Colour,
    pub title: String,
}

impl Backdrop {
    /// The same without its legend, for a plot that stands under one that has it.
    pub fn unexplained(&self) -> Backdrop {
        Backdrop { legend: Vec::new(), ..self.clone() }
    }

    /// Bands and lines behind the rectangle from `top` to `bottom`.
    pub(crate) fn draw(&self, svg: &mut String, x: &Mapping, (top, bottom): (f64, f64)) {
        let finite = |band: &&Band| band.from.is_finite() && band.to.is_finite();
        for band in self.bands.iter().filter(finite) {
            draw_tint(svg, band, x, (top, bottom));
        }
        for band in self.bands.iter().filter(finite) {
            draw_lane(svg, band, x, (top, bottom));
        }
        self.draw_rules(svg, x, (top, bottom));
    }

    /// Only where things began and ended: for plots whose colours must stay what they are.
    pub(crate) fn draw_lines(&self, svg: &mut String, x: &Mapping, (top, bottom): (f64, f64)) {
        for band in self.bands.iter().filter(|band| band.from.is_finite() && band.to.is_finite()) {
            let (left, width) = place(band, x);
            draw_edges(svg, band, (left, left + width), (top, bottom));
        }
        self.draw_rules(svg, x, (top, bottom));
    }

    fn draw_rules(&self, svg: &mut String, x: &Mapping, (top, bottom): (f64, f64)) {
        for rule in self.rules.iter().filter(|rule| rule.at.is_finite()) {
            let at = pixels(x.at(rule.at));
            let (top, bottom) = (pixels(top), pixels(bottom));
            let (colour, title) = (escape(rule.colour), escape(&rule.title));
            let _ = write!(
                svg,
                "<path class=\"edge\" d=\"M{at} {top}V{bottom}\" style=\"stroke:{colour}\">\
                 <title>{title}</title></path>"
            );
        }
    }
}

/// The whole height, faintly, with a line where it began and where it ended.
fn draw_tint(svg: &mut String, band: &Band, x: &Mapping, (top, bottom): (f64, f64)) {
    let (left, width) = place(band, x);
    let _ = write!(
        svg,
        "<rect class=\"tint\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" style=\"fill:{}\"/>",
        pixels(left),
        pixels(top),
        pixels(width),
        pixels(bottom - top),
        escape(band.colour)
    );
    draw_edges(svg, band, (left, left + width), (top, bottom));
}

fn draw_edges(svg: &mut String, band: &Band, (from, to): (f64, f64), (top, bottom): (f64, f64)) {
    let (from, to, top, bottom) = (pixels(from), pixels(to), pixels(top), pixels(bottom));
    let colour = escape(band.colour);
    let _ = write!(
        svg,
        "<path class=\"edge\" d=\"M{from} {top}V{bottom}M{to} {top}V{bottom}\" \
         style=\"stroke:{colour}\"/>"
    );
}

fn draw_lane(svg: &mut String, band: &Band, x: &Mapping, (top, bottom): (f64, f64)) {
    let (left, width) = place(band, x);
    let height = (bottom - top) / LANES as f64;
    let lane = top + height * (band.lane % LANES) as f64;
    let _ = write!(
        svg,
        "<rect class=\"band\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
         style=\"fill:{}\"><title>{}</title></rect>",
        pixels(left),
        pixels(lane),
        pixels(width),
        pixels(height),
        escape(band.colour),
        escape(&band.title)
    );
}

fn place(band: &Band, x: &Mapping) -> (f64, f64) {
    let (left, right) = (x.at(band.from), x.at(band.to));
    (left, (right - left).max(LEAST_WIDTH))
}
