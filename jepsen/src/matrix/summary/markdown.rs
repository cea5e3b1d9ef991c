//! The text of `RESULTS.md`.

use std::{collections::BTreeSet, fmt::Write as _};

use orrery_plot::markup::{grouped, shorten};

use super::{Cell, Compared, Recovery, Standing, Tally, compared, sorted};

/// Lines of a reason, and characters of each of them; the rest is in the cell's own file.
const REASON_LINES: usize = 20;
const REASON_LINE: usize = 300;

/// The summary of all cells as Markdown.
pub fn results_markdown(cells: &[Cell]) -> String {
    let mut text = String::from(
        "# Results of the fault tests\n\nWritten by `make jepsen-matrix` from the cells in \
         `results/`; not meant to be edited.\n\n",
    );
    summary(&mut text, cells);
    not_valid(&mut text, cells);
    grid(&mut text, cells);
    recovery(&mut text, cells);
    every_cell(&mut text, cells);
    text
}

fn summary(text: &mut String, cells: &[Cell]) {
    let ours: Vec<_> = cells.iter().filter(|cell| !cell.is_etcd()).collect();
    let tally = Tally::of(ours.iter().copied());
    let _ = writeln!(
        text,
        "**{}.** An unknown verdict is no pass.\n\n| | |\n|---|---|",
        tally.in_words()
    );
    let sum = |of: fn(&Cell) -> u64| grouped(ours.iter().map(|cell| of(cell)).sum());
    let kinds = [sum(|it| it.steps.ok), sum(|it| it.steps.fail), sum(|it| it.steps.info)];
    let five = ours.iter().filter(|cell| cell.members >= 5).count();
    let seconds: f64 = ours.iter().map(|cell| cell.duration_s).sum();
    let servers: BTreeSet<_> = cells.iter().map(|cell| plain(&cell.server)).collect();
    let commits: BTreeSet<_> = ours.iter().map(|cell| plain(&cell.commit)).collect();
    let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
    let rows = [
        ("Operations", sum(|cell| cell.steps.all())),
        ("of which ok / fail / info", kinds.join(" / ")),
        ("Requests checked", sum(|cell| cell.calls)),
        ("Faults", sum(|cell| cell.faults.len() as u64)),
        ("Leaders lost", sum(|cell| cell.leaders_lost)),
        ("Under load", format!("{:.1} h", seconds / 3600.0)),
        ("Cells of five members or more", five.to_string()),
        ("Cells of etcd, as a reference", (cells.len() - ours.len()).to_string()),
        ("Servers", list(servers)),
        ("Commits", list(commits)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
}

fn not_valid(text: &mut String, cells: &[Cell]) {
    let bad = |cell: &&Cell| cell.verdict != Standing::Valid;
    let bad: Vec<_> = sorted(cells).into_iter().filter(bad).collect();
    if bad.is_empty() {
        return;
    }
    text.push_str("\n## Not valid\n");
    for cell in bad {
        let _ = writeln!(
            text,
            "\n### {}: {} under {}, seed {}, {} members ({})\n",
            cell.verdict.word(),
            plain(&cell.workload),
            plain(&cell.nemesis),
            cell.seed,
            cell.members,
            plain(&cell.server)
        );
        let reasons = cell.reasons();
        if reasons.is_empty() {
            text.push_str("Nothing was checked.\n");
        }
        for (checker, word, reason) in reasons {
            let _ = writeln!(text, "{} ({word}):\n", plain(checker));
            // Indented by four: whatever stands in it, it stays text.
            for line in reason.lines().take(REASON_LINES) {
                let line = line.replace(|it: char| it.is_control(), " ");
                let _ = writeln!(text, "    {}", shorten(&line, REASON_LINE));
            }
            if reason.lines().count() > REASON_LINES {
                text.push_str("    …\n");
            }
            text.push('\n');
        }
    }
}

/// Workloads down, nemeses across: how many of the cells are valid.
fn grid(text: &mut String, cells: &[Cell]) {
    let ours = || cells.iter().filter(|cell| !cell.is_etcd());
    let workloads: BTreeSet<_> = ours().map(|cell| cell.workload.as_str()).collect();
    let nemeses: BTreeSet<_> = ours().map(|cell| cell.nemesis.as_str()).collect();
    text.push_str("\n## Workloads and nemeses\n\nValid of all cells.\n\n| |");
    for nemesis in &nemeses {
        let _ = write!(text, " {} |", plain(nemesis));
    }
    let _ = writeln!(text, "\n|---|{}", ":---:|".repeat(nemeses.len()));
    for workload in workloads {
        let _ = write!(text, "| {} |", plain(workload));
        for nemesis in &nemeses {
            let those = ours().filter(|cell| cell.workload == workload && cell.nemesis == *nemesis);
            let tally = Tally::of(those);
            let _ = match (tally.all(), tally.valid) {
                (0, _) => write!(text, " |"),
                (all, valid) if all == valid => write!(text, " {valid} of {all} |"),
                (all, valid) => write!(text, " **{valid} of {all}** |"),
            };
        }
        text.push('\n');
    }
}

fn every_cell(text: &mut String, cells: &[Cell]) {
    text.push_str(
        "\n## Cells\n\n| verdict | workload | nemesis | members | seed | server | s | ok | fail | \
         info | requests | leaders lost | faults | p50 ms | p99 ms | ok/s | when | commit |\n\
         |---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n",
    );
    for cell in sorted(cells) {
        let verdict = match cell.verdict {
            Standing::Valid => "valid".to_owned(),
            bad => format!("**{}**", bad.word()),
        };
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.2}"));
        let when: String = cell.began_at.chars().take(10).collect();
        let commit: String = cell.commit.chars().take(10).collect();
        let row = [
            verdict,
            plain(&cell.workload),
            plain(&cell.nemesis),
            cell.members.to_string(),
            cell.seed.to_string(),
            plain(&cell.server),
            format!("{:.0}", cell.duration_s),
            grouped(cell.steps.ok),
            grouped(cell.steps.fail),
            grouped(cell.steps.info),
            grouped(cell.calls),
            cell.leaders_lost.to_string(),
            cell.faults.len().to_string(),
            ms(cell.p50_ms),
            ms(cell.p99_ms),
            format!("{:.0}", cell.throughput),
            plain(&when),
            plain(&commit),
        ];
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

fn recovery(text: &mut String, cells: &[Cell]) {
    let compared = compared(cells);
    if compared.is_empty() {
        return;
    }
    text.push_str(
        "\n## Recovery\n\nFrom the end of a fault to the next answer, and the longest time in which \
         nobody anywhere was answered, in seconds; etcd's under the same workload, nemesis and \
         seed where it was run.\n\n\
         | workload | nemesis | members | seed | fault | times | p50 | max | silence | not in time \
         | etcd p50 | etcd max | etcd silence | etcd not in time |\n\
         |---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for Compared { cell, fault, ours, etcd } in compared {
        let show = |one: Option<Recovery>, of: fn(Recovery) -> Option<f64>| {
            one.and_then(of).map_or("–".to_owned(), |seconds| format!("{seconds:.3}"))
        };
        let never = |one: Option<Recovery>| match one {
            None | Some(Recovery { never: 0, .. }) => String::new(),
            Some(Recovery { never, .. }) => format!("**{never}**"),
        };
        let row = [
            plain(&cell.workload),
            plain(&cell.nemesis),
            cell.members.to_string(),
            cell.seed.to_string(),
            plain(fault),
            ours.map_or(0, |it| it.times).to_string(),
            show(ours, |it| it.p50),
            show(ours, |it| it.max),
            show(ours, |it| Some(it.outage)),
            never(ours),
            show(etcd, |it| it.p50),
            show(etcd, |it| it.max),
            show(etcd, |it| Some(it.outage)),
            never(etcd),
        ];
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

/// A name as it may stand in a table: no new line, cell, link, element or emphasis begins in it.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in shorten(text, 80).chars() {
        match character {
            '|' | '<' | '[' | '*' | '`' | '\\' | '&' | '_' => escaped.extend(['\\', character]),
            hidden if hidden.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}
