//! What plots have in common: the picture with its text alternative, axes with a grid, the legend.

use std::fmt::Write as _;

use super::{
    Axis, Entry, Swatch,
    markup::{escape, pixels},
    scale::Mapping,
};

/// Width of every plot in its own units; on the page it is as wide as there is room.
pub(crate) const WIDTH: f64 = 1100.0;
/// Left of the plot, for the labels of the vertical axis.
pub(crate) const LEFT: f64 = 72.0;
pub(crate) const RIGHT: f64 = WIDTH - 20.0;
pub(crate) const TOP: f64 = 8.0;
/// Under the plot, for the labels of the horizontal axis.
pub(crate) const UNDER: f64 = 40.0;

/// The pixels between which the plot lies, from top to bottom.
pub(crate) type Height = (f64, f64);

/// Opens a figure of `height`; [`end`] closes it.
pub(crate) fn begin(title: &str, height: f64) -> String {
    let (title, width, height) = (escape(title), pixels(WIDTH), pixels(height));
    format!(
        "<figure class=\"plot\"><svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">"
    )
}

/// Closes the picture and the figure, with a legend and remarks under it.
pub(crate) fn end(mut svg: String, entries: &[&Entry], remarks: &[String]) -> String {
    svg.push_str("</svg><figcaption>");
    if !entries.is_empty() {
        svg.push_str(&legend(entries));
    }
    for remark in remarks {
        let _ = write!(svg, "<p class=\"remark\">{}</p>", escape(remark));
    }
    svg.push_str("</figcaption></figure>\n");
    svg
}

fn legend(entries: &[&Entry]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for entry in entries {
        let (swatch, name) = (swatch(entry), escape(&entry.name));
        let _ = write!(html, "<li>{swatch}<span>{name}</span></li>");
    }
    html.push_str("</ul>");
    html
}

fn swatch(entry: &Entry) -> String {
    let colour = escape(entry.colour);
    let (class, paint, path) = match entry.swatch {
        Swatch::Dot => ("dots", "stroke", "M9 6h.01"),
        Swatch::Triangle => ("triangles", "fill", "M5 10h8l-4-8z"),
        Swatch::Cross => ("crosses", "stroke", "M6 3l6 6m0-6l-6 6"),
        Swatch::Line => ("curve", "stroke", "M1 6h16"),
        Swatch::Dashes => ("curve dashed", "stroke", "M1 6h16"),
        Swatch::Area => ("area", "fill", "M1 1h16v10h-16z"),
        Swatch::Band => ("band", "fill", "M1 1h16v10h-16z"),
    };
    let wide = if entry.swatch == Swatch::Dot { ";stroke-width:7" } else { "" };
    format!(
        "<svg viewBox=\"0 0 18 12\" aria-hidden=\"true\"><path class=\"{class}\" d=\"{path}\" \
         style=\"{paint}:{colour}{wide}\"/></svg>"
    )
}

/// The horizontal axis with its labels; `lines` says where its grid goes.
pub(crate) fn horizontal(svg: &mut String, axis: &Axis, x: &Mapping, (top, bottom): Height) {
    for tick in x.ticks(12) {
        let at = pixels(x.at(tick));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at} {}V{}\"/><text x=\"{at}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text>",
            pixels(top),
            pixels(bottom),
            pixels(bottom + 16.0),
            escape(&axis.unit.show(tick))
        );
    }
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{} {y}H{}\"/><text x=\"{}\" y=\"{}\" \
         text-anchor=\"middle\">{}</text>",
        pixels(x.start),
        pixels(x.end),
        pixels((x.start + x.end) / 2.0),
        pixels(bottom + 33.0),
        escape(&axis.label),
        y = pixels(bottom),
    );
}

/// The vertical axis with its grid and labels.
pub(crate) fn vertical(svg: &mut String, axis: &Axis, y: &Mapping, (top, bottom): Height) {
    let wanted = ((bottom - top) / 40.0).clamp(2.0, 10.0) as usize;
    for tick in y.ticks(wanted) {
        let at = y.at(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{} {at}H{}\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{}</text>",
            pixels(LEFT),
            pixels(RIGHT),
            pixels(LEFT - 6.0),
            pixels(at + 4.0),
            escape(&axis.unit.show(tick)),
            at = pixels(at),
        );
    }
    let middle = pixels((top + bottom) / 2.0);
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{} {}V{}\"/><text transform=\"translate(11 {middle}) \
         rotate(-90)\" text-anchor=\"middle\">{}</text>",
        pixels(LEFT),
        pixels(top),
        pixels(bottom),
        escape(&axis.label)
    );
}
