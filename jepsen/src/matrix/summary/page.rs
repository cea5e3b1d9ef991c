//! The index of a matrix's reports as an HTML page.

use std::{collections::BTreeSet, fmt::Write as _};

use orrery_plot::{
    Axis, Bars, Column, Entry, Group, PALETTE, Scale, Swatch, Unit,
    markup::{escape, grouped, shorten},
    page, table,
};

use super::{Cell, Compared, Recovery, Standing, Tally, compared, sorted};

/// Bars of the comparison with etcd; the table has all.
const MOST_BARS: usize = 30;
/// Characters of a reason; the cell's own report has all.
const REASON: usize = 1500;

/// The index of all cells: the verdict, what is not valid, the grid, recovery, every cell.
pub fn index_html(cells: &[Cell]) -> String {
    let ours: Vec<_> = cells.iter().filter(|cell| !cell.is_etcd()).collect();
    let tally = Tally::of(ours.iter().copied());
    let word = tally.gravest().word();
    let said = match tally.gravest() {
        Standing::Valid => "Every cell is valid",
        Standing::Unknown if tally.all() == 0 => "Nothing was run yet",
        Standing::Unknown => "Not everything was proved",
        Standing::Violated => "A promise was broken",
    };
    let sum = |of: fn(&Cell) -> u64| grouped(ours.iter().map(|cell| of(cell)).sum());
    let mut body = String::from("<h1>Fault tests</h1>\n");
    let _ = writeln!(
        body,
        "<section class=\"banner {word}\"><div class=\"verdict {word}\">{said}</div><p>{}. {} \
         operations, {} requests, {} faults, {} leaders lost.</p></section>",
        tally.in_words(),
        sum(|cell| cell.steps.all()),
        sum(|cell| cell.calls),
        sum(|cell| cell.faults.len() as u64),
        sum(|cell| cell.leaders_lost),
    );
    not_valid(&mut body, cells);
    grid(&mut body, &ours);
    recovery(&mut body, cells);
    every_cell(&mut body, cells);
    page(&format!("{word}: fault tests"), &body, "")
}

fn tag(standing: Standing) -> String {
    let word = standing.word();
    format!("<span class=\"tag {word}\">{word}</span>")
}

/// Its name, which leads to its report where there is one.
fn link(cell: &Cell, name: &str) -> String {
    match cell.report.as_str() {
        "" => escape(name),
        address => format!("<a href=\"{}\">{}</a>", escape(address), escape(name)),
    }
}

fn full_name(cell: &Cell) -> String {
    let Cell { server, workload, nemesis, seed, members, .. } = cell;
    format!("{workload} under {nemesis}, seed {seed}, {members} members ({server})")
}

fn not_valid(html: &mut String, cells: &[Cell]) {
    for cell in sorted(cells).into_iter().filter(|cell| cell.verdict != Standing::Valid) {
        let _ = writeln!(html, "<h3>{} {}</h3>", tag(cell.verdict), link(cell, &full_name(cell)));
        let reasons = cell.reasons();
        if reasons.is_empty() {
            html.push_str("<p>Nothing was checked.</p>\n");
        }
        for (checker, word, reason) in reasons {
            let reason = escape(&shorten(reason, REASON));
            let _ = writeln!(html, "<pre>{} ({word}): {reason}</pre>", escape(checker));
        }
    }
}

/// Workloads down, nemeses across; a mark for each cell.
fn grid(html: &mut String, ours: &[&Cell]) {
    let workloads: BTreeSet<_> = ours.iter().map(|cell| cell.workload.as_str()).collect();
    let nemeses: BTreeSet<_> = ours.iter().map(|cell| cell.nemesis.as_str()).collect();
    if workloads.is_empty() {
        return;
    }
    html.push_str("<h2>Workloads and nemeses</h2>\n<div class=\"wide\"><table class=\"grid\">");
    html.push_str("<thead><tr><th></th>");
    for nemesis in &nemeses {
        let _ = write!(html, "<th scope=\"col\"><span>{}</span></th>", escape(nemesis));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for workload in workloads {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(workload));
        for nemesis in &nemeses {
            html.push_str("<td>");
            let those = ours.iter().filter(|it| it.workload == workload && it.nemesis == *nemesis);
            for cell in those {
                html.push_str(&mark(cell));
            }
            html.push_str("</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

/// A sign in the colour of the verdict, which says more when one points at it.
fn mark(cell: &Cell) -> String {
    let (word, sign) = match cell.verdict {
        Standing::Valid => ("valid", "✓"),
        Standing::Unknown => ("unknown", "?"),
        Standing::Violated => ("violated", "✗"),
    };
    let title = escape(&format!("{word}: {}", full_name(cell)));
    let sign = link(cell, sign);
    format!("<span class=\"tag {word}\" title=\"{title}\">{sign}</span>")
}

fn recovery(html: &mut String, cells: &[Cell]) {
    let compared = compared(cells);
    if compared.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Recovery</h2>\n<p class=\"soft\">From the end of a fault to the next acknowledged \
         write; etcd's under the same workload, nemesis and seed.</p>\n",
    );
    let median = |recovery: Option<Recovery>| recovery.and_then(|it| it.p50);
    let both = compared.iter().filter(|one| median(one.ours).and(median(one.etcd)).is_some());
    let groups = both.take(MOST_BARS).map(|one| Group {
        name: format!("{} · {} · {}", one.cell.workload, one.fault, one.cell.seed),
        values: vec![median(one.ours), median(one.etcd)],
    });
    let groups: Vec<_> = groups.collect();
    if !groups.is_empty() {
        let entry = |name: &str, colour| {
            let name = name.to_owned();
            Entry { name, colour, swatch: Swatch::Area }
        };
        let bars = Bars {
            title: "Median recovery time per cell and fault, beside etcd's".to_owned(),
            axis: Axis::fitted("median recovery", Scale::Linear, Unit::Latency),
            series: vec![entry("orrery", PALETTE[0]), entry("etcd", PALETTE[7])],
            reference: Some(1),
            groups,
        };
        html.push_str(&bars.figure());
    }
    let columns = [
        Column::Text("workload"),
        Column::Text("nemesis"),
        Column::Number("members"),
        Column::Number("seed"),
        Column::Text("fault"),
        Column::Number("times"),
        Column::Number("p50"),
        Column::Number("max"),
        Column::Number("etcd p50"),
        Column::Number("etcd max"),
    ];
    let rows: Vec<_> = compared.iter().map(recovery_row).collect();
    table(html, &columns, &rows);
}

fn recovery_row(one: &Compared<'_>) -> Vec<String> {
    let median = |one: Option<Recovery>| match one.and_then(|it| it.p50) {
        Some(seconds) => Unit::Latency.show(seconds),
        None => "–".to_owned(),
    };
    let greatest = |one: Option<Recovery>| match one {
        Some(Recovery { never: 1.., .. }) => "<span class=\"violated\">not in time</span>".into(),
        Some(Recovery { max: Some(seconds), .. }) => Unit::Latency.show(seconds),
        Some(Recovery { max: None, .. }) | None => "–".to_owned(),
    };
    vec![
        link(one.cell, &one.cell.workload),
        escape(&one.cell.nemesis),
        one.cell.members.to_string(),
        one.cell.seed.to_string(),
        escape(one.fault),
        one.ours.map_or(0, |it| it.times).to_string(),
        median(one.ours),
        greatest(one.ours),
        median(one.etcd),
        greatest(one.etcd),
    ]
}

fn every_cell(html: &mut String, cells: &[Cell]) {
    html.push_str("<h2>Cells</h2>\n");
    let columns = [
        Column::Text("verdict"),
        Column::Text("workload"),
        Column::Text("nemesis"),
        Column::Text("server"),
        Column::Number("members"),
        Column::Number("seed"),
        Column::Number("ok"),
        Column::Number("fail"),
        Column::Number("info"),
        Column::Number("leaders lost"),
        Column::Number("faults"),
        Column::Number("p50"),
        Column::Number("p99"),
        Column::Number("ok/s"),
        Column::Text("when"),
    ];
    let rows: Vec<_> = sorted(cells).into_iter().map(row).collect();
    table(html, &columns, &rows);
}

fn row(cell: &Cell) -> Vec<String> {
    let ms = |value: Option<f64>| {
        value.map_or("–".to_owned(), |milliseconds| Unit::Latency.show(milliseconds / 1e3))
    };
    let when: String = cell.began_at.chars().take(10).collect();
    vec![
        tag(cell.verdict),
        link(cell, &cell.workload),
        escape(&cell.nemesis),
        escape(&cell.server),
        cell.members.to_string(),
        cell.seed.to_string(),
        grouped(cell.steps.ok),
        grouped(cell.steps.fail),
        grouped(cell.steps.info),
        cell.leaders_lost.to_string(),
        cell.faults.len().to_string(),
        ms(cell.p50_ms),
        ms(cell.p99_ms),
        format!("{:.0}", cell.throughput),
        format!("<span class=\"date\">{}</span>", escape(&when)),
    ]
}
