//! What was broken: bands behind the plots, and a table.

use std::fmt::Write as _;

use orrery_plot::{
    Backdrop, Band, Colour, Column, Entry, LANES, Rule, Swatch, Unit, markup::escape, table,
};

use crate::{
    figures::{self, seconds},
    history::{Fault, History},
};

/// What kind of thing was broken. Each has a lane and a colour of its own, as in Jepsen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Process,
    Pause,
    Partition,
    Packet,
    Clock,
    Disk,
    Shrink,
    Grow,
    Leader,
    Compact,
    Defragment,
    Other,
}

impl Family {
    const ALL: [Family; LANES] = [
        Family::Process,
        Family::Pause,
        Family::Partition,
        Family::Packet,
        Family::Clock,
        Family::Disk,
        Family::Shrink,
        Family::Grow,
        Family::Leader,
        Family::Compact,
        Family::Defragment,
        Family::Other,
    ];

    /// By how the words in a fault's name begin; the first family with one of them.
    fn of(name: &str) -> Family {
        let name = name.to_lowercase();
        let words: Vec<_> = name.split(|it: char| !it.is_ascii_alphanumeric()).collect();
        let has = |beginning: &&str| words.iter().any(|word| word.starts_with(*beginning));
        let found = Family::ALL.into_iter().find(|family| family.beginnings().iter().any(&has));
        found.unwrap_or(Family::Other)
    }

    fn beginnings(self) -> &'static [&'static str] {
        match self {
            Family::Process => &["kill", "stop", "power", "crash", "restart"],
            Family::Pause => &["pause"],
            Family::Partition => &[
                "partition",
                "bridge",
                "ring",
                "halves",
                "majorit",
                "way",
                "isolat",
                "flap",
                "peer",
                "client",
            ],
            Family::Packet => &[
                "packet",
                "loss",
                "delay",
                "latency",
                "duplicat",
                "reorder",
                "bandwidth",
                "reset",
                "corrupt",
                "tcp",
                "net",
                "lag",
            ],
            Family::Clock => &["clock", "time", "skew"],
            Family::Disk => &["disk", "file", "eio", "bit", "flip", "truncat", "fsync", "wipe"],
            Family::Shrink => &["shrink", "remove"],
            Family::Grow => &["grow", "add", "promote", "learner", "member", "replace"],
            Family::Leader => &["leader", "transfer"],
            Family::Compact => &["compact"],
            Family::Defragment => &["defrag", "snapshot"],
            Family::Other => &[],
        }
    }

    fn colour(self) -> Colour {
        match self {
            Family::Process => "#E9A4A0",
            Family::Pause => "#A0B1E9",
            Family::Partition => "#E9DCA0",
            Family::Packet => "#D1E8A0",
            Family::Clock => "#A0E9E3",
            Family::Disk => "#99F2E2",
            Family::Grow => "#E9A0E6",
            Family::Shrink => "#ACA0E9",
            Family::Leader => "#E9BD91",
            Family::Compact => "var(--compact)",
            Family::Defragment => "var(--defragment)",
            Family::Other => "#B5B9BE",
        }
    }

    fn lane(self) -> usize {
        Family::ALL.iter().position(|family| *family == self).unwrap_or(LANES - 1)
    }

    /// Is over as soon as it is done: a line, no band.
    fn is_moment(self) -> bool {
        matches!(self, Family::Compact | Family::Defragment)
    }
}

/// The faults of a run behind its plots; its legend names those that there were.
pub(crate) fn backdrop(history: &History) -> Backdrop {
    let mut backdrop = Backdrop::default();
    let mut names: Vec<(Family, Vec<&str>)> = Vec::new();
    for fault in &history.faults {
        let family = Family::of(&fault.name);
        let (from, to) = (seconds(fault.began), seconds(fault.ended.max(fault.began)));
        let title = said(fault);
        if family.is_moment() {
            backdrop.rules.push(Rule { at: from, colour: family.colour(), title });
        } else {
            let (lane, colour) = (family.lane(), family.colour());
            backdrop.bands.push(Band { lane, from, to, colour, title });
        }
        match names.iter_mut().find(|(one, _)| *one == family) {
            Some((_, names)) if names.contains(&fault.name.as_str()) => {}
            Some((_, names)) => names.push(&fault.name),
            None => names.push((family, vec![&fault.name])),
        }
    }
    names.sort_by_key(|(family, _)| *family);
    // Lanes without anything in them would only push the others down into the dots.
    let taken: Vec<_> = names.iter().filter(|(family, _)| !family.is_moment()).collect();
    for band in &mut backdrop.bands {
        let lane = taken.iter().position(|(family, _)| family.lane() == band.lane);
        band.lane = lane.unwrap_or(LANES - 1);
    }
    backdrop.legend = names.iter().map(|(family, names)| entry(*family, names)).collect();
    backdrop
}

fn entry(family: Family, names: &[&str]) -> Entry {
    let swatch = if family.is_moment() { Swatch::Line } else { Swatch::Band };
    Entry { name: names.join(", "), colour: family.colour(), swatch }
}

fn members(fault: &Fault) -> String {
    let members: Vec<_> = fault.members.iter().map(usize::to_string).collect();
    if members.is_empty() { "–".to_owned() } else { members.join(", ") }
}

fn said(fault: &Fault) -> String {
    let recovered = figures::recovery(fault)
        .map_or("not recovered".to_owned(), |it| format!("recovered after {}", show(it)));
    format!(
        "{} (members: {}), {} s to {} s, {recovered}\n{}",
        fault.name,
        members(fault),
        Unit::Time.show(seconds(fault.began)),
        Unit::Time.show(seconds(fault.ended)),
        fault.detail
    )
}

fn show(nanos: u64) -> String {
    Unit::Latency.show(seconds(nanos))
}

pub(super) fn write(html: &mut String, history: &History) {
    html.push_str("<section id=\"faults\"><h2>Faults</h2>\n");
    if history.faults.is_empty() {
        html.push_str("<p>Nothing was broken.</p></section>\n");
        return;
    }
    let recoveries = history.faults.iter().filter_map(figures::recovery);
    if let Some(all) = figures::Quantiles::of(recoveries) {
        let _ = writeln!(
            html,
            "<p>From the end of a fault to the next acknowledged write: p50 {}, max {}.</p>",
            show(all.p50),
            show(all.max)
        );
    }
    let columns = [
        Column::Text("fault"),
        Column::Text("members"),
        Column::Number("from"),
        Column::Number("to"),
        Column::Number("recovered after"),
        Column::Text("what was done"),
        Column::Text("what shows that it took effect"),
    ];
    let rows: Vec<_> = history.faults.iter().map(row).collect();
    table(html, &columns, &rows);
    html.push_str("</section>\n");
}

fn row(fault: &Fault) -> Vec<String> {
    let chip = Family::of(&fault.name).colour();
    let at = |nanos| format!("{:.1} s", seconds(nanos));
    let marks = match (fault.hit_leader, fault.quorum_lives) {
        (true, true) => "<br/><span class=\"soft\">hit the leader</span>",
        (true, false) => "<br/><span class=\"soft\">hit the leader, no quorum</span>",
        (false, false) => "<br/><span class=\"soft\">no quorum</span>",
        (false, true) => "",
    };
    let never = || "<span class=\"violated\">not in time</span>".to_owned();
    let no_evidence = || "<span class=\"unknown\">nothing does</span>".to_owned();
    vec![
        format!(
            "<span class=\"name\"><span class=\"chip\" style=\"background:{chip}\"></span>{}</span>\
             {marks}",
            escape(&fault.name)
        ),
        escape(&members(fault)),
        at(fault.began),
        at(fault.ended),
        figures::recovery(fault).map_or_else(never, show),
        escape(&fault.detail),
        fault.evidence.as_deref().map_or_else(no_evidence, escape),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_the_colour_of_its_family() {
        for (name, family) in [
            ("kill", Family::Process),
            ("power-loss-minority", Family::Process),
            ("pause", Family::Pause),
            ("partition-leader", Family::Partition),
            ("peers-only", Family::Partition),
            ("packet-loss", Family::Packet),
            ("reordering", Family::Packet),
            ("clock-jump", Family::Clock),
            ("disk-full", Family::Disk),
            ("add-learner", Family::Grow),
            ("remove-member", Family::Shrink),
            ("leader-transfer", Family::Leader),
            ("compact", Family::Compact),
            ("defrag", Family::Defragment),
            ("unheard of", Family::Other),
        ] {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }
}
