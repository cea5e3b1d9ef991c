//! The text of `/metrics`, in Prometheus's older format and in OpenMetrics, with the same names in
//! both: the library writes OpenMetrics, in which each counter's name ends in `_total`, and some of
//! etcd's do not.

use std::collections::HashSet;

/// Counters that etcd named otherwise.
const NOT_TOTAL: &[&str] = &[
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_success",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_learner_promote_failures",
    "etcd_server_learner_promote_successes",
];

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Classic,
    OpenMetrics,
}

impl Format {
    /// As the scraper asks for it.
    pub(super) fn accepted(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Classic,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Format::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
        }
    }

    /// From what the library writes.
    pub(super) fn page(self, written: &str) -> String {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let counters: HashSet<&str> = written
            .lines()
            .filter(|line| is_counter(line))
            .filter_map(|line| line.split(' ').nth(2))
            .collect();
        let mut page = String::with_capacity(written.len() + counters.len() * 2 * "_total".len());
        for line in written.lines() {
            if line == "# EOF" && self == Format::Classic {
                continue;
            }
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                    let (name, rest) = self.counter(name, rest);
                    page += &format!("# {what} {name} {rest}");
                }
                (Some("#"), ..) => page += line,
                _ => page += &sample(line),
            }
            page.push('\n');
        }
        page
    }

    /// Name and description of a counter.
    fn counter<'a>(self, name: &str, rest: &'a str) -> (String, &'a str) {
        match (NOT_TOTAL.contains(&name), self) {
            (false, Format::Classic) => (format!("{name}_total"), rest),
            (true, Format::OpenMetrics) if rest == "counter" => (name.to_owned(), "unknown"),
            (true, _) | (false, Format::OpenMetrics) => (name.to_owned(), rest),
        }
    }
}

fn sample(line: &str) -> String {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    if let Some(bare) = name.strip_suffix("_total").filter(|bare| NOT_TOTAL.contains(bare)) {
        return format!("{bare}{}", &line[name.len()..]);
    }
    let Some((before, rest)) = line.split_once("le=\"").filter(|_| name.ends_with("_bucket"))
    else {
        return line.to_owned();
    };
    let bound = rest.split_once('"').and_then(|(bound, after)| Some((bound.parse().ok()?, after)));
    match bound {
        Some((bound, after)) if f64::is_finite(bound) => {
            format!("{before}le=\"{}\"{after}", in_go(bound))
        }
        Some(_) | None => line.to_owned(),
    }
}

/// A number as Go prints it: buckets are found by the text of their bound.
fn in_go(number: f64) -> String {
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (number, text) in [
            (1.0, "1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.024, "1.024"),
            (52.4288, "52.4288"),
            (524_288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (8_388_608.0, "8.388608e+06"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (819_200.0, "819200"),
        ] {
            assert_eq!(in_go(number), text);
        }
    }

    const WRITTEN: &str = "# HELP a_b Help.\n# TYPE a_b counter\na_b_total{x=\"y z\"} 1\n\
        # HELP etcd_server_health_success H.\n# TYPE etcd_server_health_success counter\n\
        etcd_server_health_success_total 2\n# HELP h H.\n# TYPE h histogram\n\
        h_bucket{le=\"1.0\",op=\"Put\"} 3\nh_bucket{le=\"+Inf\"} 4\n# EOF\n";

    #[test]
    fn the_older_format_has_whole_names() {
        let expected = "# HELP a_b_total Help.\n# TYPE a_b_total counter\na_b_total{x=\"y z\"} 1\n\
            # HELP etcd_server_health_success H.\n# TYPE etcd_server_health_success counter\n\
            etcd_server_health_success 2\n# HELP h H.\n# TYPE h histogram\n\
            h_bucket{le=\"1\",op=\"Put\"} 3\nh_bucket{le=\"+Inf\"} 4\n";
        assert_eq!(Format::Classic.page(WRITTEN), expected);
    }

    #[test]
    fn openmetrics_has_the_same_samples() {
        let samples = |page: String| -> Vec<String> {
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        let page = Format::OpenMetrics.page(WRITTEN);
        assert!(page.contains("# TYPE etcd_server_health_success unknown\n"), "{page}");
        assert!(page.contains("# TYPE a_b counter\n") && page.ends_with("# EOF\n"), "{page}");
        assert_eq!(samples(page), samples(Format::Classic.page(WRITTEN)));
    }
}
