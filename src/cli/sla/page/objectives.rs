//! What was promised, what Cosmos DB publishes, and what was measured.

use orrery_plot::{
    Column, Unit,
    markup::{escape, grouped},
    table,
};

use super::{latency, per_cent};
use crate::{
    cli::sla::{
        probe::Act,
        summary::{Row, Summary},
    },
    types::Level,
};

/// A line of the table: what is measured, what Cosmos DB publishes for accounts with one write
/// region and several regions, and how it is found in a summary.
struct Objective {
    name: &'static str,
    published: &'static str,
    measured: fn(&Summary) -> Option<String>,
}

/// Published: the reliability guide and the service level agreement of Azure Cosmos DB for NoSQL,
/// and its page of consistency levels.
const OBJECTIVES: [Objective; 8] = [
    Objective {
        name: "Availability of reads, any level (by minutes)",
        published: "99.999 % (by hours)",
        measured: |summary| worst(summary, |row| matches!(row.act, Act::Read(_))),
    },
    Objective {
        name: "Availability of strong reads (by minutes)",
        published: "99.999 % (by hours)",
        measured: |summary| worst(summary, |row| row.act == Act::Read(Level::Strong)),
    },
    Objective {
        name: "Availability of writes (by minutes)",
        published: "99.99 % (by hours)",
        measured: |summary| worst(summary, |row| row.act == Act::Write),
    },
    Objective {
        name: "Longest time without a write, of all faults (RTO)",
        published: "up to an hour or more",
        measured: |summary| longest(summary, Act::Write),
    },
    Objective {
        name: "Acknowledged writes lost (RPO)",
        published: "none at level strong; else up to 15 min of them",
        measured: |summary| Some(grouped(summary.run.lost)),
    },
    Objective {
        name: "P99 of prefix reads in the client's region",
        published: "below 10 ms",
        measured: |summary| slowest(summary, Act::Read(Level::Prefix)),
    },
    Objective {
        name: "P99 of bounded reads in the client's region",
        published: "below 10 ms",
        measured: |summary| slowest(summary, Act::Read(Level::Bounded)),
    },
    Objective {
        name: "Reads that kept the promise of their level",
        published: "100 %",
        measured: |summary| {
            let all = summary.consistency.iter().map(|level| level.per_cent());
            Some(per_cent(all.fold(100.0, f64::min)))
        },
    },
];

pub(super) fn write(html: &mut String, summary: &Summary, beside: Option<&Summary>) {
    html.push_str(
        "<h2>Objectives</h2>\n<p class=\"soft\">Of clients in regions that were not lost. The \
         column of Cosmos DB is what it publishes, a promise to refund; the others were \
         measured here.</p>\n",
    );
    let measured = |objective: &Objective, summary: &Summary| {
        (objective.measured)(summary).unwrap_or("–".to_owned())
    };
    let rows: Vec<Vec<String>> = OBJECTIVES
        .iter()
        .map(|objective| {
            let mut row = vec![objective.name.to_owned(), measured(objective, summary)];
            row.extend(beside.map(|beside| {
                format!("{} ({})", measured(objective, beside), escape(&beside.run.server))
            }));
            row.push(objective.published.to_owned());
            row
        })
        .collect();
    let mut columns = vec![Column::Text("objective"), Column::Number("measured")];
    columns.extend(beside.map(|_| Column::Number("beside it")));
    columns.push(Column::Text("Cosmos DB publishes"));
    table(html, &columns, &rows);
}

/// The least availability of the acts, of all that survived.
fn worst(summary: &Summary, is_meant: fn(&Row) -> bool) -> Option<String> {
    let rows = summary.rows.iter().filter(|row| row.region.is_none() && is_meant(row));
    let least = rows.map(|row| row.availability_minutes).reduce(f64::min)?;
    Some(per_cent(least))
}

fn longest(summary: &Summary, act: Act) -> Option<String> {
    let gaps = summary.faults.iter().flat_map(|effect| &effect.longest_gap);
    let longest = gaps.filter(|(its, _)| *its == act).map(|(_, gap)| *gap).reduce(f64::max)?;
    Some(Unit::Latency.show(longest))
}

/// The worst P99 of any region.
fn slowest(summary: &Summary, act: Act) -> Option<String> {
    let rows = summary.rows.iter().filter(|row| row.region.is_some() && row.act == act);
    rows.filter_map(|row| row.p99).max().map(|p99| latency(Some(p99)))
}
