//! The report as one HTML file that needs nothing else.

mod objectives;
mod plots;

use std::fmt::Write as _;

use orrery_plot::{
    Column, Unit,
    markup::{escape, grouped},
    table,
};

use super::{
    figures::NANOS,
    probe::Act,
    run::History,
    summary::{HOUR, Summary},
};

/// The report of a run; `beside` is one of another server under the same faults.
pub(crate) fn html(history: &History, beside: Option<&History>) -> String {
    let summary = Summary::of(history);
    let beside = beside.map(|beside| (Summary::of(beside), beside));
    let mut body = String::new();
    header(&mut body, &summary);
    objectives::write(&mut body, &summary, beside.as_ref().map(|(summary, _)| summary));
    plots::write(&mut body, history);
    if let Some((summary, history)) = &beside {
        let server = escape(&summary.run.server);
        let _ = writeln!(body, "<h2>{server}, under the same faults</h2>");
        plots::write(&mut body, history);
    }
    round_trips(&mut body, &summary);
    rows(&mut body, &summary);
    faults(&mut body, &summary);
    violations(&mut body, &summary);
    how(&mut body, &summary);
    orrery_plot::page(&title(&summary), &body, "")
}

fn title(summary: &Summary) -> String {
    let regions: Vec<&str> = summary.run.regions.iter().map(|it| it.name.as_str()).collect();
    format!("Availability of {} in {}", summary.run.server, regions.join(", "))
}

fn header(html: &mut String, summary: &Summary) {
    let run = &summary.run;
    let _ = writeln!(html, "<h1>{}</h1>", escape(&title(summary)));
    let requests: u64 = summary
        .rows
        .iter()
        .filter(|row| row.region.is_some())
        .map(|row| row.tally.total() + row.tally.excluded)
        .sum();
    let _ = writeln!(
        html,
        "<p class=\"soft\">{} · {} requests in {} · {} of each kind a second from each region · {} \
         faults</p>",
        escape(&began(run.began_unix_ms)),
        grouped(requests),
        Unit::Latency.show(run.seconds.round()),
        Unit::Count.show(run.rate),
        run.faults.len()
    );
    let (class, word) = match summary.is_kept() {
        true => ("valid", "KEPT"),
        false => ("violated", "BROKEN"),
    };
    let violations: u64 = summary.consistency.iter().map(|level| level.violations).sum();
    let reads: u64 = summary.consistency.iter().map(|level| level.reads).sum();
    let _ = writeln!(
        html,
        "<section class=\"banner {class}\"><div class=\"verdict {class}\">{word}</div>\n\
         <p>{} of {} reads broke the promise of their level; {} acknowledged writes were lost{}.\
         </p></section>",
        grouped(violations),
        grouped(reads),
        grouped(run.lost),
        match run.unread {
            0 => String::new(),
            unread => format!("; {} keys could not be read at the end", grouped(unread)),
        }
    );
}

fn began(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Which region is how far from which.
fn round_trips(html: &mut String, summary: &Summary) {
    let run = &summary.run;
    if run.round_trips_ms.is_empty() {
        return;
    }
    html.push_str("<h2>Round trips between regions</h2>\n<div class=\"wide\"><table><thead><tr>");
    html.push_str("<th scope=\"col\">ms</th>");
    for region in &run.regions {
        let _ = write!(html, "<th scope=\"col\" class=\"number\">{}</th>", escape(&region.name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (region, times) in run.regions.iter().zip(&run.round_trips_ms) {
        let priority = match region.failover_priority {
            Some(0) => " (write region)".to_owned(),
            Some(priority) => format!(" (priority {priority})"),
            None => String::new(),
        };
        let _ = write!(html, "<tr><th scope=\"row\">{}{priority}</th>", escape(&region.name));
        for time in times {
            let shown = if *time > 0.0 { Unit::Count.show(*time) } else { "–".to_owned() };
            let _ = write!(html, "<td class=\"number\">{shown}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

fn rows(html: &mut String, summary: &Summary) {
    html.push_str("<h2>Requests</h2>\n");
    let columns = [
        Column::Text("from"),
        Column::Text("request"),
        Column::Number("succeeded"),
        Column::Number("failed"),
        Column::Number("availability, by minutes"),
        Column::Number("by hours"),
        Column::Number("failures at most (95 %)"),
        Column::Number("p50"),
        Column::Number("p99"),
        Column::Number("max"),
    ];
    let cells: Vec<Vec<String>> = summary
        .rows
        .iter()
        .map(|row| {
            vec![
                row.region.as_deref().map_or("<em>all that survived</em>".to_owned(), escape),
                row.act.to_string(),
                grouped(row.tally.done),
                grouped(row.tally.failed),
                per_cent(row.availability_minutes),
                per_cent(row.availability_hours),
                row.failures_at_most.map_or("–".to_owned(), |rate| format!("{rate:.4} %")),
                latency(row.p50),
                latency(row.p99),
                latency(row.max),
            ]
        })
        .collect();
    table(html, &columns, &cells);
    if summary.run.seconds < HOUR as f64 {
        html.push_str(
            "<p class=\"soft\">The run was shorter than the hour that agreements count \
             by: its one hour is as long as the run.</p>\n",
        );
    }
}

/// Shown to a thousandth, and never rounded up to 100.
pub(crate) fn per_cent(value: f64) -> String {
    let floor = (value * 1000.0).floor() / 1000.0;
    if floor >= 100.0 { "100 %".to_owned() } else { format!("{floor:.3} %") }
}

pub(crate) fn latency(nanos: Option<u64>) -> String {
    nanos.map_or("–".to_owned(), |nanos| Unit::Latency.show(nanos as f64 / NANOS as f64))
}

fn faults(html: &mut String, summary: &Summary) {
    html.push_str("<h2>Faults</h2>\n");
    let columns = [
        Column::Number("at (s)"),
        Column::Text("fault"),
        Column::Number("lasted"),
        Column::Text("longest time without a success, of clients elsewhere"),
    ];
    let cells: Vec<Vec<String>> = summary
        .faults
        .iter()
        .map(|effect| {
            let fault = &effect.fault;
            let gap = |(act, gap): &(Act, f64)| format!("{act} {}", Unit::Latency.show(*gap));
            let gaps: Vec<String> = effect.longest_gap.iter().map(gap).collect();
            vec![
                Unit::Time.show(fault.from),
                escape(&format!("{} {}", fault.what, fault.target)),
                Unit::Latency.show(fault.until - fault.from),
                gaps.join(" · "),
            ]
        })
        .collect();
    if cells.is_empty() {
        html.push_str("<p>Nothing was broken.</p>\n");
        return;
    }
    gaps(html, summary);
    html.push_str("<details><summary>Each of them</summary>\n");
    table(html, &columns, &cells);
    html.push_str("</details>\n");
}

fn gaps(html: &mut String, summary: &Summary) {
    let columns = [
        Column::Text("fault"),
        Column::Text("longest time without a"),
        Column::Number("times"),
        Column::Number("p50"),
        Column::Number("max"),
    ];
    let cells: Vec<Vec<String>> = summary
        .gaps
        .iter()
        .map(|gaps| {
            vec![
                escape(&gaps.what),
                gaps.act.to_string(),
                gaps.faults.to_string(),
                Unit::Latency.show(gaps.p50),
                Unit::Latency.show(gaps.max),
            ]
        })
        .collect();
    table(html, &columns, &cells);
}

fn violations(html: &mut String, summary: &Summary) {
    if summary.violations.is_empty() {
        return;
    }
    html.push_str("<h2>Broken promises</h2>\n");
    let columns = [
        Column::Number("at (s)"),
        Column::Text("from"),
        Column::Text("level"),
        Column::Text("what was read"),
    ];
    let region = |place: usize| summary.run.regions.get(place).map(|it| escape(&it.name));
    let cells: Vec<Vec<String>> = summary
        .violations
        .iter()
        .map(|violation| {
            vec![
                Unit::Time.show(violation.sent as f64 / NANOS as f64),
                region(violation.region).unwrap_or_default(),
                violation.level.name().to_owned(),
                escape(&violation.text),
            ]
        })
        .collect();
    table(html, &columns, &cells);
}

/// What the numbers mean, for those who want to object.
fn how(html: &mut String, summary: &Summary) {
    let bound = Unit::Latency.show(summary.run.max_staleness_ms as f64 / 1000.0);
    let _ = writeln!(
        html,
        "<h2>How it was counted</h2>\n<p>Each region has clients that ask its own members, in \
         an open loop: a request is sent when it is due, its latency counts from then, and \
         nothing is retried. It has failed if it got an error or took more than 5 s; what is \
         refused for what it asked does not count. Availability is 100 % less the mean error \
         rate of all minutes (hours), as Cosmos DB's agreement has it. P99 is the nearest \
         rank. Writers write counters to keys of their own, and every read is checked against \
         what was acknowledged before: bounded reads asked for {bound} at most. All regions \
         are on one machine and share its processors and disk; between them is the delay of \
         the table above, not a network.</p>"
    );
}

#[cfg(test)]
mod tests;
