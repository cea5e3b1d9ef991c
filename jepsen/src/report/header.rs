//! The first screen: which run it was, how it went, how to run it again.

use std::fmt::Write as _;

use orrery_plot::{
    Unit,
    markup::{escape, grouped, shorten},
};

use super::{Links, verdicts};
use crate::{
    check::{Checked, Verdict},
    figures::{self, Counts, Quantiles, operations, seconds},
    history::{History, Kind, Run},
};

/// Characters of a proof on the first screen; all of it stands below.
const GLANCE: usize = 240;

const SECTIONS: [(&str, &str); 8] = [
    ("checkers", "Checkers"),
    ("latency", "Latency"),
    ("throughput", "Throughput"),
    ("members", "Members"),
    ("faults", "Faults"),
    ("errors", "Errors"),
    ("timeline", "Timeline"),
    ("files", "Files"),
];

pub(super) fn write(html: &mut String, history: &History, checked: &[Checked], links: &Links) {
    let run = &history.run;
    let _ = write!(
        html,
        "<h1>{} under {}</h1>\n<p class=\"soft\">{} · {} members · seed {} · {} s · {}</p>\n",
        escape(&run.workload),
        escape(&run.nemesis),
        escape(&run.server),
        run.members,
        run.seed,
        seconds(run.duration).round(),
        escape(&run.began_at)
    );
    banner(html, history, checked);
    facts(html, history);
    let _ = writeln!(html, "<p>Run it again: <code>{}</code></p>", escape(&command(run)));
    html.push_str("<nav class=\"contents\" aria-label=\"Contents\">");
    for (id, name) in SECTIONS.iter().filter(|(id, _)| *id != "files") {
        let _ = write!(html, "<a href=\"#{id}\">{name}</a>");
    }
    html.push_str("</nav>\n<p id=\"files\">Files: ");
    let history = links.history.iter().map(|address| ("history", address.as_str()));
    let others = links.others.iter().map(|(name, address)| (name.as_str(), address.as_str()));
    let all: Vec<_> = history
        .chain(others)
        .map(|(name, address)| format!("<a href=\"{}\">{}</a>", escape(address), escape(name)))
        .collect();
    html.push_str(&if all.is_empty() { "none were kept".to_owned() } else { all.join(" · ") });
    html.push_str("</p>\n");
}

/// The command that does the same again.
fn command(run: &Run) -> String {
    let server = match run.server.starts_with("etcd") {
        true => " --server etcd",
        false => "",
    };
    let Run { workload, nemesis, seed, members, .. } = run;
    format!(
        "jepsen run{server} --workload {workload} --nemesis {nemesis} --seed {seed} \
         --members {members}"
    )
}

fn banner(html: &mut String, history: &History, checked: &[Checked]) {
    let overall = figures::overall(checked);
    let word = verdicts::word(&overall);
    let names = |wanted: &str| {
        let those = checked.iter().filter(|one| verdicts::word(&one.verdict) == wanted);
        those.map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let said = match &overall {
        Verdict::Unknown(_) if checked.is_empty() => "Nothing was proved.".to_owned(),
        Verdict::Valid => format!("All {} checkers found every promise kept.", checked.len()),
        Verdict::Violated(_) => format!("A promise was broken: {}.", names("violated")),
        Verdict::Unknown(_) => format!("Nothing was proved: {}.", names("unknown")),
    };
    let _ = write!(
        html,
        "<section class=\"banner {word}\"><div class=\"verdict {word}\">{}</div>\n<p>{}</p>\n",
        word.to_uppercase(),
        escape(&said)
    );
    let first = checked.iter().find(|one| verdicts::word(&one.verdict) == word);
    let reason = verdicts::reason(&overall).filter(|_| word != "valid");
    if let Some(reason) = first.and_then(|one| verdicts::reason(&one.verdict)).or(reason) {
        let _ = writeln!(html, "<pre>{}</pre>", escape(&shorten(reason, GLANCE)));
        html.push_str("<p><a href=\"#checkers\">All of the proof</a></p>\n");
    }
    let ending = &history.ending;
    let ends = ending.panics.iter().chain(&ending.ended_alone);
    let ends: Vec<_> = ends.map(|(member, line)| format!("member {member}: {line}")).collect();
    if !ends.is_empty() {
        let _ = writeln!(html, "<pre>{}</pre>", escape(&ends.join("\n")));
    }
    html.push_str("</section>\n");
}

fn facts(html: &mut String, history: &History) {
    let operations = operations(history);
    let counts = Counts::of(&operations);
    let ok = operations.iter().filter(|operation| operation.kind == Kind::Ok);
    let latency = Quantiles::of(ok.map(figures::Operation::took));
    let show = |nanos| Unit::Latency.show(seconds(nanos));
    let rate = counts.ok as f64 / figures::working_seconds(history);
    let recoveries: Vec<_> = history.faults.iter().map(figures::recovery).collect();
    let slowest = recoveries.iter().flatten().max().map_or("–".to_owned(), |it| show(*it));
    let never = recoveries.iter().filter(|recovery| recovery.is_none()).count();
    let healed = history.ending.healed_in.map_or("not in time".to_owned(), show);
    let facts = [
        (
            "operations",
            grouped(counts.all()),
            match history.calls.len() {
                0 => String::new(),
                calls => format!("{} requests", grouped(calls as u64)),
            },
        ),
        ("ok", grouped(counts.ok), format!("{} /s", Unit::Count.show(rate))),
        ("fail · info", format!("{} · {}", grouped(counts.fail), grouped(counts.info)), {
            "certain · unknown".to_owned()
        }),
        (
            "latency p50",
            latency.map_or("–".to_owned(), |it| show(it.p50)),
            latency.map_or(String::new(), |it| format!("p99 {}", show(it.p99))),
        ),
        ("faults", history.faults.len().to_string(), {
            let leaders = history.faults.iter().filter(|fault| fault.hit_leader).count();
            format!("{leaders} hit the leader")
        }),
        ("leaders lost", figures::leaders_lost(history).to_string(), String::new()),
        (
            "slowest recovery",
            slowest,
            match never {
                0 => String::new(),
                never => format!("{never} not in time"),
            },
        ),
        ("healed in", healed, String::new()),
    ];
    html.push_str("<dl class=\"facts\">\n");
    for (name, value, more) in facts {
        let _ = writeln!(
            html,
            "<div><dt>{name}</dt><dd>{} <small>{}</small></dd></div>",
            escape(&value),
            escape(&more)
        );
    }
    html.push_str("</dl>\n");
}
