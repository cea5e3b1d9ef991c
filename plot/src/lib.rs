//! Pages of HTML with plots as inline SVG, for the reports of runs and benches: dots and lines over time, bands where
//! something was broken, strips of states, bars with ratios.
//!
//! Each plot writes itself as a `<figure>` with its legend, and needs [`STYLE`] once on the page,
//! which has the colours for light and dark; nothing else is loaded from anywhere. What it writes
//! is well-formed XML. No value makes it fail: what is not a number is left out.

mod backdrop;
mod bars;
mod chart;
mod frame;
pub mod markup;
mod page;
mod scale;
mod strips;
mod thin;
pub mod wellformed;

pub use backdrop::{Backdrop, Band, LANES, Rule};
pub use bars::{Bars, Group};
pub use chart::{Chart, Marks, Point, Series};
pub use page::{Column, page, table};
pub use scale::{Axis, Scale, Unit};
pub use strips::{Row, Segment, Strips};

/// A colour in CSS: "#81BFFC", or a variable of [`STYLE`].
pub type Colour = &'static str;

/// Colours that differ also for those who see few, for series without a colour of their own.
pub const PALETTE: [Colour; 8] = [
    "var(--series-1)",
    "var(--series-2)",
    "var(--series-3)",
    "var(--series-4)",
    "var(--series-5)",
    "var(--series-6)",
    "var(--series-7)",
    "var(--series-8)",
];

/// The style of all plots. The page's own style may use its variables.
pub const STYLE: &str = include_str!("style.css");

/// A name in a legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub colour: Colour,
    pub swatch: Swatch,
}

/// How a legend shows a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swatch {
    Dot,
    Triangle,
    Cross,
    Line,
    Dashes,
    /// An area as strong as it is drawn.
    Area,
    /// A translucent band.
    Band,
}

impl Axis {
    /// Seconds since something began, from 0 to `end`.
    pub fn time(end: f64) -> Axis {
        Axis {
            label: "time (s)".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Time,
            range: Some((0.0, end)),
        }
    }

    /// As much as the values need.
    pub fn fitted(label: &str, scale: Scale, unit: Unit) -> Axis {
        Axis { label: label.to_owned(), scale, unit, range: None }
    }
}

#[cfg(test)]
mod tests;
