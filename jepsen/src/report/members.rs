//! What each member was over time: leader, follower, learner, away; how far behind, how large.

use std::{collections::BTreeMap, fmt::Write as _};

use orrery_plot::{
    Axis, Backdrop, Chart, Colour, Entry, Marks, PALETTE, Point, Row, Scale, Segment, Series,
    Strips, Swatch, Unit,
};

use crate::{
    figures::{self, seconds},
    history::{Ending, History, MemberIndex, MemberState, Nanos, Sample},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leader,
    Follower,
    Learner,
    Away,
}

impl Role {
    const ALL: [(Role, &str, Colour); 4] = [
        (Role::Leader, "leader (with its term)", "var(--leader)"),
        (Role::Follower, "follower", "var(--follower)"),
        (Role::Learner, "learner", "var(--learner)"),
        (Role::Away, "no answer", "var(--down)"),
    ];

    fn of(state: Option<&MemberState>) -> Role {
        match state {
            None => Role::Away,
            Some(state) if state.leads => Role::Leader,
            Some(state) if state.is_learner => Role::Learner,
            Some(_) => Role::Follower,
        }
    }

    fn place(self) -> usize {
        Role::ALL.iter().position(|(role, ..)| *role == self).unwrap_or(0)
    }
}

/// A stretch of equal samples.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    role: Role,
    term: Option<u64>,
    from: Nanos,
    to: Nanos,
}

pub(super) fn write(html: &mut String, history: &History, backdrop: &Backdrop) {
    html.push_str("<section id=\"members\"><h2>Members</h2>\n");
    hashes(html, &history.ending);
    let members = by_member(history);
    if members.is_empty() {
        html.push_str("<p>Nobody looked at the members.</p></section>\n");
        return;
    }
    let end = figures::end(history);
    let rows = members.iter().map(|(member, samples)| Row {
        label: format!("member {member}"),
        segments: stretches(samples, end).iter().map(segment).collect(),
    });
    let states = Role::ALL.map(|(_, name, colour)| Entry {
        name: name.to_owned(),
        colour,
        swatch: Swatch::Area,
    });
    let strips = Strips {
        title: "Role of each member over time".to_owned(),
        x: Axis::time(seconds(end)),
        backdrop: backdrop.clone(),
        states: states.to_vec(),
        rows: rows.collect(),
    };
    html.push_str(&strips.figure());
    let chart = |title: &str, label, unit, series| Chart {
        title: title.to_owned(),
        height: 150.0,
        x: Axis::time(seconds(end)),
        y: Axis::fitted(label, Scale::Linear, unit),
        backdrop: backdrop.unexplained(),
        series,
    };
    html.push_str("<h3>Entries that a member had still to apply, behind the furthest</h3>\n");
    let behind = curves(&members, &behind(&history.samples));
    html.push_str(
        &chart("Entries behind the furthest member", "behind", Unit::Count, behind).figure(),
    );
    html.push_str("<h3>Size of the store</h3>\n");
    let size = curves(&members, &|state, _| state.db_size as f64);
    html.push_str(&chart("Size of each member's store", "size", Unit::Bytes, size).figure());
    html.push_str("</section>\n");
}

/// Whether all had the same in the end; a checker says what follows from it.
fn hashes(html: &mut String, ending: &Ending) {
    if ending.hashes.is_empty() {
        return;
    }
    let mut alike: BTreeMap<(u32, i64), Vec<String>> = BTreeMap::new();
    for (member, hash) in &ending.hashes {
        alike.entry(*hash).or_default().push(member.to_string());
    }
    let said: Vec<_> = alike
        .iter()
        .map(|((hash, compacted), members)| {
            let members = members.join(", ");
            format!("<code>{hash:08x}</code> (compacted at {compacted}) at {members}")
        })
        .collect();
    let (revision, said) = (ending.hash_revision, said.join("; "));
    let _ = writeln!(html, "<p>Hash of the store at revision {revision}: {said}.</p>");
}

fn by_member(history: &History) -> BTreeMap<MemberIndex, Vec<&Sample>> {
    let mut members: BTreeMap<MemberIndex, Vec<&Sample>> = BTreeMap::new();
    for sample in &history.samples {
        members.entry(sample.member).or_default().push(sample);
    }
    for samples in members.values_mut() {
        samples.sort_by_key(|sample| sample.at);
    }
    members
}

/// A sample holds until the next one of its member.
fn stretches(samples: &[&Sample], end: Nanos) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for (place, sample) in samples.iter().enumerate() {
        let role = Role::of(sample.state.as_ref());
        let term = sample.state.as_ref().map(|state| state.term);
        let (from, to) = (sample.at, samples.get(place + 1).map_or(end, |next| next.at));
        match stretches.last_mut() {
            Some(last) if last.role == role && last.term == term => last.to = to,
            _ => stretches.push(Stretch { role, term, from, to }),
        }
    }
    stretches
}

fn segment(stretch: &Stretch) -> Segment {
    let (from, to) = (seconds(stretch.from), seconds(stretch.to));
    let (_, name, _) = Role::ALL[stretch.role.place()];
    let name = name.split(" (").next().unwrap_or(name);
    let term = stretch.term.map(|term| format!("term {term}")).unwrap_or_default();
    Segment {
        from,
        to,
        state: stretch.role.place(),
        label: if stretch.role == Role::Leader { term.clone() } else { String::new() },
        ink: "var(--on-strong)",
        title: format!("{name} {term} from {from:.1} s to {to:.1} s"),
    }
}

/// How far behind the furthest that was known by then.
fn behind(samples: &[Sample]) -> impl Fn(&MemberState, Nanos) -> f64 {
    let mut applied: Vec<_> = samples
        .iter()
        .filter_map(|sample| sample.state.as_ref().map(|state| (sample.at, state.applied)))
        .collect();
    applied.sort_unstable();
    let mut furthest = 0;
    for (_, index) in &mut applied {
        furthest = furthest.max(*index);
        *index = furthest;
    }
    move |state, at| {
        let known = applied.partition_point(|(when, _)| *when <= at);
        let furthest = known.checked_sub(1).map_or(0, |place| applied[place].1);
        furthest.saturating_sub(state.applied) as f64
    }
}

fn curves(
    members: &BTreeMap<MemberIndex, Vec<&Sample>>,
    value: &dyn Fn(&MemberState, Nanos) -> f64,
) -> Vec<Series> {
    let point = |sample: &&Sample| {
        let y = sample.state.as_ref().map_or(f64::NAN, |state| value(state, sample.at));
        Point::new(seconds(sample.at), y)
    };
    let series = |(place, (member, samples)): (usize, (&MemberIndex, &Vec<&Sample>))| Series {
        name: format!("member {member}"),
        colour: PALETTE[place % PALETTE.len()],
        marks: Marks::Line,
        points: samples.iter().map(point).collect(),
    };
    members.iter().enumerate().map(series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_are_one_stretch_until_the_next_differs() {
        let state = |leads, term| {
            Some(MemberState {
                leads,
                is_learner: false,
                term,
                applied: 1,
                revision: 1,
                db_size: 1,
            })
        };
        let states = [state(false, 1), state(false, 1), None, state(true, 2)];
        let samples: Vec<_> =
            (0..).zip(states).map(|(at, state)| Sample { at: at * 10, member: 0, state }).collect();
        let samples: Vec<_> = samples.iter().collect();
        let stretch = |role, term, from, to| Stretch { role, term, from, to };
        assert_eq!(
            stretches(&samples, 50),
            [
                stretch(Role::Follower, Some(1), 0, 20),
                stretch(Role::Away, None, 20, 30),
                stretch(Role::Leader, Some(2), 30, 50),
            ]
        );
    }
}
