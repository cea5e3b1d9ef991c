//! Bars beside each other, with their ratio to a reference.

use std::fmt::Write as _;

use super::{
    Axis, Entry,
    frame::{self, RIGHT, TOP, UNDER},
    markup::{escape, pixels, shorten},
    scale::Mapping,
};

/// Height of a bar, and of the gap between groups, in pixels.
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
/// Left of the bars, for the names of the groups.
const NAMES: f64 = 310.0;
/// Right of the longest bar, for its value and ratio.
const VALUES: f64 = 130.0;
/// Characters that fit into [`NAMES`].
const NAME_CHARACTERS: usize = 46;

/// Groups of bars: one group a row of a table, one bar a series.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What it shows, for those who do not see it.
    pub title: String,
    pub axis: Axis,
    pub series: Vec<Entry>,
    /// The series that the others are compared with: each says how many times as much it is.
    pub reference: Option<usize>,
    pub groups: Vec<Group>,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    /// One for each series, `None` where there is none.
    pub values: Vec<Option<f64>>,
}

impl Bars {
    pub fn figure(&self) -> String {
        let group_height = self.series.len().max(1) as f64 * BAR + GAP;
        let (top, bottom) = (TOP, TOP + self.groups.len().max(1) as f64 * group_height + GAP);
        let values = self.groups.iter().flat_map(|group| &group.values);
        let x = Mapping::new(&self.axis, values.flatten().copied(), (NAMES, RIGHT - VALUES));
        let mut svg = frame::begin(&self.title, bottom + UNDER);
        frame::horizontal(&mut svg, &self.axis, &x, (top, bottom));
        for (place, group) in self.groups.iter().enumerate() {
            self.draw(&mut svg, group, &x, top + GAP + place as f64 * group_height);
        }
        let entries: Vec<_> = self.series.iter().collect();
        frame::end(svg, &entries, &[])
    }

    fn draw(&self, svg: &mut String, group: &Group, x: &Mapping, top: f64) {
        let middle = top + self.series.len() as f64 * BAR / 2.0;
        let _ = write!(
            svg,
            "<text class=\"value\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title>\
             </text>",
            pixels(NAMES - 8.0),
            pixels(middle + 4.0),
            escape(&shorten(&group.name, NAME_CHARACTERS)),
            escape(&group.name)
        );
        for (place, entry) in self.series.iter().enumerate() {
            let value = group.values.get(place).copied().flatten().filter(|it| it.is_finite());
            let Some(value) = value else { continue };
            let bar_top = top + place as f64 * BAR;
            let width = (x.at(value) - NAMES).max(1.0);
            let shown = self.axis.unit.show(value);
            let label = self
                .ratio(group, place)
                .map_or(shown.clone(), |ratio| format!("{shown} ({ratio})"));
            let _ = write!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" style=\"fill:{}\"><title>{}: \
                 {label}</title></rect><text class=\"value\" x=\"{}\" y=\"{}\">{label}</text>",
                pixels(NAMES),
                pixels(bar_top),
                pixels(width),
                pixels(BAR - 2.0),
                escape(entry.colour),
                escape(&entry.name),
                pixels(NAMES + width + 6.0),
                pixels(bar_top + BAR - 4.0),
                label = escape(&label),
            );
        }
    }

    /// "0.8×": how many times the reference a bar is.
    fn ratio(&self, group: &Group, place: usize) -> Option<String> {
        let reference = self.reference.filter(|reference| *reference != place)?;
        let of = group.values.get(reference).copied().flatten().filter(|it| *it > 0.0)?;
        let ratio = group.values.get(place).copied().flatten()? / of;
        match ratio.is_finite() {
            true if ratio >= 100.0 => Some(format!("{ratio:.0}×")),
            true => Some(format!("{ratio:.2}×")),
            false => None,
        }
    }
}
